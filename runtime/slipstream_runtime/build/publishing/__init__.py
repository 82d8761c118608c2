"""Places of artifacts: folders, buckets and registries. A half-written artifact is never taken for a whole one."""

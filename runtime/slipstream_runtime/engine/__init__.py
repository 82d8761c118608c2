"""The process of an engine pod: vLLM behind probes, a guarded API and a drain."""

"""Progress of the pod, which the operator shows in the service's status."""

from slipstream_runtime.model_files.progress import Progress


def status(progress: Progress) -> dict[str, int | None]:
    """Return total bytes, present bytes and bytes per second; None if unknown."""
    rate = progress.rate
    return {
        "totalBytes": progress.total,
        "doneBytes": progress.done,
        "bytesPerSecond": None if rate is None else round(rate),
    }

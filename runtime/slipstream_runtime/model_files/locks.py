"""Locks, so that of all pods that share a cache one downloads a model at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from slipstream_runtime import logs
from slipstream_runtime.errors import EngineError
from slipstream_runtime.model_files import records


@contextlib.contextmanager
def held(cache: Path, uri: str) -> Iterator[bool]:
    """Hold the model's lock, and yield whether it is exclusive.

    The kernel or the file server releases the lock when the process ends. On a file system without locks, files may be
    downloaded twice, but are renamed only once they are complete.
    """
    path = cache / "locks" / f"{records.identity(uri)}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o660)
    except OSError as error:
        raise EngineError(
            f"{uri}: the cache of spec.cache.model can't be written: {error.strerror} ({path}). "
            "Free some space, or make the pods' user or group its owner."
        ) from error
    try:
        yield _lock(file, uri)
    finally:
        os.close(file)


def _lock(file: int, uri: str) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logs.event("waiting for another pod's download", uri=uri)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        logs.event("the cache has no file locks", error=str(error))
        return False
    return True

"""Paths of the working tree, the user's cache and the state of each cluster."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "dev" / "cluster" / "go"
MANIFESTS = REPOSITORY / "dev" / "cluster" / "manifests"
MODELS = REPOSITORY / "dev" / "models"
OVERLAY = Path("manifests", "overlays", "local")
"""Overlay of the local cluster, relative to a checkout."""


def cache() -> Path:
    """Binaries and images, shared by all clusters; safe to delete while none is up."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "slipstream"


def state() -> Path:
    """One folder per cluster that is up."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "slipstream"

"""Image and environment of the steps of a ModelBuild, which only some tests need.

Its packages conflict with vLLM's, so it has an environment of its own. The runtime handler mounts that like the other.
"""

from pathlib import Path

from dev import paths
from dev.cluster import images
from dev.cluster.images import Image
from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster
from dev.environments import locked
from dev.errors import DevError

PROFILE = "local"
_LOCK = paths.REPOSITORY / "requirements" / "builder.txt"


def install(cluster: Cluster, *, tree: Path = paths.REPOSITORY) -> Image:
    """Make the environment and the image, and name the image in the profile of the cluster."""
    layout = cluster.layout
    if not layout.builder.exists():
        remedy = f"python -m dev down --name {cluster.name}, then up"
        raise DevError(f"cluster {cluster.name} has no node for builds", remedy=remedy)
    environment = locked.python(_LOCK).parents[1]
    if not layout.builder.is_symlink():
        layout.builder.rmdir()
        layout.builder.symlink_to(environment)
    image = images.builder(tree)
    images.load([image], layout=layout)
    with Kube.of(layout) as kube:
        kube.patch("ServingProfile", None, PROFILE, {"spec": {"images": {"builder": image.name}}})
    return image

"""Programs that every cluster runs from its first second: CoreDNS and Prometheus."""

from collections.abc import Sequence
from functools import partial
from string import Template

from dev import paths, waiting
from dev.cluster.images import Image
from dev.cluster.kube import Kube, documents
from dev.cluster.layout import Layout

DEPLOYMENTS = {"coredns": "kube-system", "prometheus": "monitoring"}


def apply(kube: Kube, *, layout: Layout, images: Sequence[Image]) -> None:
    names = {image.archive.name.partition("-")[0]: image.name for image in images}
    text = "\n---\n".join(
        (paths.MANIFESTS / f"{file}.yaml").read_text() for file in ("cluster", *DEPLOYMENTS)
    )
    # NB: Prometheus' own ${1} must survive, which `safe_substitute` grants.
    filled = Template(text).safe_substitute(names, dns=layout.network.dns)
    kube.apply_all(documents(filled))


def wait(kube: Kube, *, layout: Layout, seconds: float = 90) -> None:
    for name, namespace in DEPLOYMENTS.items():
        waiting.until(
            partial(kube.holds, "Deployment", namespace, name, "Available"),
            seconds=seconds,
            what=f"Deployment {name} becoming Available",
            log=layout.log("kubelet"),
            remedy=f"kubectl -n {namespace} describe pods",
        )

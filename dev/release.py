"""Release of the images: built on a base that a digest names, pushed, and written down by their digests.

`build/release` then holds an overlay with the operator's image, a patch with the images of ServingProfiles, and the
bills of materials.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import click

from dev import containers, display, paths, supply

FOLDER: Final = paths.REPOSITORY / "build" / "release"
OPERATOR: Final = "operator"
FIELDS: Final = {
    "runtime": ("vllm",),
    "runtime-cpu": ("vllmCpu", "simulator"),
    "runtime-onnx-cuda": ("onnx",),
    "router": ("router",),
    "builder": ("builder",),
}
"""Target of the Dockerfile -> fields of `images` in a ServingProfile. The CUDA build of ONNX runs on CPUs, too."""
PUBLISHED: Final = "ghcr.io/slipstream-dev"
"""Registry and organization that the manifests name."""
_DIGEST: Final = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def _pinned(_: click.Context, __: click.Parameter, value: str) -> str:
    if _DIGEST.fullmatch(value) is None:
        raise click.BadParameter(
            f'"{value}" names no digest, so a registry can change it between two builds. Use NAME@sha256:..., which '
            f"`skopeo inspect docker://{containers.BASE}` prints."
        )
    return value


@click.command()
@click.option("--base", required=True, callback=_pinned, help="Base image, by its digest.")
@click.option("--to", default=PUBLISHED, show_default=True, help="Registry and organization.")
@click.option("--tag", required=True, help="Tag of all images, such as 0.1.0.")
@click.option(
    "--image",
    "chosen",
    type=click.Choice([OPERATOR, *FIELDS]),
    multiple=True,
    help="Release this image alone. May be repeated.",
)
@click.option("--plain-http", is_flag=True, help="Push without TLS.")
@click.option("--pull/--no-pull", default=True, help="Pull the base image.")
def main(
    *, base: str, to: str, tag: str, chosen: tuple[str, ...], plain_http: bool, pull: bool
) -> None:
    """Build and push all images, and write what names them by digest to build/release."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    digests = {}
    for target in chosen or (OPERATOR, *FIELDS):
        name = containers.build(
            target, report=display.phase, base=base, name=f"{to}/{target}:{tag}", pull=pull
        )
        digests[target] = containers.push(name, plain_http=plain_http)
        click.echo(f"{to}/{target}@{digests[target]}")
        lock = "runtime-cuda" if target == "runtime" else target
        supply.write_sbom(lock, FOLDER / f"{target}.cdx.json")
    for name, content in files(digests, to=to).items():
        (FOLDER / name).write_text(json.dumps(content, indent=2) + "\n")  # JSON is YAML


def files(digests: Mapping[str, str], *, to: str) -> dict[str, Any]:
    """Return the content of the files that name the images by digest."""
    found: dict[str, Any] = {}
    if OPERATOR in digests:
        image = {"name": f"{PUBLISHED}/{OPERATOR}", "newName": f"{to}/{OPERATOR}"}
        found["kustomization.yaml"] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../../manifests/base"],
            "images": [{**image, "digest": digests[OPERATOR]}],
        }
    images = {
        field: f"{to}/{target}@{digests[target]}"
        for target, fields in FIELDS.items()
        if target in digests
        for field in fields
    }
    if images:
        found["profile.yaml"] = {"spec": {"images": images}}
    return found


if __name__ == "__main__":
    main()

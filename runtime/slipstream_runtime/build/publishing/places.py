"""Place of a recipe's output, by its scheme."""

import re
from pathlib import Path
from typing import Final

from slipstream_runtime import contract
from slipstream_runtime.build.publishing.folders import Folder
from slipstream_runtime.build.publishing.place import Place
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.errors import UnsuitableError

_IMAGE: Final = re.compile(
    r"[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
)
"""Registry, name and tag, as registries allow them."""


def of(recipe: Recipe, *, layer: Path) -> Place:
    """Return the place; `layer` is the file of an image's layer before it is pushed."""
    output = recipe.output
    return at(output.uri, plain_http=output.plain_http, owner=recipe.uid, layer=layer)


def at(uri: str, *, plain_http: bool, owner: str, layer: Path) -> Place:
    """Return the place of a URI; `owner` is the build that writes it."""
    scheme, _, rest = uri.partition("://")
    rest = rest.rstrip("/")
    if scheme == "file":
        if not rest.startswith("/") or rest == "":
            raise UnsuitableError(f'spec.output: "{uri}" is not valid. Use file:///folder/name.')
        return Folder(uri, Path(rest))
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        if not path or ".." in Path(rest).parts:
            raise UnsuitableError(
                f'spec.output: "{uri}" names no folder of a claim. Use pvc://claim/path.'
            )
        return Folder(uri, Path(contract.CLAIMS_DIRECTORY) / claim / path)
    # NB: each library takes time to import, and an image may lack it.
    if scheme == "oci":
        if not _IMAGE.fullmatch(rest):
            raise UnsuitableError(
                f'spec.output: "{uri}" is not valid. Use oci://registry/image:tag, in lower case and without a digest.'
            )
        from slipstream_runtime.build.publishing.images import Image  # noqa: PLC0415

        return Image(uri, rest, plain_http=plain_http, layer=layer)
    from slipstream_runtime.build.publishing.buckets import Bucket  # noqa: PLC0415

    bucket, _, prefix = rest.partition("/")
    if not prefix:
        raise UnsuitableError(
            f'spec.output: "{uri}" has no path. Name the folder of the artifact, such as {uri.rstrip("/")}/my-model.'
        )
    return Bucket(uri, scheme, bucket, prefix, owner=owner)

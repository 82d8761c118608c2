"""Volumes for weights: images, and the credentials of object stores."""

from collections.abc import Sequence
from typing import Any

from slipstream_operator.core import weights
from slipstream_runtime import contract

_CREDENTIALS = "store-credentials"


def image_volumes(uris: Sequence[str]) -> list[dict[str, Any]]:
    """Return an image volume for each oci:// source."""
    return [
        {
            "name": f"image-{index}",
            "image": {"reference": weights.image_reference(uri), "pullPolicy": "IfNotPresent"},
        }
        for index, uri in enumerate(uris)
    ]


def image_mounts(uris: Sequence[str]) -> list[dict[str, Any]]:
    """Return the mounts of the image volumes."""
    return [
        {
            "name": f"image-{index}",
            "mountPath": contract.image_directory(uri),
            "readOnly": True,
        }
        for index, uri in enumerate(uris)
    ]


def credential_volumes(secret: str | None) -> list[dict[str, Any]]:
    """Return the volume of the Secret. It is optional, so that the download reports a missing Secret."""
    if secret is None:
        return []
    return [{"name": _CREDENTIALS, "secret": {"secretName": secret, "optional": True}}]


def credential_mounts(secret: str | None) -> list[dict[str, Any]]:
    """Return the mount of the Secret."""
    if secret is None:
        return []
    return [{"name": _CREDENTIALS, "mountPath": contract.CREDENTIALS_DIRECTORY, "readOnly": True}]

"""Volumes for the model: images, the credentials of object stores, and the chat template."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from slipstream_operator.core import weights
from slipstream_runtime import contract

_CREDENTIALS = "store-credentials"
_CHAT_TEMPLATE = "chat-template"


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


def chat_template_volumes(source: tuple[str, str] | None) -> list[dict[str, Any]]:
    """Return the volume of the ConfigMap's key. It is optional, so that the engine reports a missing one."""
    if source is None:
        return []
    name, key = source
    file = PurePosixPath(contract.CHAT_TEMPLATE_FILE).name
    items = [{"key": key, "path": file}]
    return [{"name": _CHAT_TEMPLATE, "configMap": {"name": name, "items": items, "optional": True}}]


def chat_template_mounts(source: tuple[str, str] | None) -> list[dict[str, Any]]:
    """Return the mount of the ConfigMap's key."""
    if source is None:
        return []
    path = contract.CHAT_TEMPLATE_DIRECTORY
    return [{"name": _CHAT_TEMPLATE, "mountPath": path, "readOnly": True}]

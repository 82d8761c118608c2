"""Statuses of pods as the kubelet writes them."""

from typing import Any


def container(**fields: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "engine", "image": "image/vllm:1", **fields}]}


def with_sidecar(**fields: Any) -> dict[str, Any]:
    """An engine that runs, and a container that a webhook added."""
    (engine,) = container(state={"running": {}})["containerStatuses"]
    return {"containerStatuses": [engine, {"name": "proxy", "image": "proxy:1", **fields}]}


def waiting(reason: str, message: str | None = None) -> dict[str, Any]:
    state = {"reason": reason} | ({} if message is None else {"message": message})
    return {"state": {"waiting": state}}


def ended(code: int, **fields: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **fields}}

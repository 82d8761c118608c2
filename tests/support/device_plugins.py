"""Device plugin for the real kubelet of a local cluster; it lists and allocates devices as the plugin of a GPU does."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dev.cluster.lifecycle import Cluster

VERSION: Final = "v1beta1"
"""Version of the kubelet's API for device plugins, which is also its protobuf package."""
FOLDER: Final = Path("var/lib/kubelet/device-plugins")
"""Folder of the sockets in the kubelet's root. It is independent of the kubelet's --root-dir."""
SOCKET: Final = "plugin.sock"
"""Name of the plugin's own socket."""
SECONDS: Final = 30.0
"""Limit for the kubelet's answer to a registration, and for its open calls when the plugin ends."""
_AUTHORITY: Final = [("grpc.default_authority", "localhost")]
"""Option of the channel: Go's server refuses the path of a socket as the authority."""

_FIELDS: Final[Mapping[str, Sequence[str]]] = {
    "Empty": (),
    "DevicePluginOptions": (),
    "RegisterRequest": ("version", "endpoint", "resource_name"),
    "Device": ("ID", "health"),
    "ListAndWatchResponse": ("devices:Device",),
    "ContainerAllocateRequest": ("devices_ids:",),
    "AllocateRequest": ("container_requests:ContainerAllocateRequest",),
    "ContainerAllocateResponse": (),
    "AllocateResponse": ("container_responses:ContainerAllocateResponse",),
}
"""Fields of each message in the order of their numbers from 1. A colon makes a list, of texts or of the message."""


class Plugin:
    """Plugin whose devices are healthy; it allocates them unless a refusal is set."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.refusal: str | None = None
        """Text of the error that answers each allocation; None if devices are allocated."""
        self._devices = devices
        self._ended = threading.Event()

    def end(self) -> None:
        """End the stream of devices, so that the kubelet takes them for unhealthy."""
        self._ended.set()

    def service(self) -> grpc.GenericRpcHandler:
        """Return the gRPC service that the kubelet calls."""
        one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers = {
            "GetDevicePluginOptions": one(self._options, **_forms("Empty")),
            "ListAndWatch": many(self._watch, **_forms("Empty")),
            "Allocate": one(self._allocate, **_forms("AllocateRequest")),
        }
        return grpc.method_handlers_generic_handler(f"{VERSION}.DevicePlugin", handlers)

    def _options(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return _MESSAGES["DevicePluginOptions"]()

    def _watch(self, _request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        device = _MESSAGES["Device"]
        healthy = [device(ID=name, health="Healthy") for name in self._devices]
        yield _MESSAGES["ListAndWatchResponse"](devices=healthy)
        self._ended.wait()

    def _allocate(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.refusal is not None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        granted = [_MESSAGES["ContainerAllocateResponse"]() for _ in request.container_requests]
        return _MESSAGES["AllocateResponse"](container_responses=granted)


@contextlib.contextmanager
def running(cluster: Cluster, resource: str, *, devices: Sequence[str]) -> Iterator[Plugin]:
    """Register a plugin for the resource with the kubelet; its socket and threads go at the end."""
    (kubelet,) = (part for part in cluster.status().components if part.name == "kubelet")
    folder = Path("/proc", str(kubelet.pid), "root") / FOLDER
    plugin = Plugin(devices)
    with ThreadPoolExecutor(thread_name_prefix="device-plugin") as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((plugin.service(),))
        server.add_insecure_port(f"unix:{folder / SOCKET}")
        try:
            server.start()
            _register(folder, resource)
            yield plugin
        finally:
            plugin.end()
            server.stop(SECONDS).wait()
            (folder / SOCKET).unlink(missing_ok=True)


def _register(folder: Path, resource: str) -> None:
    """Register the plugin; the kubelet connects to its socket before it answers."""
    request = _MESSAGES["RegisterRequest"](version=VERSION, endpoint=SOCKET, resource_name=resource)
    with grpc.insecure_channel(f"unix:{folder / 'kubelet.sock'}", _AUTHORITY) as channel:
        register = channel.unary_unary(
            f"/{VERSION}.Registration/Register",
            request_serializer=_serialized,
            response_deserializer=_MESSAGES["Empty"].FromString,
        )
        register(request, timeout=SECONDS)


def _forms(request: str) -> dict[str, Any]:
    """Return how a call's request is read, and how its response is written."""
    return {
        "request_deserializer": _MESSAGES[request].FromString,
        "response_serializer": _serialized,
    }


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _messages() -> dict[str, Any]:
    """Return the classes of the messages; other fields of the API are optional and keep their defaults."""
    file = descriptor_pb2.FileDescriptorProto(
        name="device_plugin.proto", package=VERSION, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            label, separator, kind = field.partition(":")
            described = message.field.add(name=label, number=number)
            described.label = described.LABEL_REPEATED if separator else described.LABEL_OPTIONAL
            described.type = described.TYPE_MESSAGE if kind else described.TYPE_STRING
            if kind:
                described.type_name = f".{VERSION}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{VERSION}.{name}"))
        for name in _FIELDS
    }


_MESSAGES: Final = _messages()

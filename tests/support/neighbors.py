"""Services that share a router: one has a long stream, while others, their routes and their API keys change."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx

from dev import waiting
from dev.cluster.kube import Kube
from slipstream_runtime import contract
from tests.support import services

SECONDS: Final = 60.0
"""Limit of the time until the router serves a change."""
CHANGES: Final = 4
"""Changes of one round."""
SLOW: Final = {"alpha": "100ms", "coldStart": "1s"}
KEYED: Final = {"mode": "Router", "apiKeys": {"name": "keys"}}


class Stream:
    """One long stream of the service `chat`, read in a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.events = 0
        self.cut: str | None = None
        """Reason for the end of the stream before its client closed it."""
        self.cut_at: float | None = None
        """Time of that end on the monotonic clock."""

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def grows(self) -> None:
        """Wait until it has ten events more."""
        before = self.events

        def grown() -> bool:
            assert self.cut is None, self.cut
            return self.events >= before + 10

        waiting.until(grown, seconds=SECONDS, what="events of the stream")

    def _read(self) -> None:
        body = {
            "model": "chat", "stream": True, "max_tokens": 100_000, "ignore_eos": True,
            "messages": [{"role": "user", "content": "hi"}],
        }  # fmt: skip
        try:
            with (
                httpx.Client(timeout=60) as http,
                http.stream("POST", f"{self._url}/v1/chat/completions", json=body) as answer,
            ):
                self.cut = self._follow(answer)
        except httpx.HTTPError as error:
            self.cut = repr(error)
        if self.cut is not None:
            self.cut_at = time.monotonic()

    def _follow(self, answer: httpx.Response) -> str | None:
        """Count the events; return the reason for the end unless the client wanted it."""
        if answer.status_code != httpx.codes.OK:
            return f"status {answer.status_code}"
        for line in answer.iter_lines():
            if self._stop.is_set():
                return None
            if line:
                if "error" in json.loads(line.removeprefix("data: ")):
                    return line
                self.events += 1
        return "the answer ended"


def write(kube: Kube, namespace: str, name: str, **spec: Any) -> None:
    """Write a service behind the router."""
    wanted = {"routing": {"mode": "Router"}, "simulator": SLOW, **spec}
    kube.apply(services.simulated(namespace, name, fake=False, **wanted))


def start(kube: Kube, namespace: str) -> str:
    """Start the service with the stream and another one; return the router's URL."""
    for name in ("chat", "other"):
        write(kube, namespace, name)
    for name in ("chat", "other"):
        services.ready(kube, namespace, name, timeout=120)
    service = kube.get("Service", namespace, contract.ROUTER_NAME)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def change(kube: Kube, namespace: str, url: str, number: int) -> Iterator[str]:
    """Make the changes of a round, and yield the name of each as soon as the router serves it."""
    first, second = f"first-{number}", f"second-{number}"
    _write_keys(kube, namespace, "keys", first)
    write(kube, namespace, "other", routing=KEYED)
    _until(url, 200, "other", first)
    assert _status(url, "other") == 401
    yield "a service gets API keys"

    _write_keys(kube, namespace, "keys", second)
    _until(url, 200, "other", second)
    _until(url, 401, "other", first)
    yield "API keys change"

    _write_keys(kube, namespace, f"keys-{number}", "its-own")
    keyed = {"mode": "Router", "apiKeys": {"name": f"keys-{number}"}}
    write(kube, namespace, f"more-{number}", replicas=0, routing=keyed)
    _write_route(kube, namespace, number, "chat")
    _until(url, 200, f"public-{number}")
    yield "a service with API keys and a route come"

    if number:
        kube.delete("InferenceService", namespace, f"more-{number - 1}")
        kube.delete("InferenceRoute", namespace, f"route-{number - 1}")
        _until(url, 404, f"public-{number - 1}")
    write(kube, namespace, "other")
    _until(url, 200, "other")
    yield "a service and a route go, and a service loses its API keys"


def router_pods(kube: Kube, namespace: str) -> set[str]:
    """Return the UIDs of the router's pods."""
    return {
        pod["metadata"]["uid"]
        for pod in kube.find("Pod", namespace)
        if pod["metadata"]["name"].startswith(contract.ROUTER_NAME)
    }


def _write_keys(kube: Kube, namespace: str, name: str, *keys: str) -> None:
    data = {"team": base64.b64encode("\n".join(keys).encode()).decode()}
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "data": data,
        }
    )


def _write_route(kube: Kube, namespace: str, number: int, *backends: str) -> None:
    kube.apply(
        {
            "apiVersion": "slipstream.dev/v1alpha1",
            "kind": "InferenceRoute",
            "metadata": {"name": f"route-{number}", "namespace": namespace},
            "spec": {
                "model": f"public-{number}",
                "backends": [{"service": name, "weight": 1} for name in backends],
            },
        }
    )


def _status(url: str, model: str, key: str | None = None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"model": model, "prompt": "hi", "max_tokens": 1}
    return httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=30).status_code


def _until(url: str, status: int, model: str, key: str | None = None) -> None:
    what = f"{status} from {model} with key {key}"
    waiting.until(
        lambda: _status(url, model, key) == status, seconds=SECONDS, what=what, interval=0.2
    )

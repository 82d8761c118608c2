"""A stream of one service lives through changes of other services, routes and API keys of the namespace."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx

from dev import waiting
from dev.cluster.kube import Kube
from slipstream_runtime import contract
from tests.support import services

ROUNDS = 5
SOON = 60.0
SLOW = {"alpha": "100ms", "coldStart": "1s"}
KEYED = {"mode": "Router", "apiKeys": {"name": "keys"}}


def _write(kube: Kube, namespace: str, name: str, **spec: Any) -> None:
    wanted = {"routing": {"mode": "Router"}, "simulator": SLOW, **spec}
    kube.apply(services.simulated(namespace, name, fake=False, **wanted))


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


class Stream:
    """One long stream, read in a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.events: list[str] = []
        self.ended = False
        self._thread = threading.Thread(target=self._read)

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
        before = len(self.events)

        def grown() -> bool:
            assert not self.ended, self.events[-2:]
            return len(self.events) >= before + 10

        waiting.until(grown, seconds=SOON, what="events of the stream")

    def _read(self) -> None:
        body = {
            "model": "chat", "stream": True, "max_tokens": 100_000, "ignore_eos": True,
            "messages": [{"role": "user", "content": "hi"}],
        }  # fmt: skip
        with (
            httpx.Client(timeout=60) as http,
            http.stream("POST", f"{self._url}/v1/chat/completions", json=body) as answer,
        ):
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if self._stop.is_set():
                    return
                if line:
                    self.events.append(line)
                    assert "error" not in json.loads(line.removeprefix("data: ")), line
        self.ended = True


def _status(url: str, model: str, key: str | None = None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"model": model, "prompt": "hi", "max_tokens": 1}
    return httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=30).status_code


def _until(url: str, status: int, model: str, key: str | None = None) -> None:
    what = f"{status} from {model} with key {key}"
    waiting.until(lambda: _status(url, model, key) == status, seconds=SOON, what=what, interval=0.2)


def _url(kube: Kube, namespace: str, name: str) -> str:
    service = kube.get("Service", namespace, name)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def _router_pods(kube: Kube, namespace: str) -> set[str]:
    return {
        pod["metadata"]["uid"]
        for pod in kube.find("Pod", namespace)
        if pod["metadata"]["name"].startswith(contract.ROUTER_NAME)
    }


def test_a_stream_lives_through_twenty_changes_of_its_neighbors(kube: Kube, namespace: str) -> None:
    _write(kube, namespace, "chat")
    _write(kube, namespace, "other")
    for name in ("chat", "other"):
        services.ready(kube, namespace, name, timeout=120)
    url = _url(kube, namespace, contract.ROUTER_NAME)
    before = _router_pods(kube, namespace)
    stream = Stream(url)
    with stream.open():
        for number in range(ROUNDS):
            first, second = f"first-{number}", f"second-{number}"
            _write_keys(kube, namespace, "keys", first)
            _write(kube, namespace, "other", routing=KEYED)
            _until(url, 200, "other", first)
            assert _status(url, "other") == 401
            stream.grows()

            _write_keys(kube, namespace, "keys", second)
            _until(url, 200, "other", second)
            assert _status(url, "other", first) == 401

            _write_keys(kube, namespace, f"keys-{number}", "its-own")
            keyed = {"mode": "Router", "apiKeys": {"name": f"keys-{number}"}}
            _write(kube, namespace, f"more-{number}", replicas=0, routing=keyed)
            _write_route(kube, namespace, number, "chat")
            _until(url, 200, f"public-{number}")
            if number:
                kube.delete("InferenceService", namespace, f"more-{number - 1}")
                kube.delete("InferenceRoute", namespace, f"route-{number - 1}")
                _until(url, 404, f"public-{number - 1}")
            _write(kube, namespace, "other")
            _until(url, 200, "other")
        stream.grows()
    assert _router_pods(kube, namespace) == before

"""`make demo`: one object becomes a served model, and its replicas follow the load, on a local cluster."""

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from rich.console import Console
from rich.live import Live
from rich.syntax import Syntax
from rich.table import Table

from dev import display
from dev.cluster import install
from dev.cluster.kube import Kube, Object, Refused, condition, is_true
from dev.cluster.lifecycle import Cluster
from dev.errors import DevError
from dev.models import heldout
from dev.patience import Patience, follow
from slipstream_runtime.evaluate import load, traffic

NAMESPACE: Final = "demo"
SAMPLE: Final = Path("manifests/samples/chat.yaml")
PATIENCE_SECONDS: Final = 300.0
"""Without any change of the service, its pods or the load for this long, the demo gives up."""
CLIENTS: Final = 48
MOST_CLIENTS: Final = 384
STEP_SECONDS: Final = 60.0
"""After this long without a decision to scale up, as many clients again join the load."""
ROWS: Final = 12
LOOK: Final = (
    'eval "$(.venv/bin/python -m dev env)"; '
    f"kubectl describe infer,pods -n {NAMESPACE}; then run make demo again"
)

console = Console()


def main() -> int:
    """Run the demo; 1 with a plain sentence if it can't go on."""
    parser = argparse.ArgumentParser(prog="dev.demo")
    parser.add_argument("--name", default="slipstream", help="name of the cluster")
    name = parser.parse_args().name
    try:
        run(name)
    except KeyboardInterrupt:
        console.print("\nStopped. The cluster stays up; `make cluster-down` removes it.")
        return 130
    except (DevError, Refused, httpx.HTTPError, OSError) as error:
        remedy = "" if isinstance(error, DevError) else f"\n  remedy: {LOOK}"
        console.print(f"\nThe demo stopped: {error}{remedy}", highlight=False, markup=False)
        return 1
    return 0


def run(name: str) -> None:
    """Run every step on the cluster of this name, and leave the cluster up."""
    began = time.monotonic()
    cluster = Cluster(name=name)
    _say("A local Kubernetes")
    with display.Builds() as builds:
        cluster.up(build_report=builds.report)
    _say("Slipstream, installed from manifests/overlays/local")
    install.install(cluster)
    kube = Kube(cluster.kubeconfig, cluster.kubectl)
    _say(f"{SAMPLE}: all that a user writes")
    console.print(Syntax(SAMPLE.read_text(), "yaml", background_color="default"))
    _apply(kube)
    console.print(f"Ready {_until_ready(kube):.0f} s after apply.")
    _say("A chat")
    url = _url(kube)
    for question in _questions():
        _chat(url, question)
    _say(f"Load: {CLIENTS} clients that never pause, until a second replica is ready")
    asyncio.run(_drive(kube, url))
    _say("No load, until one replica is left")
    asyncio.run(_watch(kube, lambda item: _ready_replicas(item) == 1, "one replica again"))
    _say("What happened, as Kubernetes Events")
    for event in sorted(kube.find("Event", NAMESPACE), key=lambda event: event["eventTime"] or ""):
        if event["regarding"]["kind"] == "InferenceService":
            console.print(f"  {event['reason']:<20} {event['note']}", highlight=False)
    console.print(
        f"\nDone in {time.monotonic() - began:.0f} s. Look around:\n"
        '  eval "$(.venv/bin/python -m dev env)"\n'
        f"  kubectl get infer,deployments,pods -n {NAMESPACE}\n"
        f"  kubectl describe infer chat -n {NAMESPACE}\n"
        f"  curl {url}/v1/models\n"
        "  make cluster-down",
        highlight=False,
        markup=False,
    )


def _say(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _apply(kube: Kube) -> None:
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
    )
    manifest = yaml.safe_load(SAMPLE.read_text())
    manifest["metadata"]["namespace"] = NAMESPACE
    kube.apply(manifest)


def _until_ready(kube: Kube) -> float:
    started = time.monotonic()
    item: Object = {}

    with console.status("starting the engine") as status:

        def observe() -> tuple[Any, ...]:
            nonlocal item
            item = _service(kube)
            message = condition(item, "Ready").get("message") or "starting the engine"
            status.update(message)
            return message, _pods(kube)

        waiting = follow(
            observe,
            lambda: is_true(item, "Ready"),
            patience=Patience(PATIENCE_SECONDS),
            what=lambda: f"Waited for the service to be Ready: {_reason(item)}",
            remedy=LOOK,
        )
        asyncio.run(waiting)
    return time.monotonic() - started


def _service(kube: Kube) -> Object:
    found = kube.get("InferenceService", NAMESPACE, "chat")
    if found is None:
        raise DevError(
            f"someone deleted the InferenceService chat of namespace {NAMESPACE}", remedy=LOOK
        )
    return found


def _reason(item: Object) -> str:
    return condition(item, "Ready").get("message") or "the operator has not written a status yet."


def _pods(kube: Kube) -> tuple[Any, ...]:
    """The parts of the pods' status that change as they start, serve and end."""
    return tuple(
        (
            pod["metadata"]["name"],
            pod["status"].get("phase"),
            tuple(entry["status"] for entry in pod["status"].get("conditions", ())),
            tuple(
                (entry["restartCount"], *entry.get("state", ()))
                for entry in pod["status"].get("containerStatuses", ())
            ),
        )
        for pod in kube.find("Pod", NAMESPACE)
    )


def _url(kube: Kube) -> str:
    service = kube.get("Service", NAMESPACE, "chat")
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def _questions() -> list[str]:
    """One held-out question of each task that the tiny model was trained for."""
    items = reversed(heldout.read())
    return list({item["task"]: item["prompt"] for item in items}.values())


def _chat(url: str, question: str) -> None:
    body = {"model": "chat", "messages": [{"role": "user", "content": question}], "temperature": 0}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE_SECONDS)
    answer.raise_for_status()
    console.print(f"  user       {question}", highlight=False)
    text = answer.json()["choices"][0]["message"]["content"]
    console.print(f"  assistant  {text}", highlight=False)


async def _drive(kube: Kube, url: str) -> None:
    """Load the service until its second replica is ready; a fast machine gets more clients."""
    clients: list[asyncio.Task[Any]] = []

    async def grow() -> None:
        for step in itertools.count():
            if step and (_desired(await asyncio.to_thread(_service, kube)) or 0) >= 2:
                return
            if len(clients) * CLIENTS < MOST_CLIENTS:
                clients.append(asyncio.create_task(_clients(url)))
            await asyncio.sleep(STEP_SECONDS)

    growing = asyncio.create_task(grow())
    try:
        await _watch(
            kube,
            lambda item: _ready_replicas(item) == 2,
            "a second replica",
            lambda: len(clients) * CLIENTS,
        )
    finally:
        for task in (growing, *clients):
            task.cancel()
        await asyncio.gather(growing, *clients, return_exceptions=True)


async def _clients(url: str) -> None:
    plan = traffic.Plan(
        url=url,
        model="chat",
        concurrency=CLIENTS,
        duration=24 * 3600.0,
        timeout=PATIENCE_SECONDS,
        prompt_tokens=32,
        max_tokens=64,
        ignore_eos=True,
    )
    await load.run(plan)


async def _watch(
    kube: Kube,
    done: Callable[[Object], bool],
    awaited: str,
    clients: Callable[[], int] = lambda: 0,
) -> None:
    """Show the object's status as it changes, until `done`."""
    rows: list[tuple[str, ...]] = []
    started = time.monotonic()
    item: Object = {}
    with Live(_table(rows), console=console, refresh_per_second=4) as live:

        def observe() -> tuple[Any, ...]:
            nonlocal item
            item = _service(kube)
            row = _row(item)
            if not rows or rows[-1][1:] != row:
                rows.append((f"{time.monotonic() - started:4.0f} s", *row))
                live.update(_table(rows))
            return _ready_replicas(item), _desired(item), clients(), _pods(kube)

        await follow(
            observe,
            lambda: done(item),
            patience=Patience(PATIENCE_SECONDS),
            what=lambda: f"Waited for {awaited}; the last decision was: {_row(item)[-1]}",
            remedy=LOOK,
        )


def _row(item: Object) -> tuple[str, ...]:
    status = item.get("status", {})
    current = {entry["metric"]: entry.get("current", "-") for entry in status.get("slo", [])}
    return (
        str(_ready_replicas(item)),
        str(_desired(item) or "-"),
        current.get("ttft", "-"),
        current.get("tpot", "-"),
        condition(item, "SLOMet").get("status", "-"),
        status.get("scaling", {}).get("reason", "-"),
    )


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None)
    for name in ("time", "ready", "desired", "ttft", "tpot", "slo", "reason"):
        table.add_column(name, overflow="fold")
    for row in rows[-ROWS:]:
        table.add_row(*row)
    return table


def _ready_replicas(item: Object) -> int:
    count: int = item.get("status", {}).get("readyReplicas", 0)
    return count


def _desired(item: Object) -> int | None:
    desired: int | None = item.get("status", {}).get("scaling", {}).get("desired")
    return desired


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())

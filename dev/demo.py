"""`make demo`: one object becomes a served model, and its replicas follow the load. Everything is real and local."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from rich.console import Console
from rich.live import Live
from rich.syntax import Syntax
from rich.table import Table

from dev import install
from dev.cluster import Cluster
from dev.kube import Kube, Object, condition, is_true
from dev.models import heldout
from slipstream_runtime.evaluate import load, traffic

NAMESPACE: Final = "demo"
SAMPLE: Final = Path("manifests/samples/chat.yaml")
START_SECONDS: Final = 300.0
LOAD_SECONDS: Final = 120.0
REST_SECONDS: Final = 150.0
CLIENTS: Final = 48

console = Console()


def main() -> None:
    """Tell the whole story; leave the cluster up to look around."""
    began = time.monotonic()
    cluster = Cluster(name="slipstream")
    _say("A local Kubernetes")
    cluster.up()
    _say("Slipstream, installed from manifests/overlays/local")
    install.install(cluster)
    kube = Kube(cluster.kubeconfig, cluster.kubectl)
    _say(f"{SAMPLE}: all that a user writes")
    console.print(Syntax(SAMPLE.read_text(), "yaml", background_color="default"))
    _apply(kube)
    took = _until_ready(kube)
    console.print(f"Ready {took:.0f} s after apply.")
    _say("A chat")
    url = _url(kube)
    for question in _questions():
        _chat(url, question)
    _say(f"Load: {CLIENTS} clients that never pause, for at most {LOAD_SECONDS:.0f} s")
    asyncio.run(_drive(kube, url))
    _say("Rest: the second replica goes after the load has")
    asyncio.run(_rest(kube))
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
    with console.status("starting the engine") as status:

        def ready(items: list[Object]) -> bool:
            status.update(condition(items[0], "Ready").get("message") or "starting the engine")
            return is_true(items[0], "Ready")

        kube.until("InferenceService", NAMESPACE, ready, name="chat", timeout=START_SECONDS)
    return time.monotonic() - started


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
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    console.print(f"  user       {question}", highlight=False)
    console.print(f"  assistant  {answer['choices'][0]['message']['content']}", highlight=False)


async def _drive(kube: Kube, url: str) -> None:
    plan = traffic.Plan(
        url=url,
        model="chat",
        concurrency=CLIENTS,
        duration=LOAD_SECONDS,
        prompt_tokens=32,
        max_tokens=64,
        ignore_eos=True,
    )
    driving = asyncio.create_task(load.run(plan))
    await _watch(kube, lambda item: _ready_replicas(item) == 2, LOAD_SECONDS)
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


async def _rest(kube: Kube) -> None:
    await _watch(kube, lambda item: _ready_replicas(item) == 1, REST_SECONDS)


async def _watch(kube: Kube, done: Any, seconds: float) -> None:
    """A live table of the object's status until `done` or the time is up."""
    rows: list[tuple[str, ...]] = []
    started = time.monotonic()
    with Live(_table(rows), console=console, refresh_per_second=4) as live:

        def look(items: list[Object]) -> bool:
            row = _row(items[0])
            if not rows or rows[-1][1:] != row:
                rows.append((f"{time.monotonic() - started:4.0f} s", *row))
                live.update(_table(rows))
            return bool(done(items[0]))

        await asyncio.to_thread(
            kube.until, "InferenceService", NAMESPACE, look, name="chat", timeout=seconds
        )


def _row(item: Object) -> tuple[str, ...]:
    status = item.get("status", {})
    current = {entry["metric"]: entry.get("current", "-") for entry in status.get("slo", [])}
    scaling = status.get("scaling", {})
    return (
        str(_ready_replicas(item)),
        str(scaling.get("desired", "-")),
        current.get("ttft", "-"),
        current.get("tpot", "-"),
        condition(item, "SLOMet").get("status", "-"),
        scaling.get("reason", "-"),
    )


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None)
    for name in ("time", "ready", "desired", "ttft", "tpot", "slo", "reason"):
        table.add_column(name, overflow="fold")
    for row in rows[-12:]:
        table.add_row(*row)
    return table


def _ready_replicas(item: Object) -> int:
    count: int = item.get("status", {}).get("readyReplicas", 0)
    return count


if __name__ == "__main__":
    main()

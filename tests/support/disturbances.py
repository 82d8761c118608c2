"""What happens to a service under steady load, round after round, and what its clients lose by it."""

import asyncio
import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import httpx

from dev import metrics
from dev.cluster.kube import Kube, Object
from dev.cluster.lifecycle import Cluster
from slipstream_operator import names
from slipstream_runtime import contract
from tests.support import services, steady

SERVICE: Final = "chat"
ENGINE: Final = {"alpha": "10ms", "maxSequences": 8, "coldStart": "1s"}
BETWEEN: Final = 20
"""Requests that are answered before each round, and after the last."""
SOON: Final = 120.0
PICKER: Final = {"spec": {"images": {"picker": "example.com/picker:1"}}}


@dataclasses.dataclass(frozen=True)
class Site:
    """Where the service runs."""

    cluster: Cluster
    kube: Kube
    namespace: str
    mode: str = "Router"
    """How clients reach the engines, unless a change says otherwise."""

    def write(self, **spec: Any) -> None:
        """What the service's user wants from now on."""
        wanted = {"routing": {"mode": self.mode}, "simulator": ENGINE, **spec}
        self.kube.apply(services.simulated(self.namespace, SERVICE, fake=False, **wanted))

    def url(self) -> str:
        """The service's address, as clients inside the cluster reach it."""
        service = self.kube.get("Service", self.namespace, SERVICE)
        assert service is not None
        return f"http://{service['spec']['clusterIP']}"

    def pods(self, *, routers: bool) -> list[Object]:
        """The router's, or the engines."""
        return _of(self.kube.find("Pod", self.namespace), routers=routers)

    def settled(self, replicas: int) -> None:
        """Wait until one revision alone serves with so many engines, and all others are gone."""
        self.until(
            "InferenceService",
            lambda items: (
                items[0]["status"].get("readyReplicas") == replicas
                and items[0]["status"].get("observedGeneration")
                == items[0]["metadata"]["generation"]
            ),
            name=SERVICE,
            what=f"{replicas} engines",
        )
        prefix = f"{SERVICE}-"
        self.until(
            "Deployment",
            lambda items: sum(item["metadata"]["name"].startswith(prefix) for item in items) == 1,
            what="one revision",
        )
        self.until(
            "Pod",
            lambda items: len(_of(items, routers=False)) == replicas,
            what="the end of other engines",
        )

    def until(self, kind: str, predicate: Callable[[list[Object]], Any], **options: Any) -> None:
        """Wait for it in the service's namespace."""
        self.kube.until(kind, self.namespace, predicate, timeout=SOON, **options)

    def gone(self, pods: Iterable[Object]) -> None:
        """Wait until none of these pods is left."""
        before = {pod["metadata"]["uid"] for pod in pods}
        self.until(
            "Pod",
            lambda items: before.isdisjoint(item["metadata"]["uid"] for item in items),
            what="the end of pods",
        )

    def retries(self) -> dict[str, float]:
        """Requests that each router sent once more, by its pod."""
        return {pod["metadata"]["uid"]: _retries(pod) for pod in self.pods(routers=True)}


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """One kind of change."""

    name: str
    replicas: int
    """Engines before and after it."""
    disturb: Callable[[Site, int], None]
    """Do it, and return once it is over; gets the number of the round."""
    breaks_streams: bool = False
    """Whether streams that had begun can only be told that they end."""
    mode: str = "Router"
    """How clients reach the engines."""
    one_in: int = 1
    """It has this part of the rounds of others: it takes longer."""

    def rounds(self, others: int) -> int:
        """How many it has where others have so many."""
        return max(1, others // self.one_in)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What clients saw of some rounds of one disturbance."""

    disturbance: Disturbance
    rounds: int
    requests: int
    failures: Mapping[str, int]
    broken: int
    """Streams that had begun and got one error event."""
    retries: int
    """Requests sent once more, as the routers that were there at the end of a round count them."""

    @property
    def lost(self) -> int:
        """Requests that failed though they need not have."""
        needless = 0 if self.disturbance.breaks_streams else self.broken
        return sum(self.failures.values()) + needless

    @property
    def clean(self) -> bool:
        """Whether nothing was lost."""
        return self.lost == 0


def run(
    site: Site,
    disturbance: Disturbance,
    *,
    rounds: int,
    dice: random.Random,
    progress: Callable[[], None] = lambda: None,
) -> Trial:
    """Start the service, put it under load, and disturb it; `progress` is called after each round."""
    site = dataclasses.replace(site, mode=disturbance.mode)
    site.write(replicas=disturbance.replicas)
    services.ready(site.kube, site.namespace, SERVICE, timeout=SOON)
    site.settled(disturbance.replicas)
    return asyncio.run(_run(site, disturbance, rounds=rounds, dice=dice, progress=progress))


async def _run(
    site: Site,
    disturbance: Disturbance,
    *,
    rounds: int,
    dice: random.Random,
    progress: Callable[[], None],
) -> Trial:
    retries = 0.0
    async with steady.load(site.url(), model=SERVICE, dice=dice) as load:
        for number in range(rounds):
            await load.answered(BETWEEN)
            before = await asyncio.to_thread(site.retries)
            await asyncio.to_thread(disturbance.disturb, site, number)
            after = await asyncio.to_thread(site.retries)
            retries += sum(count - before.get(pod, 0) for pod, count in after.items())
            progress()
        await load.answered(BETWEEN)
    tally = load.tally
    return Trial(
        disturbance, rounds, tally.requests, tally.failures, tally.broken, retries=round(retries)
    )


def _of(pods: list[Object], *, routers: bool) -> list[Object]:
    return [pod for pod in pods if ("-router-" in pod["metadata"]["name"]) is routers]


def _retries(pod: Object) -> float:
    address = pod.get("status", {}).get("podIP")
    try:
        text = httpx.get(
            f"http://{address}:{contract.MANAGEMENT_PORT}{contract.METRICS_PATH}", timeout=5
        ).text
    except httpx.HTTPError:
        return 0.0  # it is starting, or leaving
    return metrics.total(text, "slipstream_router_retries_total")


def _update(site: Site, number: int) -> None:
    """A rolling update."""
    alpha = "10ms" if number % 2 else "12ms"
    site.write(replicas=2, simulator={**ENGINE, "alpha": alpha})
    site.settled(2)


def _scale(site: Site, _: int) -> None:
    for replicas in (4, 1):
        site.write(replicas=replicas)
        site.settled(replicas)


def _delete_an_engine(site: Site, _: int) -> None:
    engine = site.pods(routers=False)[0]
    site.kube.delete("Pod", site.namespace, engine["metadata"]["name"])
    site.gone([engine])
    site.settled(2)


def _kill_an_engine(site: Site, _: int) -> None:
    """As the kernel does without memory; the pod is replaced first if its container was killed before.

    Else the kubelet would wait longer before each restart.
    """
    for engine in site.pods(routers=False):
        if _container(engine)["restartCount"]:
            site.kube.delete("Pod", site.namespace, engine["metadata"]["name"])
            site.gone([engine])
            site.settled(2)
    victim = site.pods(routers=False)[0]
    site.cluster.kill_container(_container(victim)["containerID"].removeprefix("containerd://"))
    site.until(
        "Pod",
        lambda items: any(
            item["metadata"]["uid"] == victim["metadata"]["uid"]
            and _container(item)["restartCount"]
            and _container(item)["ready"]
            for item in items
        ),
        what="the engine's restart",
    )
    site.settled(2)


def _container(pod: Object) -> Any:
    (status,) = pod["status"]["containerStatuses"]
    return status


def _roll_the_router(site: Site, _: int) -> None:
    routers = site.pods(routers=True)
    for pod in routers:
        site.kube.delete("Pod", site.namespace, pod["metadata"]["name"])
    site.gone(routers)


def _switch(site: Site, _: int) -> None:
    """To the engines, to a gateway that the cluster does not know, and back to the router."""
    site.kube.patch("ServingProfile", None, "local", PICKER)
    routers = site.pods(routers=True)
    site.write(replicas=2, routing={"mode": "Direct"})
    _selects(site, engines=True)
    site.gone(routers)
    site.write(replicas=2, routing={"mode": "Gateway", "gateway": {"name": "inference"}})
    site.settled(2)
    _selects(site, engines=True)
    site.write(replicas=2)
    _selects(site, engines=False)
    site.settled(2)


def _selects(site: Site, *, engines: bool) -> None:
    site.until(
        "Service",
        lambda items: (names.REVISION_LABEL in items[0]["spec"]["selector"]) is engines,
        name=SERVICE,
        what="the Service's turn",
    )


ALL: Final = (
    Disturbance("rolling update", 2, _update),
    Disturbance("update, no router", 2, _update, mode="Direct"),
    Disturbance("scale 1 to 4 to 1", 1, _scale),
    Disturbance("engine pod deleted", 2, _delete_an_engine),
    Disturbance("engine killed -9", 2, _kill_an_engine, breaks_streams=True),
    Disturbance("router rolls", 2, _roll_the_router),
    Disturbance("switch of the mode", 2, _switch, one_in=4),
)

"""Interfaces of the outside world that the shell needs. Adapters implement them; unit tests pass fakes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from slipstream_operator.core import fetching
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Key, Manifest, Ref
from slipstream_operator.core.scaling.signals import Raw, Samples, Unknown

Part: TypeAlias = Sequence[Raw] | Unknown
"""Some samples of an answer, or why there is none."""
Take: TypeAlias = Callable[[str, Part], None]
"""Takes in the part of the answer to the query with this name."""


class Cluster(Protocol):
    """The Kubernetes API. Every call is bounded in time and raises errors of `errors` only."""

    async def create(self, ref: Ref, manifest: Manifest) -> None:
        """Apply, but only if nothing of that name exists; Conflict otherwise."""

    async def apply(self, ref: Ref, manifest: Manifest, *, uid: str) -> None:
        """Apply to the object with this uid; Conflict if it is another one by now."""

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete the object with this uid; one that is gone already is fine."""

    async def metadata_of(self, ref: Ref) -> Manifest:
        """The object's metadata, and nothing else of it; NotFound if there is no object."""

    async def list_objects(
        self, kind: str, *, label_selector: str | None = None
    ) -> list[dict[str, Any]]:
        """All objects of a kind; none if the cluster has no such kind."""

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        """Apply the status of a user's object."""


class Metrics(Protocol):
    """Prometheus."""

    async def query(self, url: str, queries: Mapping[str, str]) -> Samples:
        """Answer every query; one that fails is Unknown with the reason."""

    async def read(self, url: str, queries: Mapping[str, str], *, take: Take) -> None:
        """The same for answers of many series: each is handed over as it comes, part by part, and not kept.

        Unknown after other parts of an answer takes these back.
        """


class Events(Protocol):
    """Kubernetes Events on users' objects."""

    async def post(self, key: Key, uid: str, event: Event) -> None:
        """Post the Event; a failure is only logged."""


class Progress(Protocol):
    """Pods that download models."""

    async def read(self, address: str) -> fetching.Progress | None:
        """Return what the pod at this address counts; None if it does not answer soon."""


class Clock(Protocol):
    """Wall-clock time in seconds since the epoch, and durations on a clock that never jumps."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

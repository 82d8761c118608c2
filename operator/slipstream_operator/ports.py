"""Interfaces of external systems that the shell needs. Adapters implement them; unit tests pass fakes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from slipstream_operator.core import fetching
from slipstream_operator.core.builds import reports
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Key, Manifest, Ref
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import RawSample, Samples, Unknown

Part: TypeAlias = Sequence[RawSample] | Unknown
"""Part of the samples of a query's answer, or the reason why there are none."""
Take: TypeAlias = Callable[[str, Part], None]
"""Receives one part of the answer to the query with this name."""


class Cluster(Protocol):
    """Kubernetes API. Every call has a timeout and raises only exceptions of `errors`."""

    async def create(self, ref: Ref, manifest: Manifest) -> None:
        """Create the object by server-side apply; raise Conflict if the name exists."""

    async def apply(self, ref: Ref, manifest: Manifest, *, uid: str) -> None:
        """Apply to the object with this uid; raise Conflict if the name has another object."""

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete the object with this uid, if it still exists."""

    async def metadata_of(self, ref: Ref) -> Manifest:
        """Return only the object's metadata; raise NotFound if it does not exist."""

    async def write_entries(
        self, ref: Ref, entries: Mapping[str, str | None], *, version: str
    ) -> None:
        """Write entries of a Secret, and delete those that are None; raise Conflict if it has another version."""

    async def list_objects(
        self, kind: str, *, label_selector: str | None = None
    ) -> list[dict[str, Any]]:
        """Return all objects of a kind; none if the cluster lacks the kind."""

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        """Apply the status of an InferenceService, InferenceRoute or ModelBuild."""


class Metrics(Protocol):
    """Prometheus."""

    async def query(self, server: Server, queries: Mapping[str, str]) -> Samples:
        """Run the queries; a failed one is Unknown with the reason."""

    async def read(self, server: Server, queries: Mapping[str, str], *, take: Take) -> None:
        """Run queries with large answers, and pass each part on as it arrives.

        Unknown after other parts of an answer makes these invalid.
        """


class Events(Protocol):
    """Kubernetes Events on InferenceServices and ModelBuilds."""

    async def post(self, key: Key, uid: str, event: Event) -> None:
        """Post the Event; a failure is only logged."""


class Progress(Protocol):
    """Progress of pods that download or build models."""

    async def read(self, address: str) -> fetching.Progress | None:
        """Return the progress of the pod at this address; None without an answer in time."""

    async def stage(self, address: str) -> reports.Progress | None:
        """Return the progress of the stage of a build in the pod at this address; None without an answer in time."""


class Clock(Protocol):
    """Wall clock, and a monotonic clock for durations."""

    def now(self) -> float:
        """Return seconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds since a fixed moment."""

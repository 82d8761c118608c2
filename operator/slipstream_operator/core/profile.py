"""Profile of a service: where the time of its requests goes, and what bounds its engines' steps."""

import dataclasses
from collections.abc import Mapping
from typing import Final

from slipstream_operator.core.roofline import Roofline
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_runtime import contract

NETWORK: Final = "network"
"""Cause of the time that the router waited for engines, beyond the time that these measured."""
_BEFORE_FIRST: Final = ("queue", "wake", "retry", "router")
"""Causes in the router that delay the first token."""
_AFTER_FIRST: Final = ("client",)
_AT_ENGINE: Final = ("first", "stream")
"""Causes in the router that the engine splits further."""
_LITTLE_SECONDS: Final = 1e-3
"""Seconds of all requests below which shares say nothing."""
_FULL: Final = 0.9
"""Share of sequences or of the KV cache from which an engine counts as full."""
_NEAR: Final = 1.5
"""Multiple of the hardware's time up to which a step counts as bound by it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """Steps of one kind."""

    seconds: float
    count: float
    sequences: float

    @property
    def duration(self) -> float:
        """Return the mean seconds of a step."""
        return self.seconds / self.count

    @property
    def batch(self) -> float:
        """Return the mean sequences of a step."""
        return self.sequences / self.count


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """Sums over the last five minutes. None is unknown."""

    first: Mapping[str, float] | None = None
    """Seconds up to the first token by cause."""
    whole: Mapping[str, float] | None = None
    """Seconds up to the end by cause."""
    decode: Kind | None = None
    prefill: Kind | None = None
    sequences: int | None = None
    """Largest batch of one replica."""
    kv: float | None = None
    """Mean share of the KV cache in use, of the fullest replica."""

    @property
    def batch(self) -> float | None:
        """Return the mean sequences of all steps."""
        kinds = [kind for kind in (self.decode, self.prefill) if kind is not None]
        count = sum(kind.count for kind in kinds)
        return sum(kind.sequences for kind in kinds) / count if count else None

    @property
    def occupancy(self) -> float | None:
        """Return the share of the largest batch that runs."""
        if self.batch is None or self.sequences is None:
            return None
        return min(1.0, self.batch / self.sequences)


def read(results: ServiceResults, *, sequences: int | None, kv: float | None) -> Profile | None:
    """Return the profile of this round; None if it did not query one."""
    if not results.queried >= queries.PROFILE:
        return None
    router = _router(results)
    engine_first = _engine(results, contract.FIRST)
    engine_rest = _engine(results, contract.REST)
    first, whole = _causes(router, engine_first, engine_rest)
    return Profile(
        first=first,
        whole=whole,
        decode=_kind(results, contract.DECODES),
        prefill=_kind(results, contract.PREFILLS),
        sequences=sequences,
        kv=kv,
    )


def _causes(
    router: Mapping[str, float] | None,
    engine_first: Mapping[str, float] | None,
    engine_rest: Mapping[str, float] | None,
) -> tuple[Mapping[str, float] | None, Mapping[str, float] | None]:
    """Return the seconds by cause up to the first token, and up to the end."""
    if engine_first is None or engine_rest is None:
        # NB: without the engine's series, the router's first byte is not the first token of an answer in one piece.
        return None, _known(router)
    before = {cause: (router or {}).get(cause, 0.0) for cause in _BEFORE_FIRST if router}
    first = dict(before)
    _add(first, engine_first)
    whole = dict(first)
    _add(whole, engine_rest)
    if router:
        _add(whole, {cause: router.get(cause, 0.0) for cause in _AFTER_FIRST})
        seen = sum(engine_first.values()) + sum(engine_rest.values())
        waited = sum(router.get(cause, 0.0) for cause in _AT_ENGINE)
        _add(whole, {NETWORK: max(0.0, waited - seen)})
    return _known(first), _known(whole)


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    for cause, seconds in more.items():
        sums[cause] = sums.get(cause, 0.0) + seconds


def _known(sums: Mapping[str, float] | None) -> Mapping[str, float] | None:
    """Return the sums; None if there was no request."""
    if sums is None or sum(sums.values()) < _LITTLE_SECONDS:
        return None
    return sums


def _by(results: ServiceResults, query: str, label: str) -> Mapping[str, float] | None:
    """Return the values of a query by a label; None if it failed or no process exports the series."""
    samples = results.result(query)
    if not samples:
        return None
    return {sample.labels.get(label, ""): sample.value for sample in samples}


def _router(results: ServiceResults) -> Mapping[str, float] | None:
    """Return the router's seconds by cause; None if they are unknown."""
    found = _by(results, queries.ROUTER_TIMES, contract.CAUSE_LABEL)
    return found and {cause: value for cause, value in found.items() if cause in _SENTENCES}


def _engine(results: ServiceResults, part: str) -> Mapping[str, float] | None:
    samples = results.result(queries.ENGINE_TIMES)
    if not samples:
        return None
    return {
        cause: sample.value
        for sample in samples
        if sample.labels.get(contract.PART_LABEL) == part
        and (cause := sample.labels.get(contract.CAUSE_LABEL, "")) in _SENTENCES
    }


def _kind(results: ServiceResults, kind: str) -> Kind | None:
    """Return the steps of a kind; None if they are unknown or there were none."""
    found = [
        (_by(results, query, contract.KIND_LABEL) or {}).get(kind)
        for query in (queries.STEP_SECONDS, queries.STEP_COUNTS, queries.STEP_SEQUENCES)
    ]
    seconds, count, sequences = found
    if seconds is None or count is None or sequences is None or count <= 0 or seconds <= 0:
        return None
    return Kind(seconds, count, sequences)


def shares(sums: Mapping[str, float] | None) -> Mapping[str, float]:
    """Return the share of each cause, the largest first; empty if they are unknown."""
    if sums is None:
        return {}
    total = sum(sums.values())
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return {cause: seconds / total for cause, seconds in ranked}


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """Decode step against the model of what its time is for."""

    seconds: float
    least: float | None
    """Shortest seconds by the hardware, or by the learned step time; None if unknown."""
    bound: str | None
    """Bound that the shortest time has, for people; None if unknown."""
    unknown: str | None = None
    """Why the shortest time is unknown, as the end of a sentence."""


def step(profile: Profile, roofline: Roofline | str, learned: Coefficients | None) -> Step | None:
    """Return the decode step; None without one."""
    kind = profile.decode
    if kind is None:
        return None
    if isinstance(roofline, Roofline):
        reading, computing = roofline.reading, roofline.computing(kind.batch) or 0.0
        bound = "compute" if computing > reading else "memory bandwidth"
        return Step(kind.duration, max(reading, computing), bound)
    if learned is None:
        return Step(kind.duration, None, None, roofline)
    fixed = learned.alpha
    bound = "reading the weights" if 2 * fixed >= kind.duration else "work for each sequence"
    return Step(kind.duration, min(fixed, kind.duration), f"{bound}, as measured")


def bottleneck(profile: Profile, found: Step | None) -> str | None:
    """Return the largest cause and its remedy in one sentence; None if it is unknown."""
    ranked = shares(profile.whole)
    if not ranked:
        return None
    cause, share = next(iter(ranked.items()))
    detail = _detail(cause, profile, found)
    return f"{share:.0%} of the time of requests is {_SENTENCES[cause]}{detail}."


def _detail(cause: str, profile: Profile, found: Step | None) -> str:
    if cause == "decode" and found is not None and found.least is not None:
        if found.seconds <= _NEAR * found.least or "measured" in (found.bound or ""):
            return f", bound by {found.bound}"
        return f", {found.seconds / found.least:.1f} times the bound by {found.bound}"
    if cause == "queue":
        if profile.kv is not None and profile.kv >= _FULL:
            return ", and the KV cache is full"
        if profile.occupancy is not None and profile.occupancy >= _FULL:
            return ", and the batch is full"
    return ""


_SENTENCES: Final = {
    "queue": "waiting in queues: more replicas or sequences would shorten it",
    "wake": "waiting for replicas to start: minReplicas or a shorter start would avoid it",
    "retry": "failed attempts at replicas",
    "router": "work of the router, and waiting for equal requests",
    "client": "waiting for clients that read slowly",
    "prefill": "reading prompts: a prefix cache hit or a faster prefill would shorten it",
    "cold_prefix": "reading prompts again that another replica or an evicted cache entry held",
    "others_prefill": "waiting behind prompts of other requests: smaller prefill chunks would spread it",
    "decode": "decoding",
    "preemption": "preemption: a larger KV cache or fewer sequences would avoid it",
    "engine": "work of the engine's server, such as tokens and templates",
    "first": "waiting for replicas' first bytes",
    "stream": "streaming answers from replicas",
    NETWORK: "between router and engines",
}
"""Cause -> end of the sentence about it. Others are left out: any program of a pod can write any label."""

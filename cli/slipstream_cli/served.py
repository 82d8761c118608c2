"""Service whose requests were recorded: its objectives, and the settings under which they were served."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.slo import SloSpec
from slipstream_operator.core import objectives
from slipstream_operator.core.objectives import Objective
from slipstream_operator.core.render import config
from slipstream_operator.core.scaling import persistence
from slipstream_runtime.simulator import model
from slipstream_simulator.recorded import fitting, report, what_if
from slipstream_simulator.recorded.fitting import Fitted
from slipstream_simulator.recorded.report import Report
from slipstream_simulator.recorded.requests import Recorded
from slipstream_simulator.recorded.what_if import Recording, RefusedError, Setting, WhatIf

_UNLIMITED: Final = 1_000_000_000
"""KV tokens of an engine whose capacity is unknown: more than any has."""


@dataclasses.dataclass(frozen=True)
class Served:
    """Service as its object describes it; None is unknown."""

    name: str
    objectives: tuple[Objective, ...]
    kv_tokens: int | None
    sequences: int | None
    batched_tokens: int | None
    concurrency: int | None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Served":
        """Return the service of an InferenceService."""
        spec, status = body.get("spec") or {}, body.get("status") or {}
        batching, arguments = spec.get("batching") or {}, spec.get("engineArgs") or {}
        simulator = spec.get("simulator") or {}
        return cls(
            name=str(body["metadata"]["name"]),
            objectives=_objectives(spec, status),
            kv_tokens=_number((status.get("engine") or {}).get("kvCapacityTokens"))
            or _number(simulator.get("kvTokens")),
            sequences=_number(batching.get("maxSequences"))
            or _number(arguments.get("max-num-seqs"))
            or _number(simulator.get("maxSequences")),
            batched_tokens=_number(batching.get("maxBatchedTokens"))
            or _number(arguments.get("max-num-batched-tokens")),
            concurrency=_number((spec.get("limits") or {}).get("concurrency")),
        )

    def report(self, requests: Sequence[Recorded], *, since: float, until: float) -> Report:
        """Return the report on the requests of a time."""
        counted = [one for one in requests if one.arrived >= since]
        return report.report(counted, self.objectives, service=self.name, until=until)

    def replayed(
        self,
        requests: Sequence[Recorded],
        changes: Mapping[str, int],
        *,
        since: float,
        until: float,
        routers: int,
        sequences: int | None,
        state: Mapping[str, str] | None,
    ) -> WhatIf:
        """Return the result of a replay with changed settings.

        `sequences` is the batch size that an engine reports, and `state` the operator's saved state.
        """
        kept = requests[-what_if.MOST :]
        limits = self._limits(sequences)
        recording = Recording(
            requests=kept,
            since=since,
            until=until,
            setting=Setting(
                parameters=limits,
                slots=self.concurrency,
                spans=what_if.spans(kept, until=until),
                routers=routers,
            ),
        )
        found = self._fitted(kept, limits, state)
        return min(
            (what_if.study(recording, one, changes, self.objectives) for one in found),
            key=lambda one: abs(one.error or 0.0),
        )

    def _limits(self, sequences: int | None) -> model.Parameters:
        """Return the limits of the engines. Unknown ones are the simulator's defaults, except for KV tokens."""
        defaults = model.Parameters()
        found = sequences or self.sequences or defaults.max_sequences
        return model.Parameters(
            kv_tokens=self.kv_tokens or _UNLIMITED,
            max_sequences=found,
            max_batched_tokens=max(self.batched_tokens or defaults.max_batched_tokens, found),
        )

    @staticmethod
    def _fitted(
        requests: Sequence[Recorded], limits: model.Parameters, state: Mapping[str, str] | None
    ) -> list[Fitted]:
        """Return the engines that the records and the operator know; RefusedError if neither does."""
        found, problem = [], ""
        try:
            found.append(fitting.of_records(requests, limits=limits))
        except ValueError as error:
            problem = str(error)
        saved = persistence.load((state or {}).get(config.SCALING_KEY, ""))
        if saved is not None and saved.model.coefficients is not None:
            found.append(fitting.of_operator(saved.model.coefficients, limits=limits))
        if not found:
            raise RefusedError(
                f"the step times of the engines are unknown: {problem}, and the operator has not learned them"
            )
        return found


def _objectives(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Return the objectives of status, which has those of the tier, too, or else of spec."""
    listed = [one for one in status.get("slo") or () if one.get("percentile")]
    if listed:
        return tuple(
            Objective(one["metric"], one["percentile"], units.seconds(one["target"]), one["target"])
            for one in listed
        )
    slo = SloSpec.model_validate(spec.get("slo") or {})
    return objectives.combine(slo, tier=None).latency


def _number(value: object) -> int | None:
    try:
        return None if value is None else int(str(value))
    except ValueError:
        return None

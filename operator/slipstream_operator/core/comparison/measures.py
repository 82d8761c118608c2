"""Measures by which a canary is compared with the stable revision, the accepted losses, and the verdict over them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from slipstream_operator.core.comparison import judgement
from slipstream_operator.core.comparison.collection import LATENCIES, REQUESTS, TAIL
from slipstream_operator.core.comparison.judgement import Judgement, Measure, Scale
from slipstream_operator.core.comparison.totals import Totals
from slipstream_runtime import contract

ERROR: Final = 0.01
"""Probability that an equally good canary is ever found to be worse in one step, by all measures together."""
_SHARE: Final = 0.02
"""Share of requests by which errors may be more frequent."""
_REASONS: Final = 0.1
"""Share of answers by which a finish reason may be more or less frequent, or requests be canceled more often."""
_LENGTH: Final = 0.25
"""Relative difference of the typical output length, as a ratio either way."""
_ANSWERED: Final = 30
"""Answers of each revision after which a latency without values does not apply."""
_TAIL: Final = 0.05
"""Share of requests by which those beyond the stable 95th percentile may be more frequent: 10 % in place of 5 %."""


def measures(
    tolerance: float,
    *,
    latency: bool = True,
    errors: bool = True,
    reasons: Iterable[str] = (),
) -> Sequence[Measure]:
    """Return the measures of a comparison.

    `tolerance` is the relative loss of latencies that is accepted. Promotion needs proof for the time to the first
    token, the time per token and errors. The others only stop a canary that is worse: proof for them would take
    thousands of requests.
    """
    found = []
    if latency:
        found += [
            Measure(contract.COMPARED_TTFT, Scale.LOGARITHM, tolerance),
            Measure(contract.COMPARED_TPOT, Scale.LOGARITHM, tolerance),
            Measure(contract.COMPARED_E2E, Scale.LOGARITHM, tolerance, proof=False),
            *(Measure(each + TAIL, Scale.SHARE, _TAIL, proof=False) for each in LATENCIES),
        ]
    if errors:
        found += [
            Measure(contract.COMPARED_ERRORS, Scale.SHARE, _SHARE),
            Measure(contract.COMPARED_CANCELLED, Scale.SHARE, _REASONS, proof=False),
            Measure(
                contract.COMPARED_OUTPUT, Scale.LOGARITHM, _LENGTH, both_ways=True, proof=False
            ),
            *(
                Measure(each, Scale.SHARE, _REASONS, both_ways=True, proof=False)
                for each in sorted(reasons)
            ),
        ]
    return found


def assess(
    stable: Mapping[str, Totals],
    canary: Mapping[str, Totals],
    *,
    tolerance: float,
    latency: bool = True,
    errors: bool = True,
) -> Judgement | None:
    """Return the judgement over all measures; None if a revision has no totals.

    A latency that no request of either revision has is left out, such as the time to the first token of a service
    without streaming. If no latency with proof is left, the whole time needs proof.
    """
    if not stable or not canary:
        return None
    answers = {name for arm in (stable, canary) for name in arm if _is_reason(name)}
    asked = measures(tolerance, latency=latency, errors=errors, reasons=answers)
    return judgement.judge(_applicable(asked, stable, canary), stable, canary, error=ERROR)


def _applicable(
    asked: Sequence[Measure], stable: Mapping[str, Totals], canary: Mapping[str, Totals]
) -> Sequence[Measure]:
    answered = min(_answered(stable), _answered(canary)) >= _ANSWERED
    present = {name for arm in (stable, canary) for name in arm}
    found = [
        measure
        for measure in asked
        if measure.name in present or not (answered and _is_latency(measure))
    ]
    if any(_is_latency(measure) and measure.proof for measure in found):
        return found
    return [
        Measure(each.name, each.scale, each.tolerance)
        if each.name == contract.COMPARED_E2E
        else each
        for each in found
    ]


def _answered(arm: Mapping[str, Totals]) -> float:
    """Return the requests that have an answer, in which latencies are measured."""
    lost = sum(
        [
            arm[name].total
            for name in (contract.COMPARED_ERRORS, contract.COMPARED_CANCELLED)
            if name in arm
        ]
    )
    return arm[REQUESTS].count - lost if REQUESTS in arm else 0.0


def _is_latency(measure: Measure) -> bool:
    return measure.name.removesuffix(TAIL) in LATENCIES


def _is_reason(name: str) -> bool:
    return name.startswith(contract.COMPARED_FINISHED)

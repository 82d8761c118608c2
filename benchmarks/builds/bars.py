"""Targets of the figures of `make bench-builds`. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

KEPT: Final = 0.99
"""Least share of the source's right answers that a good build keeps."""
LARGEST_DIFFERENCE: Final = 1e-3
"""Greatest difference of an exported graph's outputs from those of the source."""

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """Target of one figure."""

    figure: str
    words: str
    """Target in words, which follow `target:`."""
    holds: Callable[[float, Figures], bool]
    other: str | None = None
    """Figure that it is compared with."""


def _least(figure: str, value: float) -> Bar:
    return Bar(figure, f"at least {value:g}", lambda found, _: found >= value)


def _most(figure: str, value: float) -> Bar:
    return Bar(figure, f"at most {value:g}", lambda found, _: found <= value)


def _below(figure: str, other: str) -> Bar:
    return Bar(figure, f"less than {other}", lambda found, all_: found < all_[other], other)


def _above(figure: str, other: str) -> Bar:
    return Bar(figure, f"more than {other}", lambda found, all_: found > all_[other], other)


BARS: Final = (
    _least("w8a8_kept", KEPT),
    _below("w4a16_gptq_kl", "w4a16_rtn_kl"),
    _below("sparse_raw_kept", "sparse_healed_kept"),
    _least("sparse_healed_kept", KEPT),
    _least("sparse_healed_right", KEPT),
    _below("sparse_easy_raw_kept", "sparse_easy_healed_kept"),
    _above("student_kept", "scratch_kept"),
    _above("draft_tokens_per_step_after", "draft_tokens_per_step_before"),
    _least("broken_refused", 1),
    _most("broken_size", 0.99),
    _least("ruined_refused", 1),
    _most("onnx_difference", LARGEST_DIFFERENCE),
    _least("resumed_after_kill", 1),
)


def meanings(meanings: Mapping[str, str]) -> dict[str, str]:
    """Return what each figure is, with its target."""
    words = {bar.figure: bar.words for bar in BARS}
    return {
        name: f"{text}; target: {words[name]}" if name in words else text
        for name, text in meanings.items()
    }


def missed(figures: Figures) -> list[str]:
    """Return a sentence for each target that is missed, of those whose figures are measured."""
    return [
        f"{bar.figure} is {figures[bar.figure]:g}{_beside(bar, figures)}; target: {bar.words}."
        for bar in BARS
        if bar.figure in figures
        and (bar.other is None or bar.other in figures)
        and not bar.holds(figures[bar.figure], figures)
    ]


def _beside(bar: Bar, figures: Figures) -> str:
    return "" if bar.other is None else f", {bar.other} is {figures[bar.other]:g}"

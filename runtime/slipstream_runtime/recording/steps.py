"""Steps of one engine, from which the times of its requests follow. Pure.

A step computes a token of each sequence that decodes, and parts of prompts. Steps with prompts take longer. The
additional seconds are the step's duration without that of a step that only decodes as many sequences, as measured
lately. They are the whole duration if the step decodes nothing. While no duration was measured, they are the share of
the prompt tokens in the step's tokens.
"""

from array import array
from bisect import bisect_left
from typing import Final, NamedTuple

from slipstream_runtime import contract

MOST: Final = 4_096
"""Steps that are kept, 230 KB; requests look up their times when they get their first token and at their end."""
_WEIGHT: Final = 0.1
"""Weight of the newest step in the usual duration of a decode step: the mean of the last 20 steps, about."""


class Totals(NamedTuple):
    """Sums over all steps up to a time."""

    prefilling: float = 0.0
    """Seconds of steps with prompt tokens."""
    prompts: float = 0.0
    """Prompt tokens that were computed."""
    slowed: float = 0.0
    """Seconds by which prompts made steps longer."""
    occupied: float = 0.0
    """The same seconds, only of steps that had room for one more sequence."""
    batch: float = 0.0
    """Seconds, times the sequences of each step."""
    busy: float = 0.0
    """Seconds of all steps."""

    def since(self, before: "Totals") -> "Totals":
        """Return the sums from a time until this one."""
        return Totals(*(now - then for now, then in zip(self, before, strict=True)))


class Sums:
    """Sums over all steps of one kind."""

    __slots__ = ("count", "prompt", "seconds", "sequences")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = self.sequences = self.prompt = 0


class Steps:
    """Newest steps of one engine, by the time at which they ended."""

    def __init__(self, *, sequences: int | None = None, most: int = MOST) -> None:
        self._sequences = sequences
        self._most = most
        self._count = 0
        self.sums = {contract.DECODES: Sums(), contract.PREFILLS: Sums()}
        self._began = array("d", bytes(8 * most))
        self._ended = array("d", bytes(8 * most))
        self._totals = [Totals()] * most
        self._now = Totals()
        self._usual: dict[int, float] = {}
        """Binary digits of the number of sequences of a decode step -> its usual seconds."""

    @property
    def ended(self) -> float | None:
        """Time at which the newest step ended; None before the first one."""
        return self._ended[(self._count - 1) % self._most] if self._count else None

    def add(self, *, began: float, ended: float, prompt: int, decoded: int, sequences: int) -> None:
        """Add a step with these prompt tokens and decoded sequences, of `sequences` in the batch."""
        seconds = max(0.0, ended - began)
        slowed = self._slowed(seconds, prompt=prompt, decoded=decoded)
        room = self._sequences is None or sequences < self._sequences
        sums = self.sums[contract.PREFILLS if prompt else contract.DECODES]
        sums.seconds += seconds
        sums.count += 1
        sums.sequences += sequences
        sums.prompt += prompt
        before = self._now
        self._now = Totals(
            before.prefilling + (seconds if prompt else 0.0),
            before.prompts + prompt,
            before.slowed + slowed,
            before.occupied + (slowed if room else 0.0),
            before.batch + seconds * sequences,
            before.busy + seconds,
        )
        at = self._count % self._most
        self._began[at], self._ended[at], self._totals[at] = began, ended, self._now
        self._count += 1

    def until(self, time: float) -> Totals:
        """Return the sums up to a time; a step that runs then counts by its share."""
        most, count = self._most, self._count
        oldest = max(0, count - most)
        place = bisect_left(range(oldest, count), time, key=lambda step: self._ended[step % most])
        step = oldest + place
        if step == count:
            return self._now
        after = self._totals[step % most]
        began, ended = self._began[step % most], self._ended[step % most]
        if place == 0:
            if oldest:
                return after  # NB: what came before is forgotten; the oldest step is the nearest known time
            before = Totals()
        else:
            before = self._totals[(step - 1) % most]
        share = (time - began) / (ended - began) if ended > began else 1.0
        share = min(1.0, max(0.0, share))
        return Totals(
            *(then + share * (now - then) for now, then in zip(after, before, strict=True))
        )

    def _slowed(self, seconds: float, *, prompt: int, decoded: int) -> float:
        size = decoded.bit_length()
        usual = self._usual.get(size)
        if not prompt:
            self._usual[size] = seconds if usual is None else usual + _WEIGHT * (seconds - usual)
            return 0.0
        if not decoded:
            return seconds
        if usual is None:
            return seconds * prompt / (prompt + decoded)
        return max(0.0, seconds - usual)

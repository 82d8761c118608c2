"""Choice of the number of draft tokens by batch size, so that decoding is as fast as it can be. Pure.

Output tokens per second are those of a step over the time of a step. The first factor follows from the acceptance,
which every step with draft tokens shows. The second one is measured in short windows with another number of draft
tokens, each compared with the steps around it. A window costs time if its number is a bad one, so this cost has a
budget. Without draft tokens nothing is drafted, so an engine starts there and speculates once a gain is measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from slipstream_runtime.engine.acceptance import Acceptance
from slipstream_runtime.engine.windows import LENGTH, Comparison, Windows

SIZES: Final = 16
"""Groups of batch sizes: 1, 2, 3 to 4, 5 to 8, ..."""
SHARE: Final = 0.01
"""Share of the decoding steps that windows may cost."""
_ADVANCE: Final = 8.0 * LENGTH
"""Steps that the windows of a batch size may cost at once, such as in the first seconds of an engine."""
_GAIN: Final = 0.01
"""Gain, as a logarithm, above which an engine speculates; a smaller one is not worth the risk."""
_BETTER: Final = 0.02
"""Gain over the present number of draft tokens, as a logarithm, for which another one is taken."""
_TRIED: Final = 1.5
"""Windows after which a number of draft tokens may be chosen: two, of which a little is forgotten."""
_REMEMBERED: Final = 24
"""Windows over which the time of a step is averaged."""
_CERTAIN: Final = 8
"""Windows without draft tokens that an engine makes soon after it has begun to speculate."""
_SETTLED: Final = 20
"""Windows after which a number of draft tokens is only tried again from time to time."""
_NOISE: Final = 0.08
"""Standard deviation of a window's log ratio before any is known; on shared cores, 0.05 to 0.15 were seen."""
_SHOWN: Final = 0.10
"""Standard error of a gain's logarithm above which the gain is unknown."""
_OPTIMISM: Final = 1.5
"""Standard errors by which a number of draft tokens may be better than it seems, and is worth a window."""
_RECHECK: Final = 1024
"""Steps between windows of a speculating engine once no other number of draft tokens is likely to be better."""
_RETRY: Final = 4096
"""Steps between windows of an engine that uses no draft tokens because none gain; each window costs it time."""
_FORGOTTEN: Final = 200_000.0
"""Steps after which the weight of a window has fallen to 1/e."""
_AGING: Final = 0.10 / 50_000**0.5
"""Standard deviation by which a step's time may drift in one step; it grows with the square root of the steps."""
_REVIEW: Final = 32
"""Steps after which the choice is reviewed with the present acceptance."""
_SURPRISE: Final = 3.5
"""Standard errors from which a window contradicts what was known; two in a row start the average again."""
_LATELY: Final = 600.0
"""Seconds of decoding after which the weight of a second has fallen to 1/e in the gain over all batch sizes."""
_FADING: Final = 1 / 500
"""Weight of a step in the averages of times and prompts."""


@dataclass(frozen=True)
class Step:
    """A step of the engine."""

    batch: int
    """Requests in the step."""
    verified: int
    """Draft tokens per request that were ordered for this step."""
    ordered: int
    """Draft tokens per request that this step orders for the next one."""
    emitted: Sequence[int]
    """Output tokens of each request that decoded."""
    seconds: float
    drafting: float = math.nan
    """Seconds of them spent on drafting; NaN if not measured."""
    prompt_tokens: int = 0
    """Prompt tokens that the step computed."""


@dataclass
class _Time:
    """Time of a step with some number of draft tokens."""

    log_ratio: float = 0.0
    """Natural logarithm of the time; only differences between numbers of draft tokens have a meaning."""
    windows: float = 0.0
    updated: int = 0
    """Step of the last window."""
    surprises: int = 0


@dataclass(frozen=True)
class Choice:
    """Present state of a group of batch sizes."""

    tokens: int
    """Draft tokens per request."""
    gain: float | None
    """Output tokens per second over those without draft tokens; None until measured."""
    seconds: float
    """Seconds of decoding at this batch size in about the last ten minutes; older ones weigh less."""


class DraftLengths:
    """Number of draft tokens for each batch size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._acceptance = Acceptance(most)
        self._prompts = _Prompts()
        self._sizes: dict[int, _Size] = {}
        self._seconds = np.zeros(SIZES)
        self._steps = 0
        self._last: _Size | None = None

    def choose(self, batch: int) -> int:
        """Return the number of draft tokens to order in a step of this many requests."""
        return self._of(batch).next_tokens()

    def observe(self, step: Step) -> bool:
        """Learn from a finished step; return whether a comparison was completed."""
        size = self._of(step.batch)
        if self._last is not None and self._last is not size:
            self._last.leave()
        self._last = size
        self._steps += 1
        if self._steps % _REVIEW == 0:
            self._acceptance.fade(_REVIEW)
        self._seconds *= math.exp(-step.seconds / _LATELY)
        self._seconds[group(step.batch)] += step.seconds
        self._prompts.add(step)
        size.acceptance.add(step.verified, [emitted - 1 for emitted in step.emitted])
        return size.add(step)

    def choices(self) -> dict[int, Choice]:
        """Return the present choice of each group of batch sizes that was seen, by index."""
        return {
            index: Choice(*size.state(), float(self._seconds[index]))
            for index, size in sorted(self._sizes.items())
        }

    def _of(self, batch: int) -> "_Size":
        index = group(batch)
        if index not in self._sizes:
            self._sizes[index] = _Size(
                self._most, Acceptance(self._most, shared=self._acceptance), self._prompts
            )
        return self._sizes[index]


def group(batch: int) -> int:
    """Return the index of the group that a batch size belongs to."""
    return min(max(batch - 1, 0).bit_length(), SIZES - 1)


def overall(choices: Mapping[int, Choice]) -> float | None:
    """Return the gain over all batch sizes, weighted by their time; None while less than half of it is known."""
    total = sum(choice.seconds for choice in choices.values())
    known = [(choice.seconds, choice.gain) for choice in choices.values() if choice.gain]
    spent = sum(seconds for seconds, _ in known)
    if not spent or spent < total / 2:
        return None
    return sum(seconds * gain for seconds, gain in known) / spent


class _Prompts:
    """Cost of reading prompts with the draft model, which an engine without draft tokens does not have."""

    def __init__(self) -> None:
        self._tokens = self._drafting = 0.0
        self._prompt = self._output = 0.0
        self._usual: dict[tuple[int, int], float] = {}

    def add(self, step: Step) -> None:
        """Count a step's prompt and output tokens and its time of drafting."""
        kind = (group(step.batch), step.ordered)
        self._prompt += _FADING * (step.prompt_tokens - self._prompt)
        self._output += _FADING * (sum(step.emitted) - self._output)
        if math.isnan(step.drafting) or not step.ordered or step.verified != step.ordered:
            return
        if not step.prompt_tokens:
            usual = self._usual.get(kind, step.drafting)
            self._usual[kind] = usual + _FADING * 10 * (step.drafting - usual)
        elif kind in self._usual:
            self._tokens += _FADING * (step.prompt_tokens - self._tokens)
            self._drafting += _FADING * (
                max(step.drafting - self._usual[kind], 0.0) - self._drafting
            )

    @property
    def per_output_token(self) -> float:
        """Seconds of drafting for prompts, per output token."""
        if not self._tokens or not self._output:
            return 0.0
        return self._drafting / self._tokens * self._prompt / self._output


class _Size:
    """A group of batch sizes."""

    def __init__(self, most: int, acceptance: Acceptance, prompts: _Prompts) -> None:
        self.acceptance = acceptance
        self._prompts = prompts
        self._most = most
        self._windows = Windows()
        self._usual = 0
        self._times = {0: _Time()}
        self._variance, self._noise_windows = _NOISE**2, 2
        self._step_seconds = self._batch = 0.0
        self._steps = self._last_window = 0
        self._budget = _ADVANCE

    def next_tokens(self) -> int:
        """Return the number of draft tokens to order."""
        return self._windows.tokens(self._usual)

    def leave(self) -> None:
        """Note that a step had another batch size."""
        self._windows.interrupt()

    def state(self) -> tuple[int, float | None]:
        """Return the number of draft tokens in use, and its gain."""
        known = self._usual in self._tried() and len(self._tried()) > 1
        if self._usual and self._gain_error(self._usual) > _SHOWN:
            known = False
        gain = math.exp(self._log_gain(self._usual)) if known else None
        return self._usual, gain

    def add(self, step: Step) -> bool:
        """Count a step of this batch size."""
        self._steps += 1
        self._budget = min(self._budget + SHARE, _ADVANCE)
        if step.prompt_tokens or not step.emitted:
            self._windows.interrupt()
            return False
        if step.verified != step.ordered:
            self._windows.interrupt(step.seconds)
            return False
        if step.verified == self._usual:
            self._average(step)
        found = self._windows.add(step.verified, seconds=step.seconds, emitted=sum(step.emitted))
        if found is not None:
            self._budget -= max(found.lost, 0.0)
            self._learn(found)
        if self._steps % _REVIEW == 0:
            self.acceptance.fade(_REVIEW)
        if found is not None or self._steps % _REVIEW == 0:
            self._review()
        if self._windows.ready and self._steps % LENGTH == 0:
            self._begin_window()
        return found is not None

    def _average(self, step: Step) -> None:
        base = step.seconds / math.exp(self._log_ratio(self._usual))
        if not self._step_seconds:
            self._step_seconds, self._batch = base, float(step.batch)
        usual = min(base, 5 * self._step_seconds)
        self._step_seconds += _FADING * 5 * (usual - self._step_seconds)
        self._batch += _FADING * 5 * (step.batch - self._batch)

    def _learn(self, found: Comparison) -> None:
        """Take a window into the average of the number of draft tokens that it compared."""
        tokens, target = found.tokens, self._times[found.usual].log_ratio + found.log_ratio
        time = self._times.setdefault(tokens, _Time())
        time.windows *= math.exp((time.updated - self._steps) / _FORGOTTEN)
        time.updated = self._steps
        if not time.windows:
            time.log_ratio, time.windows = target, 1.0
            self._learn_noise(found.error**2)
            return
        error = target - time.log_ratio
        expected = math.sqrt(self._variance * (1 + 1 / time.windows))
        if abs(error) > _SURPRISE * expected:
            time.surprises += 1
            if time.surprises > 1:
                # NB: the other numbers are likely to have changed, too.
                for other in self._times.keys() - {found.usual}:
                    self._times[other].windows = min(self._times[other].windows, 1.0)
                self._times[tokens] = _Time(target, 1.0, self._steps)
                return
        else:
            time.surprises = 0
            self._learn_noise(max(error**2 / (1 + 1 / time.windows), found.error**2))
        most = _SURPRISE * expected / 2
        time.windows = min(time.windows + 1, _REMEMBERED)
        time.log_ratio += min(max(error, -most), most) / time.windows

    def _learn_noise(self, variance: float) -> None:
        """Take the variance of a window into their average, in which the first ones weigh most."""
        self._noise_windows = min(self._noise_windows + 1, _REMEMBERED)
        self._variance += (variance - self._variance) / self._noise_windows

    def _review(self) -> None:
        """Choose the number of draft tokens by what is known now."""
        tried = self._tried()
        best = max(tried, key=self._log_gain)
        sure = self._log_gain(best) - self._gain_error(best) > _GAIN
        if self._usual and self._log_gain(self._usual) < _GAIN / 2:
            chosen = best if sure else 0
        elif self._usual:
            better = self._log_gain(best) - self._log_gain(self._usual)
            margin = max(_BETTER, self._error(best) / 2)
            chosen = best if best and better > margin else self._usual
        else:
            chosen = best if sure else 0
        self._switch(chosen)

    def _switch(self, tokens: int) -> None:
        """Use this number of draft tokens. What is known of the time without any goes with it."""
        plain = self._times[0]
        if tokens and not self._usual:
            # NB: the number was chosen because its windows were fast, some by luck. Later windows are compared afresh.
            plain.windows, plain.updated = 1.0, self._steps
        elif self._usual and not tokens:
            for time in self._times.values():
                time.windows = min(time.windows, max(plain.windows, 1.0))
        self._usual = tokens

    def _begin_window(self) -> None:
        tokens = self._next_window()
        if tokens is not None:
            self._last_window = self._steps
            self._windows.begin(tokens)

    def _next_window(self) -> int | None:
        """Return the number of draft tokens to try next; None while none is worth it."""
        if self._budget <= 0:
            return None
        for tokens, least in ((self._most, _TRIED), (1, _TRIED), (0, _CERTAIN)):
            if tokens != self._usual and self._windows_of(tokens) < least:
                return self._affordable(tokens)
        unsettled = [
            tokens
            for tokens in range(self._most + 1)
            if tokens != self._usual and self._windows_of(tokens) < _SETTLED
        ]
        promising = max(unsettled, key=self._hope, default=self._usual)
        if self._hope(promising) > self._log_gain(self._usual) + _GAIN:
            return self._affordable(promising)
        if self._steps - self._last_window < (_RECHECK if self._usual else _RETRY):
            return None
        others = [tokens for tokens in range(self._most + 1) if tokens != self._usual]
        likeliest = max(others, key=self._hope)
        # NB: every second window compares with no draft tokens, so that speculation never loses for long.
        since = self._times[0].updated
        oldest = all(time.updated <= since for time in self._times.values())
        return self._affordable(likeliest if oldest or not self._usual else 0)

    def _affordable(self, tokens: int) -> int | None:
        """Return the number if the budget covers its window."""
        known = self.acceptance.known(tokens) and self._windows_of(tokens)
        behind = self._log_gain(self._usual) - self._log_gain(tokens) if known else math.log(2)
        cost = LENGTH * (1 - math.exp(-max(behind, 0.0)))
        return tokens if cost <= self._budget else None

    def _windows_of(self, tokens: int) -> float:
        return self._times[tokens].windows if tokens in self._times else 0.0

    def _tried(self) -> set[int]:
        return {
            tokens
            for tokens, time in self._times.items()
            if tokens == 0 or (time.windows >= _TRIED and self.acceptance.known(tokens))
        }

    def _hope(self, tokens: int) -> float:
        """Return the gain, as a logarithm, that this number of draft tokens may have."""
        return self._log_gain(tokens) + _OPTIMISM * self._error(tokens)

    def _log_gain(self, tokens: int) -> float:
        """Return the logarithm of output tokens per second over those without draft tokens."""
        if not tokens:
            return 0.0
        plain = self._step_seconds / max(self._batch, 1.0)
        spent = plain * math.exp(self._log_ratio(tokens)) / self.acceptance.length(tokens)
        return math.log(plain / (spent + self._prompts.per_output_token)) if plain else 0.0

    def _log_ratio(self, tokens: int) -> float:
        """Return the logarithm of a step's time over that of one without draft tokens.

        It lies between those of the nearest measured numbers, if this one is not measured.
        """
        return self._log_time(tokens) - self._log_time(0)

    def _log_time(self, tokens: int) -> float:
        if tokens in self._times:
            return self._times[tokens].log_ratio
        below = max(one for one in self._times if one < tokens)
        above = min((one for one in self._times if one > tokens), default=below)
        first, last = self._times[below].log_ratio, self._times[above].log_ratio
        return first + (last - first) * (tokens - below) / max(above - below, 1)

    def _error(self, tokens: int) -> float:
        """Return the standard error of the gain's logarithm relative to that of the present number."""
        return math.sqrt(self._time_variance(tokens) + self.acceptance.variance(tokens))

    def _gain_error(self, tokens: int) -> float:
        """Return the standard error of the gain's logarithm."""
        times = self._time_variance(tokens) + self._time_variance(0)
        return math.sqrt(times + self.acceptance.variance(tokens))

    def _time_variance(self, tokens: int) -> float:
        """Return the variance of the time's logarithm relative to that of the present number."""
        if tokens == self._usual:
            return 0.0
        if tokens not in self._times:
            return self._variance
        time = self._times[tokens]
        drift = _AGING**2 * (self._steps - time.updated)
        return self._variance / max(time.windows, 1.0) + drift

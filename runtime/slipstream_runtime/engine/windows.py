"""Windows of decoding steps with another number of draft tokens than usual. Pure: they need no clock."""

import collections
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LENGTH: Final = 12
"""Steps of a window. At 20 ms a step, the three windows of a comparison are over within a second, in which load and
machine hardly change."""
_PATIENCE: Final = 8 * LENGTH
"""Steps of other kinds (prompts, other batch sizes) after which a comparison is given up."""
_STALL: Final = 3.0
"""Multiple of the median time above which a step counts as this multiple, because something else delayed it."""


def possible(
    *, varies: bool, own_scheduler: bool, ranks: int, second_runner: bool, full_graphs: bool
) -> bool:
    """Whether the number of draft tokens may change from step to step.

    vLLM takes `num_speculative_tokens_per_batch_size` under the same conditions: ranks of data parallelism would
    diverge, and full CUDA graphs are captured for one number only. Its second model runner, which CUDA uses, runs steps
    of another length without graphs. A window there would be slower than an engine that always has this number.
    """
    return not varies and not own_scheduler and ranks == 1 and not second_runner and not full_graphs


@dataclass(frozen=True)
class Comparison:
    """Result of a window."""

    tokens: int
    """Draft tokens per request in the window."""
    usual: int
    """Draft tokens per request in the steps around it."""
    log_ratio: float
    """Natural logarithm of the time of a step in the window, over the time of a step around it."""
    error: float
    """Standard error of it, by the scatter of the steps."""
    lost: float
    """Usual steps that would have made the window's output tokens in less time."""


class Windows:
    """Windows of one batch size, each with usual steps before and after it."""

    def __init__(self) -> None:
        self._before: collections.deque[tuple[float, int]] = collections.deque(maxlen=LENGTH)
        self._usual: int | None = None
        self._tokens: int | None = None
        self._during: list[tuple[float, int]] = []
        self._after: list[tuple[float, int]] = []
        self._other = 0
        self._switching = 0.0

    @property
    def open(self) -> bool:
        """Whether a comparison is under way."""
        return self._tokens is not None

    @property
    def ready(self) -> bool:
        """Whether enough usual steps lie behind to begin a window."""
        return not self.open and len(self._before) == LENGTH

    def begin(self, tokens: int) -> None:
        """Use this number of draft tokens for the next steps."""
        self._tokens, self._other, self._switching = tokens, 0, 0.0
        self._during, self._after = [], []

    def tokens(self, usual: int) -> int:
        """Return the number of draft tokens of the next step."""
        if self._tokens is None or len(self._during) >= LENGTH:
            return usual
        return self._tokens

    def interrupt(self, seconds: float = 0.0) -> None:
        """Count a step that can't be compared: of another batch size, with a prompt, or between two numbers."""
        self._switching += seconds
        self._other += 1
        if self._other > _PATIENCE:
            self._tokens = None
            self._before.clear()

    def add(self, drafted: int, *, seconds: float, emitted: int) -> Comparison | None:
        """Count a step that verified `drafted` tokens per request; return the comparison that it completes."""
        step = (seconds, emitted)
        if self._tokens is None:
            self._other = 0
            if drafted != self._usual:
                self._before.clear()
                self._usual = drafted
            self._before.append(step)
            return None
        if len(self._during) < LENGTH:
            if drafted == self._tokens:
                self._during.append(step)
            return None
        if drafted != self._usual:
            return None
        self._after.append(step)
        return self._complete() if len(self._after) == LENGTH else None

    def _complete(self) -> Comparison:
        assert self._tokens is not None
        assert self._usual is not None
        around = [*self._before, *self._after]
        usual_step, usual_error = _mean(seconds for seconds, _ in around)
        step, error = _mean(seconds for seconds, _ in self._during)
        emitted = statistics.fmean(tokens for _, tokens in around)
        took = sum(seconds for seconds, _ in self._during) + self._switching
        found = Comparison(
            self._tokens,
            self._usual,
            math.log(step / usual_step),
            math.hypot(error, usual_error),
            took / usual_step - sum(tokens for _, tokens in self._during) / emitted,
        )
        self._before.clear()
        self._before.extend(self._after)
        self._tokens = None
        return found


def _mean(seconds: Iterable[float]) -> tuple[float, float]:
    """Return the mean in which delayed steps count as slow ones, and its relative standard error."""
    times = list(seconds)
    most = _STALL * statistics.median(times)
    limited = [min(each, most) for each in times]
    mean = statistics.fmean(limited)
    return mean, statistics.stdev(limited) / math.sqrt(len(limited)) / mean

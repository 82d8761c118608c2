"""Windows in which an engine pauses speculation to measure its gain. Pure: it counts steps and needs no clock."""

from typing import Final

LENGTH: Final = 16
"""Steps of a window; its edges, where half a step speculates, don't matter at this length."""
GAP: Final = 49 * LENGTH
"""Steps between two windows, so that one step in 50 has no speculation."""
EARLY: Final = 16
"""First windows, which come sooner, so that the gain of a new draft is known after about a minute of decoding."""
EARLY_GAP: Final = 9 * LENGTH
"""Steps between two of the first windows."""


def possible(
    *, varies: bool, own_scheduler: bool, ranks: int, second_runner: bool, full_graphs: bool
) -> bool:
    """Whether the number of draft tokens may change from step to step, so that windows measure the gain.

    vLLM takes `num_speculative_tokens_per_batch_size` under the same conditions: ranks of data parallelism would
    diverge, and full CUDA graphs are captured for one number only. Its second model runner, which CUDA uses, runs steps
    of another length without graphs. A window there would be slower than an engine without speculation, which would
    overstate the gain.
    """
    return not varies and not own_scheduler and ranks == 1 and not second_runner and not full_graphs


class Windows:
    """Short windows without speculation; an idle engine makes no steps, so it has no windows."""

    def __init__(self) -> None:
        self.suspended = False
        self._ended = 0
        self._span = self._left = EARLY_GAP

    @property
    def near(self) -> bool:
        """Whether this step is in or close to a window, so that load and machine are the same as in the window."""
        return self._left <= LENGTH or (self._ended > 0 and self._span - self._left < LENGTH)

    def step(self) -> bool:
        """Count one step, and return whether it was the last one of a window."""
        self._left -= 1
        if self._left:
            return False
        over = self.suspended
        self._ended += over
        self.suspended = not over
        early = self._ended < EARLY
        self._span = self._left = LENGTH if self.suspended else EARLY_GAP if early else GAP
        return over

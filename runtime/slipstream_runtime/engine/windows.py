"""When an engine goes without speculation to see what it is worth. Pure: it counts steps, and knows no clock."""

from typing import Final

LENGTH: Final = 16
"""Steps of a window: long enough that its edges, where half a step speculates, don't matter."""
GAP: Final = 49 * LENGTH
"""Steps between two windows: one step in fifty goes without."""
EARLY: Final = 16
"""Windows after a start that come sooner, so that a new draft is judged within a minute or so of decoding."""
EARLY_GAP: Final = 9 * LENGTH


def possible(
    *, varies: bool, own_scheduler: bool, ranks: int, second_runner: bool, full_graphs: bool
) -> bool:
    """Whether the number of draft tokens may change from step to step, so that windows measure the gain.

    vLLM takes `num_speculative_tokens_per_batch_size` under the same conditions: ranks of data parallelism would part,
    and full CUDA graphs are captured for one number only. Its second model runner, which CUDA takes, runs steps of
    another length without them. A window there would be slower than an engine without speculation, so that the gain
    would be overstated.
    """
    return not varies and not own_scheduler and ranks == 1 and not second_runner and not full_graphs


class Windows:
    """Short windows without speculation; steps are only made while requests run, so an idle engine has none."""

    def __init__(self) -> None:
        self.suspended = False
        self._ended = 0
        self._span = self._left = EARLY_GAP

    @property
    def near(self) -> bool:
        """Whether this is a window, or close to one: such steps have the same load and machine as the window's."""
        return self._left <= LENGTH or (self._ended > 0 and self._span - self._left < LENGTH)

    def step(self) -> bool:
        """Count one step; whether it was the last one of a window."""
        self._left -= 1
        if self._left:
            return False
        over = self.suspended
        self._ended += over
        self.suspended = not over
        early = self._ended < EARLY
        self._span = self._left = LENGTH if self.suspended else EARLY_GAP if early else GAP
        return over

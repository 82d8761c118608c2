"""`python -m benchmarks.borders.attacker NAME`: one attack, as a process of its own.

The lab's ports come on stdin. The number of borders that were crossed goes to stdout.
"""

import asyncio
import os
import resource
import sys

from benchmarks.borders.catalogue import ATTACKS
from benchmarks.borders.wire import CONNECTIONS, Deadline, Targets


def main() -> None:
    """Attack until the time is over."""
    os.nice(5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(hard, 2 * CONNECTIONS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    attack = ATTACKS[sys.argv[1]]
    target = getattr(Targets.parse(sys.stdin.read()), attack.target)
    print(asyncio.run(_attack(sys.argv[1], target)) or 0, flush=True)


async def _attack(name: str, target: object) -> int | None:
    attack = ATTACKS[name]
    deadline = Deadline(attack.seconds)
    # NB: all connections end with the process.
    try:
        async with asyncio.timeout(attack.seconds + 1):
            return await attack.run(target, deadline)  # type: ignore[arg-type]
    except TimeoutError:
        return None


if __name__ == "__main__":
    main()

"""Clients of an engine in processes of their own: `python -m dev.gpu.clients` reads an offer and prints its records.

One process can't read the tokens of a thousand streams as fast as a GPU makes them.
"""

import asyncio
import dataclasses
import json
import math
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from dev.gpu.engines import NAME
from slipstream_runtime.evaluate import load, records, traffic

CLIENTS_A_PROCESS: Final = 64
_TIDS: Final = range(100, 800)
"""Token ids that both the tiny model and the made-up ones have."""
_BODIES: Final = 512
"""Prompts that are drawn; they are used in turn, and no engine of the check caches prefixes."""


@dataclass(frozen=True)
class Offer:
    """A load: closed (`clients`) or open (`rate` a second); lengths vary around medians by `sigma`."""

    url: str
    seconds: float
    prompt: int
    output: int
    clients: int | None = None
    rate: float | None = None
    sigma: float = 0.0
    most: int = 4096
    """Tokens that a prompt and its answer may have together."""
    seed: int = 0

    def plan(self) -> traffic.Plan:
        """Return it as load.run takes it."""
        return traffic.Plan(
            url=self.url,
            model=NAME,
            duration=self.seconds,
            concurrency=self.clients,
            rate=self.rate,
            prompts=tuple(self._bodies()),
            connect_retries=0,
            timeout=120.0,
            seed=self.seed,
        )

    def split(self, processes: int) -> list["Offer"]:
        """Return the parts of this load, one for each process."""
        if self.clients is None:
            return [self]
        shares = [self.clients // processes] * processes
        for index in range(self.clients % processes):
            shares[index] += 1
        return [
            dataclasses.replace(self, clients=share, seed=1000 * self.seed + index)
            for index, share in enumerate(shares)
            if share
        ]

    def _bodies(self) -> Iterator[dict[str, object]]:
        dice = random.Random(self.seed)
        for _ in range(_BODIES):
            prompt = min(self._length(dice, self.prompt), self.most // 2)
            output = min(self._length(dice, self.output), self.most - prompt)
            yield {
                "prompt": dice.choices(_TIDS, k=prompt),
                "max_tokens": output,
                "temperature": 0,
                "ignore_eos": True,
                # NB: a token without text would be seen only with the next one.
                "skip_special_tokens": False,
            }

    def _length(self, dice: random.Random, median: int) -> int:
        return max(2, round(median * dice.lognormvariate(0, self.sigma)))


async def send(offer: Offer) -> tuple[records.Record, ...]:
    """Send the load from as many processes as its clients need; all their records."""
    wanted = math.ceil((offer.clients or 1) / CLIENTS_A_PROCESS)
    parts = offer.split(max(1, min(wanted, (os.cpu_count() or 2) - 1)))
    found = await asyncio.gather(*map(_process, parts))
    return tuple(sorted((one for each in found for one in each), key=lambda one: one.start))


async def _process(offer: Offer) -> list[records.Record]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dev.gpu.clients",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate(json.dumps(dataclasses.asdict(offer)).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the clients ended with {process.returncode}")
    return [records.Record(**fields) for fields in json.loads(output)]


def main() -> None:
    """Run one part of a load."""
    given: dict[str, Any] = json.load(sys.stdin)
    report = asyncio.run(load.run(Offer(**given).plan()))
    json.dump([dataclasses.asdict(one) for one in report.records], sys.stdout)


if __name__ == "__main__":
    main()

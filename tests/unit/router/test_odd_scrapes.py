"""An engine's page is what its image writes. No number of it is a fault of the router, or a load without a bound."""

import math
from typing import Final

from slipstream_runtime import contract
from slipstream_runtime.router.balancing import scrape
from tests.support.odd import NUMBERS, TEXTS, Odd

PAGES: Final = 5000
SERIES: Final = (contract.WAITING, contract.KV_USAGE, contract.SEQUENCES, "x")


def test_any_page_is_a_load_or_unknown() -> None:
    known = 0
    for number in range(PAGES):
        odd = Odd(number)
        lines = [
            f'{odd.random.choice(SERIES)}{{engine="{odd.random.choice(TEXTS)}"}} '
            f"{odd.random.choice((*NUMBERS, *TEXTS))}"
            for _ in range(odd.random.randrange(6))
        ]
        load = scrape.parse("\n".join([*lines, ""]).encode(), at=1.0)
        assert load.sequences is None or 1 <= load.sequences < 2**20
        assert all(value is None or 0 <= value < math.inf for value in (load.waiting, load.kv))
        known += load.waiting is not None
    assert PAGES / 10 < known < PAGES

"""Budgets over several routers: never more than one bucket would give, and no less while messages arrive."""

import asyncio
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream_runtime.router.tenants.budgets import (
    Budgets,
    Loan,
    OverBudgetError,
    Reservation,
)

TENANT = "a"
BUDGET = 1000
PER_SECOND = BUDGET / 60
ROUTERS = st.integers(1, 4)


class Network:
    """Routers of a namespace in this process, on a clock of their own, with messages that can be lost."""

    def __init__(self, routers: int, *, lost: Callable[[], bool] = lambda: False) -> None:
        self.now = 1000.0
        self.lost = lost
        self.routers = [self._start(number, began=0.0) for number in range(routers)]

    def _start(self, number: int, *, began: float) -> Budgets:
        return Budgets(Others(self, number), clock=lambda: self.now, began=began)

    def restart(self, number: int) -> None:
        self.routers[number] = self._start(number, began=self.now)

    def join(self) -> None:
        self.routers.append(self._start(len(self.routers), began=self.now))
        self.touch()

    def leave(self) -> None:
        self.routers.pop()
        self.touch()

    def left(self) -> float:
        return sum(router.left(TENANT) for router in self.routers)

    def touch(self) -> None:
        """Let each router know the tenant."""
        for router in self.routers:
            router.take_back(TENANT, per_minute=BUDGET, unused=0.0)

    def reserve(self, number: int, tokens: int) -> Reservation | None:
        try:
            return asyncio.run(
                self.routers[number].reserve(TENANT, per_minute=BUDGET, tokens=tokens)
            )
        except OverBudgetError:
            return None


class Others:
    """The network as one router sees it."""

    def __init__(self, network: Network, own: int) -> None:
        self._network = network
        self._own = own

    @property
    def count(self) -> int:
        return len(self.names()) if hasattr(self._network, "routers") else 0

    def names(self) -> Sequence[str]:
        found = range(len(self._network.routers))
        return [str(number) for number in found if number != self._own]

    async def lend(
        self, router: str, tenant: str, *, per_minute: int, need: float, room: float
    ) -> Loan | None:
        if self._network.lost():
            return None
        lender = self._network.routers[int(router)]
        loan = lender.lend(tenant, per_minute=per_minute, need=need, room=room)
        return None if self._network.lost() else loan

    def give_back(self, router: str, tenant: str, *, per_minute: int, unused: float) -> None:
        if not self._network.lost() and int(router) < len(self._network.routers):
            lender = self._network.routers[int(router)]
            lender.take_back(tenant, per_minute=per_minute, unused=unused)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "settle", "restart", "join", "leave"]),
        st.integers(0, 3),
        st.integers(1, BUDGET),
        st.floats(0, 40),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(ROUTERS, STEPS, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.3, 1.0]))
def test_all_routers_together_never_give_more_than_one_bucket(
    routers: int, steps: list[tuple[str, int, int, float]], chance: object, losses: float
) -> None:
    """Tokens that are left and tokens that were given grow by the budget's pace at most, whatever is lost."""
    random: Callable[[], float] = chance.random  # type: ignore[attr-defined]
    network = Network(routers, lost=lambda: random() < losses)
    network.touch()
    running: list[tuple[Reservation, int]] = []
    given_out = 0.0
    for action, number, tokens, pause in steps:
        before = network.left() + given_out
        network.now += pause
        debts = [max(0.0, -each.left(TENANT)) for each in network.routers]
        routers = len(network.routers)
        router = number % routers
        if action == "reserve":
            found = network.reserve(router, tokens)
            if found is not None:
                running.append((found, router))
                given_out += tokens
        elif action == "settle" and running:
            reservation, _ = running.pop(number % len(running))
            used = tokens % (2 * reservation.tokens)
            reservation.settle(used)
            given_out += used - reservation.tokens
        elif action == "restart" and routers > 1:
            network.restart(router)
            network.touch()
            before += debts[router]  # a router that stops forgets what answers used beyond
            running = [each for each in running if each[1] != router]
        elif action == "join" and routers < 5:
            network.join()
        elif action == "leave" and routers > 1:
            network.leave()
            before += debts[-1]
            running = [each for each in running if each[1] != routers - 1]
        assert network.left() <= BUDGET + 1e-3
        assert network.left() + given_out <= before + PER_SECOND * pause + 1e-3


@settings(deadline=None)
@given(ROUTERS, st.lists(st.tuples(st.integers(0, 3), st.integers(1, BUDGET), st.floats(0.3, 30))))
def test_while_messages_arrive_a_request_gets_all_tokens_that_the_routers_have(
    routers: int, requests: list[tuple[int, int, float]]
) -> None:
    network = Network(routers)
    network.touch()
    for number, tokens, pause in requests:
        network.now += pause
        there = network.left()
        found = network.reserve(number % routers, tokens)
        assert (found is not None) == (there >= tokens - 1e-3) or abs(there - tokens) < 1e-3
        if found is not None:
            assert network.left() == pytest.approx(there - tokens, abs=1e-3)
            found.settle(tokens // 2)
            assert network.left() <= BUDGET + 1e-3


def test_a_client_of_one_router_alone_gets_the_whole_budget_over_time() -> None:
    network = Network(3)
    network.touch()
    given_out = 0
    for _ in range(600):
        network.now += 0.5
        while (found := network.reserve(0, 20)) is not None:
            found.settle(20)
            given_out += 20
    assert given_out == pytest.approx(BUDGET + 300 * PER_SECOND, rel=0.02)


def test_a_router_that_reaches_no_other_gives_its_equal_share() -> None:
    network = Network(2, lost=lambda: True)
    network.touch()
    given_out = 0
    for _ in range(600):
        network.now += 0.5
        while network.reserve(0, 20) is not None:
            given_out += 20
    assert given_out == pytest.approx((BUDGET + 300 * PER_SECOND) / 2, rel=0.02)


def test_what_a_large_request_borrows_and_does_not_use_goes_back() -> None:
    network = Network(4)
    network.touch()
    for _ in range(20):
        found = network.reserve(0, 900)
        assert found is not None
        found.settle(1)
    assert network.left() == pytest.approx(BUDGET - 20)


def test_a_router_that_starts_beside_others_earns_its_share_first() -> None:
    network = Network(2)
    network.touch()
    assert network.reserve(0, BUDGET) is not None
    network.restart(1)
    assert network.reserve(1, 1) is None
    network.now += 30
    assert network.reserve(1, BUDGET // 2) is not None
    assert network.reserve(1, 10) is None


def test_a_request_is_told_when_all_routers_will_have_enough() -> None:
    network = Network(2)
    network.touch()
    assert network.reserve(0, 600) is not None
    with pytest.raises(OverBudgetError) as refused:
        asyncio.run(network.routers[1].reserve(TENANT, per_minute=BUDGET, tokens=650))
    assert refused.value.wait == pytest.approx(250 / PER_SECOND)
    with pytest.raises(OverBudgetError) as refused:
        asyncio.run(network.routers[1].reserve(TENANT, per_minute=BUDGET, tokens=BUDGET + 1))
    assert math.isinf(refused.value.wait)


def test_an_answer_that_used_more_than_was_reserved_is_paid_later() -> None:
    network = Network(1)
    found = network.reserve(0, 500)
    assert found is not None
    found.settle(BUDGET + 200)
    assert network.left() == -200
    network.now += 12
    assert network.reserve(0, 1) is None
    network.now += 1
    assert network.reserve(0, 1) is not None


def test_keys_of_one_tenant_with_different_budgets_do_not_refill_each_other() -> None:
    network = Network(1)
    router = network.routers[0]
    for per_minute in (1000, 100) * 10:
        try:
            asyncio.run(router.reserve(TENANT, per_minute=per_minute, tokens=per_minute))
        except OverBudgetError:
            continue
        assert per_minute == BUDGET
    assert router.left(TENANT) == 0

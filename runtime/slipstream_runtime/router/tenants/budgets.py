"""Token budgets of one service's tenants, which all routers of a namespace hold together.

Each router holds an equal share of every budget. A router whose share has too few tokens borrows from the others, and
returns what a request did not use. So each token is in one router at a time, and a message that is lost loses tokens
and never adds any. Times are in seconds.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

_QUIET_SECONDS: Final = 0.25
"""Seconds in which a router that found too few tokens does not ask the others for as many again."""
_EPSILON: Final = 1e-6
"""Tokens by which sums of shares may differ."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loan:
    """Tokens that another router gave."""

    lent: float = 0.0
    """Tokens for one request; the unused ones go back."""
    moved: float = 0.0
    """Further tokens, which stay with the borrower, so that it does not ask for each request."""
    left: float = 0.0
    """Tokens that the lender has left."""


class Lenders(Protocol):
    """Other routers of the namespace, for the budgets of one service."""

    @property
    def count(self) -> int:
        """Number of the other routers, including those that don't answer."""
        ...

    def names(self) -> Sequence[str]:
        """Return the other routers that may answer."""
        ...

    async def lend(
        self, router: str, tenant: str, *, per_minute: int, need: float, room: float
    ) -> Loan | None:
        """Ask a router for tokens of this budget; None if it does not answer."""
        ...

    def give_back(self, router: str, tenant: str, *, per_minute: int, unused: float) -> None:
        """Return unused tokens to the router that lent them."""
        ...


class OverBudgetError(Exception):
    """Raised for a request that the budget can't pay; `wait` in seconds, infinite if no wait suffices."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"wait {wait:g} s")
        self.wait = wait


class Bucket:
    """Share of one tenant's budget: a token bucket that holds at most the share of a minute."""

    def __init__(self, per_minute: int, *, routers: int, level: float, now: float) -> None:
        self.per_minute = per_minute
        self.asking = asyncio.Lock()
        """Held while this router asks others for tokens of this budget."""
        self._routers = routers
        self._level = level
        self._at = now
        self._lent = 0.0
        self._held = 0.0
        self._lacked, self._quiet_until, self._wait = math.inf, -math.inf, 0.0

    @property
    def share(self) -> float:
        """Tokens that this router may hold, and that it gets each minute."""
        return self.per_minute / self._routers

    def level(self, now: float) -> float:
        """Return the tokens that are left; negative if answers used more than was reserved."""
        earned = max(0.0, now - self._at) * self.share / 60
        self._level = min(self.share, self._level + earned)
        self._at = now
        return self._level

    def resize(self, per_minute: int, *, routers: int, now: float) -> None:
        """Set the budget and the number of routers. The bucket stays as full as before, and never above its share."""
        if (per_minute, routers) == (self.per_minute, self._routers):
            return
        level = self.level(now) * per_minute / self.per_minute
        self.per_minute, self._routers = per_minute, routers
        self._level = min(self.share, level)

    def add(self, tokens: float, *, now: float) -> None:
        """Add tokens, up to the share; less than 0 takes them."""
        self._level = min(self.share, self.level(now) + tokens)

    def hold(self, tokens: float, *, now: float) -> float:
        """Take as many of the tokens as there are, and return their number."""
        held = min(tokens, max(0.0, self.level(now)))
        self._level -= held
        return held

    def room(self, now: float) -> float:
        """Return the tokens that others can add, beside those that are there or held and may come back."""
        return max(0.0, self.share - max(0.0, self.level(now)) - self._held)

    def reserve(self, held: float) -> None:
        """Note that tokens are held for a request."""
        self._held += held

    def settle(self, held: float, *, unused: float, now: float) -> None:
        """Add the unused tokens of those that were held for a request; less than 0 if it used more."""
        self._held -= held
        self.add(unused, now=now)

    def lend(self, need: float, *, room: float, now: float) -> Loan:
        """Take tokens for another router: those that it needs, and up to half of the rest if that covers the need."""
        lent = self.hold(need, now=now)
        moved = min(room, self._level / 2) if lent >= need else 0.0
        self._level -= moved
        self._lent = min(self.per_minute, self._lent + lent)
        return Loan(lent=lent, moved=moved, left=max(0.0, self._level))

    def take_back(self, unused: float, *, now: float) -> None:
        """Add unused tokens of a loan: no more than were lent."""
        unused = min(unused, self._lent)
        self._lent -= unused
        self.add(unused, now=now)

    def found_too_few(self, lacked: float, *, wait: float, now: float) -> None:
        """Note that the other routers could not lend this many tokens."""
        self._lacked, self._wait = lacked, wait
        self._quiet_until = now + min(wait, _QUIET_SECONDS)

    def quiet(self, lacking: float, *, now: float) -> float | None:
        """Return the seconds to wait if the other routers have just refused as many tokens; otherwise None."""
        return self._wait if now < self._quiet_until and lacking >= self._lacked else None


class Reservation:
    """Tokens reserved for one request, until they are settled."""

    def __init__(
        self,
        budgets: "Budgets | None" = None,
        tenant: str = "",
        bucket: Bucket | None = None,
        *,
        tokens: int = 0,
        held: float = 0.0,
        loans: Sequence[tuple[str, float]] = (),
    ) -> None:
        self.tokens = tokens
        self._budgets = budgets
        self._tenant = tenant
        self._bucket = bucket
        self._held = held
        self._loans = loans
        if bucket is not None:
            bucket.reserve(held)

    def settle(self, used: int) -> None:
        """Settle with the tokens that the request used; further calls do nothing."""
        bucket, self._bucket = self._bucket, None
        if bucket is None or self._budgets is None:
            return
        unused: float = self.tokens - used
        own = min(unused, self._held)
        bucket.settle(self._held, unused=own, now=self._budgets.clock())
        self._budgets.give_back(self._tenant, bucket, self._loans, unused=unused - own)


FREE: Final = Reservation()
"""Reservation of a client without a budget."""


class Budgets:
    """Budgets of one service's tenants in one router."""

    def __init__(self, lenders: Lenders, *, clock: Callable[[], float], began: float) -> None:
        self.clock = clock
        self._lenders = lenders
        self._began = began
        """Time of the router's start. Until then another router may have spent this router's share."""
        self._buckets: dict[str, Bucket] = {}

    async def reserve(self, tenant: str, *, per_minute: int, tokens: int) -> Reservation:
        """Reserve tokens of the tenant's budget; OverBudgetError if all routers have too few."""
        if tokens > per_minute:
            raise OverBudgetError(math.inf)
        now = self.clock()
        bucket = self._bucket(tenant, per_minute, now=now)
        lacking = tokens - bucket.level(now)
        if lacking > 0:
            if self._lenders.count == 0:
                raise OverBudgetError(lacking * 60 / per_minute)
            async with bucket.asking:
                return await self._gather(tenant, bucket, tokens)
        held = bucket.hold(tokens, now=now)
        return Reservation(self, tenant, bucket, tokens=tokens, held=held)

    def left(self, tenant: str) -> float:
        """Return the tokens of the tenant that this router holds; 0 before its first request."""
        bucket = self._buckets.get(tenant)
        return 0.0 if bucket is None else bucket.level(self.clock())

    def lend(self, tenant: str, *, per_minute: int, need: float, room: float) -> Loan:
        """Give tokens to another router."""
        now = self.clock()
        return self._bucket(tenant, per_minute, now=now).lend(need, room=room, now=now)

    def take_back(self, tenant: str, *, per_minute: int, unused: float) -> None:
        """Take tokens that another router borrowed and did not use."""
        now = self.clock()
        self._bucket(tenant, per_minute, now=now).take_back(unused, now=now)

    def give_back(
        self, tenant: str, bucket: Bucket, loans: Sequence[tuple[str, float]], *, unused: float
    ) -> None:
        """Return unused tokens to the routers that lent them."""
        for router, lent in loans:
            part = min(unused, lent)
            if part > 0:
                self._lenders.give_back(router, tenant, per_minute=bucket.per_minute, unused=part)
                unused -= part

    async def _gather(self, tenant: str, bucket: Bucket, tokens: int) -> Reservation:
        """Reserve tokens, of which the other routers lend those that this router lacks."""
        now = self.clock()
        debt = max(0.0, -bucket.level(now))
        held = bucket.hold(tokens, now=now)
        lacking = missing = tokens - held + debt
        loans: list[tuple[str, float]] = []
        elsewhere = 0.0
        try:
            wait = bucket.quiet(lacking, now=now)
            if wait is not None:
                raise OverBudgetError(wait)
            for router in self._lenders.names():
                if missing <= _EPSILON:
                    break
                room = max(0.0, bucket.room(self.clock()) - held)
                loan = await self._lenders.lend(
                    router, tenant, per_minute=bucket.per_minute, need=missing, room=room
                )
                if loan is not None:
                    loans.append((router, loan.lent))
                    bucket.add(loan.moved, now=self.clock())
                    missing -= loan.lent
                    elsewhere += loan.left
            now = self.clock()
            earned = bucket.hold(max(0.0, missing), now=now)  # while the others were asked
            held, missing = held + earned, missing - earned
            if missing > _EPSILON:
                wait = max(0.0, missing - elsewhere) * 60 / bucket.per_minute
                bucket.found_too_few(lacking, wait=wait, now=now)
                raise OverBudgetError(wait)
        except BaseException:
            bucket.add(held, now=self.clock())
            self.give_back(tenant, bucket, loans, unused=math.inf)
            raise
        bucket.add(debt, now=now)
        return Reservation(self, tenant, bucket, tokens=tokens, held=held, loans=loans)

    def _bucket(self, tenant: str, per_minute: int, *, now: float) -> Bucket:
        """Return the tenant's bucket. The first one of a router alone is full, since no other router spends."""
        routers = self._lenders.count + 1
        bucket = self._buckets.get(tenant)
        if bucket is None:
            share = per_minute / routers
            earned = share if routers == 1 else share * (now - self._began) / 60
            bucket = Bucket(per_minute, routers=routers, level=min(share, earned), now=now)
            self._buckets[tenant] = bucket
        else:
            bucket.resize(per_minute, routers=routers, now=now)
        return bucket

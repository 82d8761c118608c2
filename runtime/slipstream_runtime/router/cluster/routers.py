"""Other routers of the namespace, which lend each other tokens of budgets over their management ports.

Messages and answers are signed with the token of the namespace's routers, which is not sent itself.
"""

import asyncio
import dataclasses
import hashlib
import hmac
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Final

import aiohttp
from pydantic import Field

from slipstream_runtime import errors, logs
from slipstream_runtime.part import Part, Positive
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.router.config import Name
from slipstream_runtime.router.service import Service
from slipstream_runtime.router.tenants.budgets import Loan

SIGNATURE: Final = "x-slipstream-signature"
LEND_PATH: Final = "/budgets/lend"
RETURN_PATH: Final = "/budgets/return"
_SECONDS: Final = 0.3
"""Seconds for an answer: a request waits for it, and in a cluster it takes a few milliseconds."""
_SILENT_SECONDS: Final = 5.0
"""Seconds in which a router that did not answer is not asked."""
_ANSWER_BYTES: Final = 4096
"""Most bytes of an answer."""
_FAILED: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

Tokens = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _OfBudget(Part):
    """Budget that a message is about."""

    service: Name
    tenant: Annotated[str, Field(max_length=253)]
    per_minute: Positive


class Ask(_OfBudget):
    """Request for tokens: `need` for one request, and up to `room` beyond."""

    need: Tokens
    room: Tokens


class Return(_OfBudget):
    """Unused tokens of a loan."""

    unused: Tokens


class Answer(Part):
    """Answer to an `Ask`."""

    lent: Tokens = 0.0
    moved: Tokens = 0.0
    left: Tokens = 0.0

    def loan(self, asked: Ask) -> Loan:
        """Return the loan: never more than was asked for."""
        return Loan(
            lent=min(self.lent, asked.need), moved=min(self.moved, asked.room), left=self.left
        )


class Routers:
    """Client of the other routers."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        token: Callable[[], str | None],
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._token = token
        self._clock = clock
        self._known: dict[str, Address] = {}
        self._silent: dict[str, float] = {}
        self._returns: set[asyncio.Task[None]] = set()

    def update(self, found: Collection[Address]) -> None:
        """Apply the present routers without this one, also those that don't take requests yet or any more."""
        self._known = {address.name: address for address in sorted(found)}
        self._silent = {name: at for name, at in self._silent.items() if name in self._known}

    @property
    def count(self) -> int:
        """Number of the other routers, including those that don't answer."""
        return len(self._known)

    def of(self, service: str) -> "Lenders":
        """Return the other routers as lenders of a service's budgets."""
        return Lenders(self, service)

    def names(self) -> Sequence[str]:
        """Return the routers that may answer."""
        now = self._clock()
        return [name for name in self._known if self._silent.get(name, now) <= now]

    async def ask(self, router: str, asked: Ask) -> Loan | None:
        """Ask a router for tokens; None if it does not answer."""
        answer = await self._post(router, LEND_PATH, asked)
        return None if answer is None else answer.loan(asked)

    def give_back(self, router: str, unused: Return) -> None:
        """Return tokens, as a task of its own. If the router does not answer, they are lost."""
        task = asyncio.create_task(self._give_back(router, unused))
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def close(self) -> None:
        """Stop all messages."""
        for task in self._returns:
            task.cancel()
        await asyncio.gather(*self._returns, return_exceptions=True)

    async def _give_back(self, router: str, unused: Return) -> None:
        await self._post(router, RETURN_PATH, unused)

    async def _post(self, router: str, path: str, message: Ask | Return) -> Answer | None:
        address, token = self._known.get(router), self._token()
        if address is None or token is None:
            return None
        body = message.model_dump_json(by_alias=True).encode()
        try:
            async with self._session.post(
                address.management_url(path),
                data=body,
                headers={SIGNATURE: signature(token, path.encode(), body)},
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
                allow_redirects=False,
            ) as response:
                response.raise_for_status()
                found = await response.content.read(_ANSWER_BYTES)
                signed = response.headers.get(SIGNATURE, "")
            if not hmac.compare_digest(signature(token, path.encode(), body, found), signed):
                raise ValueError("the answer has no valid signature")
            return Answer.model_validate_json(found)
        except _FAILED as error:
            logs.event("router silent", router=router, error=errors.describe(error))
            self._silent[router] = self._clock() + _SILENT_SECONDS
            return None


class Lending:
    """Answers to the other routers."""

    def __init__(
        self, find: Callable[[str], Service | None], *, token: Callable[[], str | None]
    ) -> None:
        self._find = find
        self._token = token

    def answer(self, path: str, body: bytes, *, signed: str) -> tuple[bytes, str] | None:
        """Return the answer and its signature; None if the message is not of a router of this namespace."""
        token = self._token()
        if token is None or not hmac.compare_digest(
            signature(token, path.encode(), body).encode(), signed.encode("utf-8", "replace")
        ):
            return None
        try:
            found = self._lend(body) if path == LEND_PATH else self._take_back(body)
        except ValueError:
            return None
        answer = found.model_dump_json(by_alias=True).encode()
        return answer, signature(token, path.encode(), body, answer)

    def _lend(self, body: bytes) -> Answer:
        asked = Ask.model_validate_json(body)
        service = self._find(asked.service)
        if service is None:
            return Answer()
        loan = service.budgets.lend(
            asked.tenant, per_minute=asked.per_minute, need=asked.need, room=asked.room
        )
        return Answer(lent=loan.lent, moved=loan.moved, left=loan.left)

    def _take_back(self, body: bytes) -> Answer:
        found = Return.model_validate_json(body)
        service = self._find(found.service)
        if service is not None:
            service.budgets.take_back(
                found.tenant, per_minute=found.per_minute, unused=found.unused
            )
        return Answer()


def signature(token: str, *parts: bytes) -> str:
    """Return the signature of a message, or of a message and its answer."""
    digest = hmac.new(token.encode("latin-1"), digestmod=hashlib.sha256)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Lenders:
    """Other routers, as lenders of one service's budgets."""

    routers: Routers
    service: str

    @property
    def count(self) -> int:
        """Number of the other routers."""
        return self.routers.count

    def names(self) -> Sequence[str]:
        """Return the routers that may answer."""
        return self.routers.names()

    async def lend(
        self, router: str, tenant: str, *, per_minute: int, need: float, room: float
    ) -> Loan | None:
        """Ask a router for tokens of this budget; None if it does not answer."""
        asked = Ask(
            service=self.service, tenant=tenant, per_minute=per_minute, need=need, room=room
        )
        return await self.routers.ask(router, asked)

    def give_back(self, router: str, tenant: str, *, per_minute: int, unused: float) -> None:
        """Return unused tokens to the router that lent them."""
        message = Return(service=self.service, tenant=tenant, per_minute=per_minute, unused=unused)
        self.routers.give_back(router, message)

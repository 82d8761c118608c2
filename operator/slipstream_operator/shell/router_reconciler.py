"""Reconciler of a namespace's router, created with the first service that uses it and deleted with the last."""

import dataclasses
import logging
import secrets
from collections.abc import Mapping
from typing import Final

from slipstream_operator import errors, names, ports
from slipstream_operator.core import inference_routes, plan, router_config
from slipstream_operator.core.observed import Manifest, ObservedRouter, Ref
from slipstream_operator.core.plan import Apply
from slipstream_operator.core.render import router
from slipstream_operator.core.router_config import Entry, RouterProblem
from slipstream_operator.names import Reason
from slipstream_operator.shell import execution
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

TOKEN_BYTES: Final = 32
"""Random bytes of a token: 256 bits."""
TOKEN_EVERY: Final = 300.0
"""Seconds between two checks that the token exists: Secrets are not watched."""
CONFLICT_RETRY: Final = 5.0
"""Seconds until a name that another owner's object holds is retried."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """Tokens of a namespace."""

    at: float
    """Time of the check, on the monotonic clock."""
    services: frozenset[str]
    """Uids of the services whose engines have a token."""


class RouterReconciler:
    """Brings each router to the state that the services and routes of its namespace need."""

    def __init__(
        self,
        *,
        store: Store,
        states: ServiceStates,
        queue: Queue,
        cluster: ports.Cluster,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._states = states
        self._queue = queue
        self._cluster = cluster
        self._clock = clock
        self._telemetry = telemetry
        self._tokens: dict[tuple[str, str], _Tokens] = {}
        """Namespace and uid of the ServiceAccount -> tokens that were there when they were last checked."""

    async def reconcile(self, namespace: str) -> float | None:
        """Reconcile the router; return the seconds until the next reconcile, or None to wait for an event.

        A fault in it is reported by the services and routes of the namespace, and raised.
        """
        observed = self._store.router(namespace)
        try:
            return await self._reconcile(observed)
        except errors.TransientError:
            raise
        except Exception as fault:
            message = (
                f"The operator failed on the router of this namespace ({type(fault).__name__}) and retries. Its log "
                "has the cause."
            )
            self._note(observed, RouterProblem(Reason.RECONCILE_FAILED, message))
            raise

    async def _reconcile(self, observed: ObservedRouter) -> float | None:
        namespace = observed.namespace
        services = entries(observed, self._states)
        if services is None:
            return None  # the reconcile of the last service queues the router again
        try:
            wanted = router_config.resolve(
                observed, services, inference_routes.validate(observed, services).entries
            )
        except errors.PermanentError as error:
            # NB: no service is accepted without a router in the profile, so the profile was changed since.
            logger.warning(
                "router left unchanged", extra={"namespace": namespace, "error": error.message}
            )
            self._note(observed, RouterProblem(error.reason, error.message))
            return None
        is_ours = plan.labelled(names.router_labels())
        foreign = await self._ensure_tokens(observed, wanted) if wanted else []
        steps = plan.plan(
            router.render(wanted) if wanted else [],
            children=observed.children,
            is_ours=is_ours,
        )
        if foreign or (wanted and observed.child("ServiceAccount") is None):
            # NB: no router starts with the token of another owner; the watch event of its account queues it again.
            steps = dataclasses.replace(
                steps, applies=tuple(filter(_is_before_tokens, steps.applies))
            )
        conflicts, failures = await execution.execute(
            steps,
            cluster=self._cluster,
            telemetry=self._telemetry,
            is_ours=is_ours,
            dependent=Ref("ConfigMap", namespace, router.NAME) if wanted and wanted.parts else None,
        )
        problem = router_config.problem([*conflicts, *foreign], failures)
        self._note(observed, problem)
        if problem is not None:
            logger.warning(
                "router blocked", extra={"namespace": namespace, "error": problem.message}
            )
            return CONFLICT_RETRY
        if wanted is None:
            self._tokens = {key: at for key, at in self._tokens.items() if key[0] != namespace}
        return TOKEN_EVERY if wanted else None

    def _note(self, observed: ObservedRouter, problem: RouterProblem | None) -> None:
        """Record why the router can't be changed; its services and routes report it."""
        if self._states.note_router(observed.namespace, problem):
            self._queue.add_all(parent.key for parent in (*observed.services, *observed.routes))

    async def _ensure_tokens(self, observed: ObservedRouter, wanted: router.Router) -> list[Ref]:
        """Create the tokens that are missing, and never read one; return Secrets of other owners with their names."""
        account = observed.child("ServiceAccount")
        if account is None:
            return []
        key, now = (observed.namespace, account.uid), self._clock.monotonic()
        services = frozenset(parent.uid for parent in wanted.users)
        alive = frozenset(parent.uid for parent in observed.services)
        known = self._tokens.get(key)
        if known and now - known.at < TOKEN_EVERY and services <= known.services <= alive:
            return []
        own = Ref("Secret", observed.namespace, names.ROUTER_TOKEN)
        manifest = router.token(observed.namespace, account=account.uid, value=_token())
        engines = Ref("Secret", observed.namespace, names.ENGINE_TOKENS)
        empty = router.engine_tokens(observed.namespace, account=account.uid)
        foreign = [
            ref
            for ref, body in ((own, manifest), (engines, empty))
            if not await execution.create(
                ref, body, cluster=self._cluster, is_ours=_owned_by(account.uid)
            )
        ]
        if foreign:
            return foreign
        metadata = await self._cluster.metadata_of(engines)
        held = router.entries_of(metadata)
        changes: dict[str, str | None] = {uid: _token() for uid in services - held}
        changes |= dict.fromkeys(held - alive)
        if changes:
            version = metadata["resourceVersion"]
            await self._cluster.write_entries(engines, changes, version=version)
        self._tokens[key] = _Tokens(now, services | (held & alive))
        return []


def entries(observed: ObservedRouter, states: ServiceStates) -> Mapping[str, Entry] | None:
    """Return the router's entry of each service; None while a service has not been reconciled yet."""
    services = {parent.key.name: states.of(parent.key) for parent in observed.services}
    if not all(service.is_entry_known for service in services.values()):
        return None
    return {
        name: service.router_entry
        for name, service in services.items()
        if service.router_entry is not None
    }


def _token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _is_before_tokens(step: Apply) -> bool:
    """Whether the object uses no token."""
    return step.ref.kind != "Deployment"


def _owned_by(uid: str) -> execution.IsOurs:
    def is_ours(metadata: Manifest) -> bool:
        return any(owner["uid"] == uid for owner in metadata.get("ownerReferences", []))

    return is_ours

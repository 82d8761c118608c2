"""Reconciler of a namespace's router, created with the first service that uses it and deleted with the last."""

import logging
import math
import secrets
from collections.abc import Mapping
from typing import Final

from slipstream_operator import errors, names, ports
from slipstream_operator.core import inference_routes, plan, router_config
from slipstream_operator.core.observed import Manifest, ObservedRouter, Ref
from slipstream_operator.core.render import router
from slipstream_operator.core.router_config import Entry, RouterProblem
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
        self._tokens: dict[tuple[str, str], float] = {}
        """Namespace and uid of the ServiceAccount -> time at which the token last existed, on the monotonic clock."""

    async def reconcile(self, namespace: str) -> float | None:
        """Reconcile the router; return the seconds until the next reconcile, or None to wait for an event."""
        observed = self._store.router(namespace)
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
        steps = plan.plan(
            router.render(wanted) if wanted else [],
            children=observed.children,
            is_ours=is_ours,
        )
        conflicts, failures = await execution.execute(
            steps,
            cluster=self._cluster,
            telemetry=self._telemetry,
            is_ours=is_ours,
            dependent=Ref("ConfigMap", namespace, router.NAME) if wanted and wanted.parts else None,
        )
        if wanted and not await self._ensure_token(observed):
            conflicts.append(Ref("Secret", namespace, names.ROUTER_TOKEN))
        problem = router_config.problem(conflicts, failures)
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

    async def _ensure_token(self, observed: ObservedRouter) -> bool:
        """Create the token if it is missing, and never read it. False if another owner's Secret has its name."""
        account = observed.child("ServiceAccount")
        if account is None:
            return True  # its watch event queues the router again
        key, now = (observed.namespace, account.uid), self._clock.monotonic()
        if now - self._tokens.get(key, -math.inf) < TOKEN_EVERY:
            return True
        manifest = router.token(
            observed.namespace, account=account.uid, value=secrets.token_urlsafe(TOKEN_BYTES)
        )
        ours = await execution.create(
            Ref("Secret", observed.namespace, names.ROUTER_TOKEN),
            manifest,
            cluster=self._cluster,
            is_ours=_owned_by(account.uid),
        )
        if ours:
            self._tokens[key] = now
        return ours


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


def _owned_by(uid: str) -> execution.IsOurs:
    def is_ours(metadata: Manifest) -> bool:
        return any(owner["uid"] == uid for owner in metadata.get("ownerReferences", []))

    return is_ours

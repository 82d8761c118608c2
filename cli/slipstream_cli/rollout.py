"""`slipstream rollout`: show the rollout of a service, and promote, abort or retry it."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from slipstream_cli import cluster, options
from slipstream_cli.cluster import Cluster, ClusterError
from slipstream_operator import names
from slipstream_operator.core.rollout import commands

_REJECTED: Final = "Rejected"
_NONE: Final = "-"
_COLUMNS: Final = 80
"""Characters of a line."""


@click.group(short_help="Show, promote, abort or retry a rollout.")
def rollout() -> None:
    """Show the rollout of a service, and decide about it.

    A service with rollout.steps moves its requests to a new revision in steps. The commands promote, abort and retry
    set an annotation of the InferenceService, such as slipstream.dev/promote, which the operator carries out. They need
    the right to patch InferenceServices, which the role edit has.
    """


@rollout.command(short_help="Show both revisions and the step.")
@click.argument("service")
@options.cluster
@options.output
def status(
    service: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: Path | None,
    output: str,
) -> None:
    """Show the revisions of SERVICE, the step, and the figures of the comparison."""
    connected, found = _read(service, namespace, context, kubeconfig)
    report = _report(found, connected.namespace)
    if output == "json":
        click.echo(json.dumps(report, indent=2))
    else:
        _show(report)


@rollout.command(short_help="Give the new revision all requests.")
@click.argument("service")
@options.cluster
def promote(
    service: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> None:
    """Give the new revision of SERVICE all replicas and then all requests, whatever the comparison says.

    A revision that was rolled back or aborted can be promoted, too.
    """
    _command(commands.PROMOTE, service, namespace, context, kubeconfig)


@rollout.command(short_help="Give the old revision all requests.")
@click.argument("service")
@options.cluster
def abort(
    service: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> None:
    """End the rollout of SERVICE: the old revision gets all requests, and the new one has no pods."""
    _command(commands.ABORT, service, namespace, context, kubeconfig)


@rollout.command(short_help="Try a rejected revision again.")
@click.argument("service")
@options.cluster
def retry(
    service: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> None:
    """Try the revision of SERVICE that was rolled back or aborted again, from the first step."""
    _command(commands.RETRY, service, namespace, context, kubeconfig)


def _read(
    service: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> tuple[Cluster, Any]:
    try:
        found = cluster.connect(namespace=namespace, context=context, kubeconfig=kubeconfig)
        return found, found.service(service)
    except ClusterError as error:
        raise _failure(str(error)) from error


def _command(
    command: str,
    service: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: Path | None,
) -> None:
    """Set the annotation that gives the command for the present rollout."""
    connected, found = _read(service, namespace, context, kubeconfig)
    canary = _canary(found.get("status", {}).get("revisions") or ())
    if canary is None:
        raise _failure(f"{service} has no rollout in steps, and no rejected revision")
    rejected = canary.get("phase") == _REJECTED
    if command == commands.ABORT and rejected:
        raise _failure(f"revision {canary['name']} is rejected already")
    if command == commands.RETRY and not rejected:
        raise _failure(f"revision {canary['name']} is not rejected; its rollout goes on")
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    value = f"{canary['hash']}/{moment}"
    try:
        connected.annotate(service, {commands.annotation(command): value})
    except ClusterError as error:
        raise _failure(str(error)) from error
    click.echo(
        f"{command}: {canary['name']}. `slipstream rollout status {service}` shows the progress."
    )


def _failure(text: str) -> click.ClickException:
    return click.ClickException(f"{text}.".replace("..", "."))


def _canary(revisions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((each for each in revisions if each.get("role") == "Canary"), None)


def _report(found: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return the state of the rollout as plain data."""
    state = found.get("status") or {}
    conditions = {each["type"]: each for each in state.get("conditions") or ()}
    condition = conditions.get(names.Condition.STALLED) or conditions.get(
        names.Condition.RECONCILING
    )
    revisions = state.get("revisions") or []
    canary = _canary(revisions)
    return {
        "name": found["metadata"]["name"],
        "namespace": namespace,
        "steps": (found["spec"].get("rollout") or {}).get("steps") or [],
        "inProgress": bool(revisions) and (canary is None or canary.get("phase") != _REJECTED),
        "revisions": revisions,
        "condition": {key: condition[key] for key in ("type", "reason", "message")}
        if condition
        else None,
    }


def _show(report: Mapping[str, Any]) -> None:
    console = Console(width=_COLUMNS, highlight=False, markup=False)
    if not report["revisions"]:
        console.print(f"{report['name']}: no rollout is in progress.")
    else:
        table = Table("revision", "role", box=None)
        for name in ("weight", "ready"):
            table.add_column(name, justify="right")
        for name in ("phase", "step", "verdict"):
            table.add_column(name)
        for each in report["revisions"]:
            table.add_row(
                each["hash"],
                each.get("role", _NONE),
                f"{each['weight']}%",
                str(each["replicas"]),
                *(str(each.get(field) or _NONE) for field in ("phase", "step", "verdict")),
            )
        console.print(table)
    if report["condition"]:
        console.print(f"{report['condition']['reason']}: {report['condition']['message']}")

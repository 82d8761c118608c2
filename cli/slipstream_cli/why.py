"""`slipstream why`: where the time of a service's requests goes, and what other settings would change."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from prometheus_client.parser import text_string_to_metric_families

from slipstream_cli import cluster, options, why_tables
from slipstream_cli.cluster import Cluster, ClusterError
from slipstream_cli.served import Served
from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_runtime import contract
from slipstream_simulator.recorded import requests, what_if
from slipstream_simulator.recorded.requests import EngineTimes, Recorded, UnreadableRecordError

_MOST: Final = 200_000
"""Records that are read of each router, more than one keeps."""
_EARLIER: Final = 600.0
"""Seconds before the period, whose requests may still have run when it began."""


def _period(_: click.Context, __: click.Parameter, value: str) -> float:
    try:
        return units.seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _changes(_: click.Context, __: click.Parameter, value: str | None) -> dict[str, int] | None:
    try:
        return None if value is None else what_if.parse(value)
    except what_if.RefusedError as error:
        raise click.BadParameter(str(error)) from error


@click.command(short_help="Show where the time of requests goes, and try other settings.")
@click.argument("service")
@options.cluster
@click.option(
    "--since",
    default="1h",
    show_default=True,
    callback=_period,
    metavar="DURATION",
    help="Newest requests to look at.",
)
@click.option("--request", "request_id", metavar="ID", help="One request, by its X-Request-Id.")
@click.option(
    "--what-if",
    "changes",
    callback=_changes,
    metavar="SETTING=N,...",
    help=f"Replay the requests with other settings: {', '.join(what_if.CHANGES)}.",
)
@click.option(
    "--port-forward",
    is_flag=True,
    help="Read ports of pods through their nodes, where a NetworkPolicy stops the API server.",
)
@options.output
def why(
    service: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: Path | None,
    since: float,
    request_id: str | None,
    changes: dict[str, int] | None,
    port_forward: bool,
    output: str,
) -> None:
    """Show where the time of the requests to SERVICE goes, by cause.

    The command reads the flight recorders of the namespace's routers through the API server. It needs the rights to get
    InferenceServices, ConfigMaps and pods/proxy, and to list pods: the role edit has them.
    """
    if request_id is not None and changes is not None:
        raise click.UsageError("--what-if replays all requests. Leave out --request.")
    try:
        found = cluster.connect(
            namespace=namespace,
            context=context,
            kubeconfig=kubeconfig,
            port_forward=port_forward,
        )
        served = Served.of(found.service(service))
        now = time.time()
        if request_id is not None:
            _one(_read(found, service, since=0.0, request_id=request_id), request_id, output)
            return
        recording = _read(found, service, since=now - since - _EARLIER)
        if not any(one.arrived >= now - since for one in recording.requests):
            raise ClusterError(
                f"the routers recorded no request of {service} in this time; --since reaches further back"
            )
        report = served.report(recording.requests, since=now - since, until=now)
        replayed = None
        if changes is not None:
            replayed = served.replayed(
                recording.requests,
                changes,
                since=now - since,
                until=now,
                routers=recording.routers,
                sequences=_sequences(found, service),
                state=found.config_map(names.state_name(service)),
            )
    except (ClusterError, UnreadableRecordError, what_if.RefusedError) as error:
        raise click.ClickException(f"{error}.".replace("..", ".")) from error
    if output == "json":
        plain: dict[str, Any] = why_tables.plain(report)
        if replayed is not None:
            plain["whatIf"] = why_tables.plain_what_if(replayed)
        click.echo(json.dumps(plain, indent=2))
        return
    why_tables.show(report)
    if replayed is not None:
        why_tables.show_what_if(replayed)


@dataclass(frozen=True)
class _Read:
    """Records of all routers of the namespace."""

    requests: Sequence[Recorded]
    routers: int


def _read(found: Cluster, service: str, *, since: float, request_id: str | None = None) -> _Read:
    """Return the records of the service from all routers."""
    routers = [pod for pod in found.pods(names.router_selector()) if pod.ready_since is not None]
    if not routers:
        raise ClusterError(
            f"no router is ready in the namespace {found.namespace}, so there are no records; "
            "with routing.mode: Direct or Gateway, requests don't pass one"
        )
    query = {"service": service, "since": f"{since:.3f}", "most": str(_MOST)}
    if request_id is not None:
        query["request"] = request_id
    lines: list[bytes] = []
    for pod in routers:
        body = found.read(pod.name, contract.MANAGEMENT_PORT, contract.RECORDS_PATH, **query)
        if body is None:
            raise ClusterError(
                f"the router {pod.name} has no flight recorder, because its image is older; update it"
            )
        lines += body.splitlines()
    recorded = requests.read(lines)
    del query["service"]  # an engine has one service, under another name
    return _Read(requests.join(recorded, _engines(found, service, recorded, query)), len(routers))


def _engines(
    found: Cluster, service: str, recorded: Sequence[Recorded], query: dict[str, str]
) -> Iterator[tuple[str, EngineTimes]]:
    """Yield the records of the engines that still run and keep any."""
    replicas = {one.replica for one in recorded}
    for pod in found.pods({names.SERVICE_LABEL: service}):
        if pod.name not in replicas or pod.ready_since is None:
            continue
        body = found.read(pod.name, contract.MANAGEMENT_PORT, contract.RECORDS_PATH, **query)
        yield from requests.read_engine((body or b"").splitlines(), replica=pod.name)


def _one(recording: _Read, request_id: str, output: str) -> None:
    """Print the timeline of one request."""
    if not recording.requests:
        raise ClusterError(
            f'no router has a record of the request "{request_id}"; it keeps the newest 131,072, '
            "and an id is the X-Request-Id of an answer"
        )
    if output == "json":
        plain = [why_tables.plain_request(one) for one in recording.requests]
        click.echo(json.dumps(plain, indent=2))
        return
    for one in recording.requests:
        why_tables.show_request(one)


def _sequences(found: Cluster, service: str) -> int | None:
    """Return the batch size that an engine reports; None if none does."""
    for pod in found.pods({names.SERVICE_LABEL: service}):
        if pod.ready_since is None:
            continue
        page = found.read(pod.name, contract.MANAGEMENT_PORT, contract.METRICS_PATH) or b""
        for family in text_string_to_metric_families(page.decode(errors="replace")):
            for sample in family.samples:
                if sample.name == contract.SEQUENCES:
                    return int(sample.value)
    return None

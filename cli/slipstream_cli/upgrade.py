"""`slipstream upgrade`: what another version of vLLM would change for services."""

import dataclasses
import json
from pathlib import Path

import click
import pydantic
from rich.console import Console
from rich.table import Table

from slipstream_cli import documents, options, upgrade_comparison
from slipstream_cli.checkpoints import UnreadableError
from slipstream_cli.documents import Document
from slipstream_operator import names
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.core import engine_arguments, parsing, upgrade, vllm_versions
from slipstream_operator.core.upgrade import Effect, Finding
from slipstream_operator.core.vllm_versions import VllmVersion
from slipstream_operator.errors import PermanentError


@dataclasses.dataclass(frozen=True)
class Checked:
    """Service with the effects of the other version."""

    name: str
    version: str
    """Version that it runs."""
    findings: list[Finding]

    @property
    def refused(self) -> bool:
        """Whether the operator would not accept the service with the other version."""
        return any(finding.effect is Effect.REFUSED for finding in self.findings)


@click.group(name="upgrade", short_help="See what another version of vLLM would change.")
def group() -> None:
    """See what another version of vLLM would change for services."""


@group.command(short_help="Check services against the arguments of another version.")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    required=True,
    help="File with the InferenceServices; - for the standard input.",
)
@click.option(
    "--to", "wanted", required=True, help="Version of vLLM, or its image in a ServingProfile."
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the ServingProfile that names the image.",
    show_default="the services' file",
)
@options.output
def check(path: Path, wanted: str, profile: Path | None, output: str) -> None:
    """Check services against the arguments, parsers and backends of another version of vLLM.

    The command needs no cluster: `kubectl get inferenceservices -A -o yaml | slipstream upgrade check -f - --to 0.32.0`
    checks all services of one. It starts no engine, so it says nothing about answers, latency and memory.

    The exit status is 0 if the operator would accept all services, 1 if not, and 2 if a file can't be used.
    """
    try:
        given = documents.read(path)
        other = _version(wanted, documents.read(profile) if profile else given)
        services = [found for found in given if found.kind == names.INFERENCE_SERVICE]
        if not services:
            raise UnreadableError(f"{path}: holds no {names.INFERENCE_SERVICE}")
        checked = [_check(service, other) for service in services]
    except UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    if output == "json":
        click.echo(json.dumps(_plain(checked, other), indent=2))
    else:
        _show(checked, other)
    if any(service.refused for service in checked):
        raise click.exceptions.Exit(1)


def _version(wanted: str, given: list[Document]) -> VllmVersion:
    """Return a known version by its name or by its image in a ServingProfile."""
    name = _named(wanted, given) or wanted
    if name not in vllm_versions.KNOWN:
        known = ", ".join(vllm_versions.KNOWN)
        raise UnreadableError(
            f'--to: "{wanted}" is not a version of vLLM that this release knows, nor an image of one in '
            f"a ServingProfile. Use one of {known}, or name the image in images.versions."
        )
    return vllm_versions.KNOWN[name]


def _named(image: str, given: list[Document]) -> str | None:
    """Return the version that a ServingProfile has the image for."""
    for document in given:
        if document.kind != names.SERVING_PROFILE:
            continue
        try:
            profile = ServingProfileSpec.model_validate(document.body.get("spec"))
        except pydantic.ValidationError as error:
            raise UnreadableError(
                f"{document.path}: ServingProfile {document.name}: {error}"
            ) from error
        images = profile.images
        if images is None:
            continue
        if image in (images.vllm, images.vllm_cpu):
            return vllm_versions.PINNED.name
        for version in images.versions or ():
            if image in (version.vllm, version.vllm_cpu):
                return version.version
    return None


def _check(service: Document, other: VllmVersion) -> Checked:
    name = f"{service.metadata.get('namespace', 'default')}/{service.name}"
    try:
        spec = parsing.parse(InferenceServiceSpec, service.body.get("spec") or {}, what="spec")
        present = engine_arguments.version_of(spec)
    except PermanentError as error:
        raise UnreadableError(f"{service.path}: {name}: {error.message}") from error
    if spec.runtime not in (None, "vllm"):
        return Checked(name, "-", [])
    return Checked(name, present.name, upgrade.check(spec, present, other))


def _plain(checked: list[Checked], other: VllmVersion) -> dict[str, object]:
    return {
        "to": other.name,
        "services": [
            {
                "name": service.name,
                "version": service.version,
                "accepted": not service.refused,
                "findings": [dataclasses.asdict(finding) for finding in service.findings],
            }
            for service in checked
        ],
    }


def _show(checked: list[Checked], other: VllmVersion) -> None:
    console = Console(width=100, highlight=False, markup=False)
    table = Table(title=f"With vLLM {other.name}", title_justify="left")
    table.add_column("service", no_wrap=True)
    table.add_column("now", no_wrap=True)
    table.add_column("effect", no_wrap=True)
    table.add_column("reason")
    for service in checked:
        if not service.findings:
            table.add_row(service.name, service.version, "none", "")
        for finding in service.findings:
            table.add_row(service.name, service.version, finding.effect, finding.message)
    console.print(table)
    refused = sum(service.refused for service in checked)
    console.print(f"{refused} of {len(checked)} services would be refused.")


group.add_command(upgrade_comparison.compare)

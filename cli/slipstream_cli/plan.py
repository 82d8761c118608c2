"""`slipstream plan`: check a service and compute its accelerator memory and cost before it exists."""

import json
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Final

import click
import pydantic
from rich.console import Console
from rich.table import Table

from slipstream_cli import checkpoints, documents, options
from slipstream_cli.documents import Document
from slipstream_operator import names
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.core import capacity_plan, parsing
from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.core.fit.memory import GIB
from slipstream_operator.core.observed import (
    Key,
    Manifest,
    Observed,
    Parent,
    Profile,
    pack,
)
from slipstream_operator.core.resolve import resolve
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.runtimes import registry
from slipstream_operator.errors import PermanentError
from slipstream_runtime.engine import arguments, checkpoint, config
from slipstream_runtime.errors import UnsuitableError

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(short_help="Check a service: is it accepted, does it fit, what does it cost.")
@click.option(
    "-f", "--file", "service", type=_FILE, required=True, help="File with the InferenceService."
)
@click.option("--name", help="Name of the InferenceService, if the file holds more than one.")
@click.option(
    "--profile",
    type=_FILE,
    help="File with the ServingProfile of the namespace.",
    show_default="the InferenceService's file",
)
@click.option("--config", "model_config", type=_FILE, help="config.json of the model.")
@click.option("--model", type=_FOLDER, help="Folder of the model, with config.json and weights.")
@click.option("--draft-config", type=_FILE, help="config.json of the draft model.")
@click.option("--draft", type=_FOLDER, help="Folder of the draft model.")
@options.output
def plan(
    service: Path,
    name: str | None,
    profile: Path | None,
    model_config: Path | None,
    model: Path | None,
    draft_config: Path | None,
    draft: Path | None,
    output: str,
) -> None:
    """Check a service before you apply it, and show its GPU memory and cost.

    The command makes the operator's checks on files and needs no cluster. It does not check the validation rules of
    the API server: run `kubectl apply --dry-run=server` for them. Without --config and --model, memory is not checked.

    The exit status is 0 if the operator would accept the service, 1 if not, and 2 if a file can't be used.
    """
    try:
        given = documents.read(service)
        chosen = _service(given, service, name)
        defaults = _profile(documents.read(profile) if profile else given, profile or service)
        facts = Facts(
            model=checkpoints.read(config=model_config, folder=model),
            draft=checkpoints.read(config=draft_config, folder=draft),
        )
        observed = _observed(chosen, defaults, facts)
    except checkpoints.UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    try:
        resolved = resolve(observed)
        _check_fields(chosen, defaults)
        if resolved.share is not None and resolved.share.refused is not None:
            raise PermanentError(names.Reason.QUOTA_EXCEEDED, resolved.share.refused)
        found = capacity_plan.of(
            resolved,
            arguments=_engine_arguments(resolved, facts),
            knows_model=facts.model != ModelFacts(),
        )
    except PermanentError as error:
        raise _refused(error.reason, error.message, output) from error
    except UnsuitableError as error:
        raise _refused(names.Reason.UNSUPPORTED, str(error), output) from error
    if output == "json":
        click.echo(json.dumps(capacity_plan.plain(found), indent=2))
    else:
        _show(found)


def _refused(reason: str, message: str, output: str) -> click.exceptions.Exit:
    """Print why the service would not be accepted, and return the exit."""
    refusal = {"fits": False, "reason": reason, "message": message}
    click.echo(json.dumps(refusal) if output == "json" else f"{reason}: {message}")
    return click.exceptions.Exit(1)


def _engine_arguments(resolved: Resolved, facts: Facts) -> list[str]:
    """Return vLLM's command line as the engine builds it, with placeholders for the folders of the weights."""
    if not registry.RUNTIMES[resolved.runtime].loads_checkpoints:
        return []
    try:
        engine = config.EngineConfig.model_validate(resolved.revisioned.config)
    except pydantic.ValidationError as error:
        problems = [
            f"spec.{'.'.join(map(str, problem['loc']))}: {str(problem['msg']).removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        ]
        raise PermanentError(names.Reason.INVALID_SPEC, "; ".join(problems)) from error
    drafts = engine.speculation is not None and engine.speculation.draft is not None
    return arguments.build(
        engine,
        target=_weights("MODEL", facts.model),
        draft=_weights("DRAFT", facts.draft) if drafts else None,
        cpu_flags=frozenset({"avx512f", "avx512_bf16"}),
    )


def _weights(name: str, facts: ModelFacts) -> arguments.Weights:
    return arguments.Weights(Path(name), checkpoint.read(facts.config or {}))


def _check_fields(service: Document, profile: Document) -> None:
    """Refuse unknown fields, as kubectl does, since they would have no effect."""
    problems = [
        *_unknown(service, InferenceServiceSpec, what="spec"),
        *_unknown(profile, ServingProfileSpec, what=f"ServingProfile {profile.name}"),
    ]
    if problems:
        raise PermanentError(names.Reason.INVALID_SPEC, "; ".join(problems))


def _unknown(document: Document, model: type[pydantic.BaseModel], *, what: str) -> list[str]:
    spec = document.body["spec"]
    return list(parsing.unknown(parsing.parse(model, spec, what=what), spec, what=what))


def _service(found: list[Document], path: Path, name: str | None) -> Document:
    return documents.choose(
        found, path, names.INFERENCE_SERVICE, name=name, hint="name one with -f"
    )


def _profile(found: list[Document], path: Path) -> Document:
    hint = "name one with --profile"
    return documents.choose(found, path, names.SERVING_PROFILE, hint=hint, several=hint)


def _observed(service: Document, profile: Document, facts: Facts) -> Observed:
    key = Key(str(service.metadata.get("namespace", "default")), service.name)
    # The API server's only default of spec.
    spec = {"replicas": 1, **service.body["spec"]}
    parent = Parent(
        key=key,
        uid="",
        generation=1,
        created="",
        deleting=False,
        packed_spec=pack(spec),
        packed_status=pack({}),
    )
    return Observed(
        parent=parent,
        namespace_labels={},
        profiles=(Profile(profile.name, "", _for_all(profile.body["spec"])),),
        children=(),
        pods=(),
        name_holders={},
        pod_monitors=False,
        leader_worker_sets=True,
        facts=facts,
    )


def _for_all(profile: Manifest) -> Manifest:
    """Return the profile without its namespace selector, so that it applies to the service."""
    return {key: value for key, value in profile.items() if key != "namespaceSelector"}


def _show(found: capacity_plan.CapacityPlan) -> None:
    console = Console(width=100, highlight=False, markup=False)
    if (memory := found.memory) is not None:
        table = Table(title=f"Each of {found.accelerators}", title_justify="left")
        table.add_column("memory", no_wrap=True)
        table.add_column("GiB", justify="right")
        rows = [
            ("weights", memory.weights),
            ("draft's weights", memory.draft),
            ("adapter slots", memory.adapters),
            ("activations, CUDA and NCCL (estimated)", memory.activations),
            ("CUDA graphs (estimated)", memory.graphs),
            ("KV cache", max(memory.kv, 0)),
            ("left free by vLLM", memory.memory - memory.usable),
            ("total", memory.memory),
        ]
        for name, size in rows:
            if size:
                table.add_row(name, f"{size / GIB:.1f}")
        console.print(table)
        if memory.tokens is not None and memory.concurrency is not None:
            console.print(
                f"KV cache of a replica: {found.kv_tokens} tokens, or {found.concurrency:.1f} requests of "
                f"{memory.max_length} tokens."
            )
    console.print(f"Replicas: {found.minimum} to {found.maximum}, each {found.accelerators}.")
    if found.cost is not None:
        low, high = found.cost
        console.print(f"Cost per hour: {_money(low)} to {_money(high)}.")
    if found.arguments:
        # One line, so that it can be copied.
        click.echo("Engine: vllm serve " + shlex.join(found.arguments))
    for warning in found.warnings:
        console.print(f"Warning: {warning}")


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"

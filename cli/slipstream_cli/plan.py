"""`slipstream plan`: what a service would take of its accelerators, and what it would cost, before it exists."""

import json
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
import yaml
from rich.console import Console
from rich.table import Table

from slipstream_cli import checkpoints
from slipstream_operator import names
from slipstream_operator.core import plans
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
from slipstream_operator.core.resolve import Resolved, resolve
from slipstream_operator.errors import PermanentError
from slipstream_runtime.engine import arguments, checkpoint, config
from slipstream_runtime.host.errors import UnsuitableError

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("-f", "--file", "service", type=_FILE, required=True, help="The InferenceService.")
@click.option(
    "--profile",
    type=_FILE,
    help="The ServingProfile of its namespace.  [default: the one in the service's file]",
)
@click.option(
    "--config", "model_config", type=_FILE, help="The model's config.json; sizes come from it."
)
@click.option("--model", type=_FOLDER, help="The model's folder, with config.json and weights.")
@click.option("--draft-config", type=_FILE, help="The draft model's config.json.")
@click.option("--draft", type=_FOLDER, help="The draft model's folder.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def plan(
    service: Path,
    profile: Path | None,
    model_config: Path | None,
    model: Path | None,
    draft_config: Path | None,
    draft: Path | None,
    output: str,
) -> None:
    """Plan a service: whether its model fits, what a GPU holds, and what it costs.

    The same checks as the operator's, on files. Exit status: 0 if the service would be accepted, 1 if not, 2 if a file
    can't be read.
    """
    try:
        bodies = _bodies(service) + (_bodies(profile) if profile else [])
        facts = Facts(
            model=checkpoints.read(config=model_config, folder=model),
            draft=checkpoints.read(config=draft_config, folder=draft),
        )
        observed = _observed(bodies, facts)
    except checkpoints.UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2) from error
    try:
        resolved = resolve(observed)
        if resolved.share is not None and resolved.share.refused is not None:
            raise PermanentError(names.Reason.QUOTA_EXCEEDED, resolved.share.refused)
        found = plans.of(
            resolved,
            arguments=_engine_arguments(resolved, facts),
            knows_model=facts.model != ModelFacts(),
        )
    except PermanentError as error:
        raise _refused(error.reason, error.message, output) from error
    except UnsuitableError as error:
        raise _refused(names.Reason.UNSUPPORTED, str(error), output) from error
    if output == "json":
        click.echo(json.dumps(plans.plain(found), indent=2))
    else:
        _show(found)


def _refused(reason: str, message: str, output: str) -> click.exceptions.Exit:
    """Say why the service would not be accepted; return the exit."""
    refusal = {"fits": False, "reason": reason, "message": message}
    click.echo(json.dumps(refusal) if output == "json" else f"{reason}: {message}")
    return click.exceptions.Exit(1)


def _engine_arguments(resolved: Resolved, facts: Facts) -> list[str]:
    """Return vLLM's command line as the engine builds it, but for the folders of the weights."""
    if resolved.runtime != "vllm":
        return []
    engine = config.EngineConfig.model_validate(resolved.revisioned.config)
    drafts = engine.speculation is not None and engine.speculation.draft is not None
    return arguments.build(
        engine,
        target=_weights("MODEL", facts.model),
        draft=_weights("DRAFT", facts.draft) if drafts else None,
        cpu_flags=frozenset({"avx512f", "avx512_bf16"}),
    )


def _weights(name: str, facts: ModelFacts) -> arguments.Weights:
    return arguments.Weights(Path(name), checkpoint.read(facts.config or {}))


def _bodies(path: Path) -> list[dict[str, Any]]:
    try:
        bodies = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise checkpoints.UnreadableError(f"{path}: is not readable as YAML: {error}") from error
    return [
        body for body in bodies if isinstance(body, dict) and isinstance(body.get("spec"), dict)
    ]


def _observed(bodies: list[dict[str, Any]], facts: Facts) -> Observed:
    service = _one(bodies, names.INFERENCE_SERVICE)
    profile = _one(bodies, names.SERVING_PROFILE, hint="; name one with --profile")
    metadata = service.get("metadata") or {}
    key = Key(str(metadata.get("namespace", "default")), str(metadata.get("name", "")))
    # The API server's only default of spec.
    spec = {"replicas": 1, **service["spec"]}
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
        profiles=(Profile(_name(profile), "", _for_all(profile["spec"])),),
        children=(),
        pods=(),
        name_holders={},
        pod_monitors=False,
        leader_worker_sets=True,
        facts=facts,
    )


def _for_all(profile: Manifest) -> Manifest:
    """A profile that was named is for the service, whatever namespaces it selects."""
    return {key: value for key, value in profile.items() if key != "namespaceSelector"}


def _one(bodies: list[dict[str, Any]], kind: str, *, hint: str = "") -> dict[str, Any]:
    found = [body for body in bodies if body.get("kind") == kind]
    if len(found) != 1:
        many = "no" if not found else "more than one"
        raise checkpoints.UnreadableError(f"the files hold {many} {kind}{hint}")
    return found[0]


def _name(body: Manifest) -> str:
    return str((body.get("metadata") or {}).get("name", ""))


def _show(found: plans.Plan) -> None:
    console = Console(width=100, highlight=False)
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
        console.print("Engine: vllm serve " + shlex.join(found.arguments))
    for warning in found.warnings:
        console.print(f"Warning: {warning}")


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"

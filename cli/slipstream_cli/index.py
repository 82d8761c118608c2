"""`slipstream index`: build an index of texts for a search service."""

import asyncio
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from slipstream_runtime.errors import EngineError
from slipstream_runtime.retrieval import building, command
from slipstream_runtime.retrieval import index as indexes
from slipstream_runtime.retrieval.building import Built


@click.command(
    epilog=f"The variable {command.EMBEDDINGS_KEY} holds the API key of the encoder's service."
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--embeddings",
    required=True,
    metavar="URL",
    help="Base URL of a service with /v1/embeddings, such as http://embeddings.team.svc/v1.",
)
@click.option("--model", required=True, help="Model name of the encoder.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, such as handbook.npz.",
)
def index(files: tuple[Path, ...], embeddings: str, model: str, output: Path) -> None:
    """Build an index of files for searches by meaning.

    FILES end with .md, .txt or .jsonl, or are folders of such files.
    """
    console = Console(stderr=True)
    try:
        indexes.check_target(output)
        built = asyncio.run(_build(files, embeddings, model, console))
        built.index.save(output)
    except EngineError as error:
        raise click.ClickException(error.reason) from None
    click.echo(
        f"{output}: {len(built.index.passages)} passages of {built.files} files, "
        f"{built.duplicates} duplicates left out"
    )


async def _build(files: tuple[Path, ...], url: str, model: str, console: Console) -> Built:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("passages", total=None)
        async with command.client(url, model=model, seconds=120.0) as embeddings:
            return await building.build(
                files,
                embeddings,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )

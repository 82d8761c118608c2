"""Command line of `python -m dev`."""

import dataclasses
import json
import sys

import click
import httpx

from dev import containers, display
from dev.cluster import binaries, builder, components, doctor, install, leaderworkerset
from dev.cluster.kube import Refused
from dev.cluster.lifecycle import Cluster
from dev.environments import cuda
from dev.errors import DevError

_NAMES = (*components.CONTROL_PLANE, *components.NODE_COMPONENTS, *components.FAKES)
_name = click.option("--name", default="slipstream", show_default=True, help="Name of the cluster.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run a real Kubernetes on this machine, without Docker and without a registry."""


@cli.command()
@_name
@click.option("--control-plane-only", is_flag=True, help="Start no node.")
@click.option(
    "--nodes",
    default=0,
    type=click.IntRange(0, 5000),
    help="Number of kwok nodes, with 8 GPUs each.",
)
def up(name: str, *, control_plane_only: bool, nodes: int) -> None:
    """Boot a cluster; build missing programs first.

    A healthy cluster stays as it is. An unhealthy cluster is taken down and booted again, without its
    objects.
    """
    cluster = Cluster(name=name)
    with display.Builds() as builds:
        fresh = cluster.up(
            control_plane_only=control_plane_only,
            nodes=nodes,
            report=display.phase,
            build_report=builds.report,
        )
    found = cluster.status()
    if fresh:
        display.console.print(f"cluster {name} is up: boot_s={found.boot_seconds:.1f}")
    else:
        display.console.print(f"cluster {name} was up already")
    option = "" if name == "slipstream" else f" --name {name}"
    display.console.print(f'next: eval "$(python -m dev env{option})"', highlight=False)


@cli.command()
@_name
def down(name: str) -> None:
    """Remove a cluster and all its files."""
    removed = Cluster(name=name).down()
    display.console.print(f"cluster {name} {'is down' if removed else 'was not up'}")


@cli.command()
@_name
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def status(name: str, output: str) -> None:
    """Show the components of a cluster.

    The exit status is 1 unless the cluster is healthy."""
    found = Cluster(name=name).status()
    if output == "json":
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        display.status(found)
    sys.exit(0 if found.state == "healthy" else 1)


@cli.command()
@_name
def env(name: str) -> None:
    """Print shell commands that let kubectl use a cluster."""
    cluster = Cluster(name=name)
    layout = cluster.layout
    click.echo(f"export KUBECONFIG='{layout.kubeconfig}'")
    click.echo(f"export PATH='{layout.binaries / 'cli'}':\"$PATH\"")


@cli.command()
@_name
@click.argument("component", type=click.Choice(_NAMES))
@click.option("-n", "--lines", default=50, show_default=True, help="Number of lines.")
def logs(name: str, component: str, lines: int) -> None:
    """Print the end of a component's log."""
    log = Cluster(name=name).layout.log(component)
    if not log.exists():
        raise DevError(f"{component} of cluster {name} has not been started")
    click.echo("\n".join(log.read_text(errors="replace").splitlines()[-lines:]))


@cli.command("doctor")
@click.option("--fix", is_flag=True, help="Install missing Debian packages with apt-get.")
@click.option("--quiet", is_flag=True, help="Print missing requirements only.")
def doctor_(*, fix: bool, quiet: bool) -> None:
    """Check the requirements of this machine."""
    found = doctor.checks()
    if fix:
        doctor.fix([check for check in found if not check.fulfilled])
        found = doctor.checks()
    if not quiet or not all(check.fulfilled for check in found):
        display.checks(found)
    sys.exit(0 if all(check.fulfilled for check in found) else 1)


@cli.command()
@click.argument("extra", nargs=-1, type=click.Choice([one.name for one in binaries.EXTRAS]))
def build(extra: tuple[str, ...]) -> None:
    """Build the programs of a cluster into the user's cache.

    With arguments, build only these programs, which some tests need."""
    with display.Builds() as builds:
        if extra:
            found = [binaries.extra(name, report=builds.report) for name in extra]
        else:
            found = [binaries.build(binaries.ALL, report=builds.report)]
    for there in found:
        display.console.print(f"programs: {there}", highlight=False)


@cli.command("cuda")
def cuda_() -> None:
    """Install the Python environment of the GPU image.

    It takes 8 GB of the user's cache, and needs no GPU."""
    there = cuda.build(report=display.phase)
    display.console.print(f"environment: {there}", highlight=False, soft_wrap=True)


@cli.command()
@click.argument("target", required=False)
@click.option("--remove", is_flag=True, help="Remove all images and their build files.")
def image(target: str | None, *, remove: bool) -> None:
    """Build a target of the Dockerfile, and show its layers.

    buildah builds it from Debian's packages, without Docker and without a registry. `runtime` needs 40 GB of disk.
    """
    if remove:
        containers.remove()
    if target is not None:
        name = containers.build(target, report=display.phase)
        sizes = containers.layers(name)
        click.echo(f"{name}: {sum(sizes) / 1e9:.2f} GB in {len(sizes)} layers")
        click.echo("MB: " + ", ".join(f"{size / 1e6:.1f}" for size in sizes))


@cli.command()
@_name
def load(name: str) -> None:
    """Build and import the images of the working tree."""
    for image in install.load(Cluster(name=name)).values():
        click.echo(image.name)


@cli.command("install")
@_name
def install_(name: str) -> None:
    """Install the operator from the working tree."""
    for deployment in install.install(Cluster(name=name)):
        display.console.print(f"available: {deployment}")
    display.console.print("next: kubectl apply -f a sample, then kubectl get pods --watch")


@cli.command("builder")
@_name
def builder_(name: str) -> None:
    """Install the image and the environment that run ModelBuilds.

    The environment takes 5 GB of the user's cache."""
    display.console.print(f"image: {builder.install(Cluster(name=name)).name}", highlight=False)


@cli.command("leaderworkerset")
@_name
def leaderworkerset_(name: str) -> None:
    """Install the controller of LeaderWorkerSet."""
    with display.Builds() as builds:
        leaderworkerset.install(Cluster(name=name), report=builds.report)
    display.console.print("available: lws-system/lws-controller-manager")


def main() -> None:
    """Run the command line; print errors that users can act on as a message."""
    try:
        cli()
    except (DevError, Refused, httpx.HTTPError) as error:
        display.errors.print("[bold red]error:[/]", end=" ")
        display.errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)

"""The command line, as a user of a cluster runs it."""

from click.testing import CliRunner

from dev.cluster.kube import Kube
from slipstream_cli.main import main


def run(kube: Kube, *words: str) -> str:
    """Run a command that must succeed; return what it prints."""
    done = CliRunner().invoke(main, [*words, "--kubeconfig", str(kube.kubeconfig)])
    assert done.exit_code == 0, done.output
    return done.stdout

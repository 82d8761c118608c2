"""`slipstream rollout` against an API server that records what is patched."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipstream_cli.main import main
from tests.support import pod_proxies
from tests.support.pod_proxies import PodProxies

COLUMNS = 80
STABLE = {
    "name": "chat-aaaaaaaa",
    "hash": "aaaaaaaa",
    "weight": 95,
    "replicas": 4,
    "role": "Stable",
}
CANARY = {
    "name": "chat-bbbbbbbb", "hash": "bbbbbbbb", "weight": 5, "replicas": 1, "role": "Canary",
    "phase": "Comparing", "step": "1 of 3", "verdict": "NotWorse", "message": "Not worse.",
}  # fmt: skip
REJECTED = {**CANARY, "weight": 0, "replicas": 0, "phase": "Rejected", "verdict": "Worse"}
RECONCILING = {
    "type": "Reconciling", "status": "True", "reason": "RollingOut",
    "message": "Step 1 of 3: revision bbbbbbbb gets 5% of the requests. " + "Not worse. " * 9,
}  # fmt: skip


class Command:
    """The command, with the cluster that it changes."""

    def __init__(self, cluster: PodProxies, kubeconfig: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig

    def holds(self, *revisions: dict[str, Any]) -> None:
        """The service has these revisions in its status."""
        status = {"conditions": [RECONCILING], "revisions": list(revisions)}
        self.cluster.services["chat"] = pod_proxies.service(status=status)

    async def run(self, *words: str) -> Result:
        options = ["rollout", *words, "--kubeconfig", str(self.kubeconfig)]
        return await asyncio.to_thread(CliRunner().invoke, main, options)

    async def printed(self, *words: str) -> str:
        found = await self.run(*words)
        assert found.exit_code == 0, found.output
        return found.stdout

    async def refused(self, *words: str) -> str:
        found = await self.run(*words)
        assert found.exit_code == 1
        return found.stderr.strip()


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Command]:
    async with pod_proxies.serving(tmp_path) as (cluster, kubeconfig):
        found = Command(cluster, kubeconfig)
        found.holds(STABLE, CANARY)
        yield found


async def test_it_shows_both_revisions_and_what_the_step_waits_for(rollout: Command) -> None:
    text = await rollout.printed("status", "chat")
    assert all(len(line) <= COLUMNS for line in text.splitlines())
    (canary,) = (line for line in text.splitlines() if line.split()[0] == "bbbbbbbb")
    assert canary.split() == [
        "bbbbbbbb",
        "Canary",
        "5%",
        "1",
        "Comparing",
        "1",
        "of",
        "3",
        "NotWorse",
    ]
    assert "RollingOut: Step 1 of 3: revision bbbbbbbb gets 5% of the requests." in text


async def test_it_prints_json_for_programs(rollout: Command) -> None:
    found = json.loads(await rollout.printed("status", "chat", "-o", "json"))
    assert found["inProgress"] is True
    assert [each["weight"] for each in found["revisions"]] == [95, 5]
    rollout.holds(STABLE, REJECTED)
    assert json.loads(await rollout.printed("status", "chat", "-o", "json"))["inProgress"] is False
    rollout.holds()
    assert "no rollout is in progress" in await rollout.printed("status", "chat")


@pytest.mark.parametrize(
    ("command", "canary"),
    [("promote", CANARY), ("promote", REJECTED), ("abort", CANARY), ("retry", REJECTED)],
)
async def test_a_command_sets_its_annotation_to_the_revision_and_a_time(
    rollout: Command, command: str, canary: dict[str, Any]
) -> None:
    rollout.holds(STABLE, canary)
    await rollout.printed(command, "chat")
    await rollout.printed(command, "chat")
    values = []
    for name, change in rollout.cluster.patches:
        assert name == "chat"
        ((key, value),) = change["metadata"]["annotations"].items()
        assert key == f"slipstream.dev/{command}"
        assert re.fullmatch(r"bbbbbbbb/\d{8}T\d{6}\.\d{6}Z", value)
        values.append(value)
    assert len(set(values)) == 2  # so that the operator carries out both


async def test_a_command_without_effect_is_refused(rollout: Command) -> None:
    assert "is not rejected; its rollout goes on." in await rollout.refused("retry", "chat")
    rollout.holds(STABLE, REJECTED)
    assert "is rejected already." in await rollout.refused("abort", "chat")
    rollout.holds()
    assert "has no rollout in steps" in await rollout.refused("promote", "chat")
    assert rollout.cluster.patches == []


async def test_a_missing_right_or_service_is_named(rollout: Command) -> None:
    rollout.cluster.forbidden.add("patch")
    message = await rollout.refused("promote", "chat")
    assert "this needs the right to patch inferenceservices.slipstream.dev" in message
    assert "there is no InferenceService other" in await rollout.refused("status", "other")

"""`slipstream why` against an API server that passes on requests to a router's management port."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipstream_cli.main import main
from slipstream_runtime.web import sockets
from tests.support import backends, pod_proxies
from tests.support.pod_proxies import PodProxies
from tests.support.routers import Running, routing

COLUMNS = 80


class Command:
    """The command, with the cluster that it reads."""

    def __init__(self, cluster: PodProxies, kubeconfig: Path, router: Running) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.router = router

    async def run(self, *words: str) -> Result:
        options = ["why", "chat", "--kubeconfig", str(self.kubeconfig), *words]
        return await asyncio.to_thread(CliRunner().invoke, main, options)

    async def printed(self, *words: str) -> str:
        found = await self.run(*words)
        assert found.exit_code == 0, found.output
        assert all(len(line) <= COLUMNS for line in found.stdout.splitlines()), found.stdout
        return found.stdout

    async def plain(self, *words: str) -> Any:
        return json.loads((await self.run(*words, "-o", "json")).stdout)

    async def refused(self, *words: str) -> str:
        found = await self.run(*words)
        assert found.exit_code != 0
        [sentence] = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
        assert sentence.endswith(".") and not sentence.endswith("..")
        return sentence


@pytest.fixture
async def why(tmp_path: Path) -> AsyncIterator[Command]:
    async with (
        backends.running() as (engine,),
        routing(engine) as router,
        pod_proxies.serving(tmp_path) as (cluster, kubeconfig),
    ):
        cluster.services["chat"] = pod_proxies.service()
        cluster.routers["router-0"] = f"http://127.0.0.1:{router.management}"
        yield Command(cluster, kubeconfig, router)


async def _asked(why: Command) -> None:
    await why.router.ask(stream=True, headers={"x-request-id": "mine"})
    await why.router.ask()


async def test_it_prints_requests_objectives_and_causes(why: Command) -> None:
    await _asked(why)
    text = await why.printed()
    assert "chat: 2 requests" in text
    assert "2 answered, 0 of them missed an objective." in text
    assert "p95 500ms" in text and "100.0% of 95%" in text
    assert "replica, to first token" in text
    found = await why.plain()
    assert found["requests"]["total"] == 2
    assert sum(found["causes"]["e2e"]["byCause"].values()) == pytest.approx(1.0)
    assert found["causes"]["ttft"]["requests"] == 1
    assert found["causes"]["missedTtft"] is None
    assert found["objectives"][0] == {
        "objective": "ttft-p95", "target": 0.5, "attained": 1.0, "requests": 1, "met": True,
    }  # fmt: skip


async def test_the_objectives_of_the_status_win_because_they_have_those_of_the_tier(
    why: Command,
) -> None:
    await _asked(why)
    slo = [
        {"objective": "e2e-p99", "metric": "e2e", "percentile": "p99", "target": "1ns"},
        {"objective": "throughput", "metric": "throughput", "target": "5/s"},
    ]
    why.cluster.services["chat"] = pod_proxies.service(status={"slo": slo})
    found = await why.plain()
    assert [one["objective"] for one in found["objectives"]] == ["e2e-p99"]
    assert found["requests"]["missed"] == 2
    assert found["causes"]["missedE2e"]["requests"] == 2


async def test_a_service_without_objectives_has_no_missed_requests(why: Command) -> None:
    await _asked(why)
    del why.cluster.services["chat"]["spec"]["slo"]
    assert "missed" not in await why.printed()
    assert (await why.plain())["requests"]["missed"] is None


async def test_the_records_of_all_routers_are_merged(why: Command) -> None:
    await _asked(why)
    why.cluster.routers["router-1"] = why.cluster.routers["router-0"]
    why.cluster.routers["router-2"] = None
    why.cluster.unready.add("router-2")
    assert (await why.plain())["requests"]["total"] == 4


async def test_one_request_is_found_by_its_id(why: Command) -> None:
    await _asked(why)
    text = await why.printed("--request", "mine")
    assert "answered with status 200" in text and "3 output tokens" in text
    assert "TTFT" in text and "###" in text
    [found] = await why.plain("--request", "mine")
    assert found["e2e"] == pytest.approx(sum(found["seconds"].values()))
    assert 'the request "yours"' in await why.refused("--request", "yours")


@pytest.mark.parametrize("resource", ["inferenceservices", "pods", "pods/proxy"])
async def test_a_missing_right_is_named(why: Command, resource: str) -> None:
    await _asked(why)
    why.cluster.forbidden.add(resource)
    sentence = await why.refused()
    assert "this needs the right to" in sentence and resource in sentence and "dev" in sentence


async def test_problems_are_one_sentence(why: Command) -> None:
    assert "recorded no request" in await why.refused()
    await _asked(why)
    why.cluster.routers["router-1"] = None
    sentence = await why.refused()
    assert "can't read port 8001 of the pod router-1" in sentence and "i/o timeout" in sentence
    assert "pods/portforward" in sentence
    why.cluster.unready |= {"router-0", "router-1"}
    assert "no router is ready" in await why.refused()
    why.cluster.services.clear()
    assert "there is no InferenceService chat" in await why.refused()
    assert '"Chat!" can be no namespace' in await why.refused("-n", "Chat!")
    assert "not installed" in await why.refused("-n", "elsewhere")
    why.kubeconfig.write_text("")
    assert "no cluster is configured" in await why.refused()


async def test_a_router_without_a_recorder_is_named(why: Command) -> None:
    why.cluster.routers["router-0"] += "/old"
    assert "router-0 has no flight recorder" in await why.refused()


async def test_credentials_that_are_not_accepted_are_reported(why: Command) -> None:
    text = why.kubeconfig.read_text().replace(pod_proxies.TOKEN, "expired")
    why.kubeconfig.write_text(text)
    assert "does not accept the credentials" in await why.refused()


async def test_an_api_server_that_is_away_is_reported(why: Command) -> None:
    with sockets.bind(0) as bound:
        port = bound.getsockname()[1]
    text = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", why.kubeconfig.read_text())
    why.kubeconfig.write_text(text)
    assert "did not answer" in await why.refused()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--since", "yesterday"), "is not a duration"),
        (("--what-if", "color=2"), "no model of it"),
        (("--what-if", "replicas=2", "--request", "mine"), "Leave out --request"),
    ],
)
async def test_odd_options_are_refused(why: Command, words: tuple[str, ...], problem: str) -> None:
    assert problem in " ".join((await why.refused(*words)).split())


async def test_a_what_if_without_step_times_says_what_is_missing(why: Command) -> None:
    await _asked(why)
    sentence = await why.refused("--what-if", "replicas=2")
    assert "step times of the engines are unknown" in sentence and "at least 20" in sentence

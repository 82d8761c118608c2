"""The check of a GPU: a step that fails loses no other, results outlive the run, and the page tells what is missing."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dev import waiting
from dev.gpu import check, engines, measures, memory, models, report, steps
from dev.gpu.clients import Offer
from dev.gpu.engines import Engine, Setup
from dev.gpu.steps import Figures, Group, Step
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.evaluate.records import Record
from slipstream_runtime.simulator import model, replay

SETUP = Setup("cpu", Path("/models/target"), max_length=512)


async def good(engine: Engine) -> Figures:
    return {"value": 1}


async def hangs(engine: Engine) -> Figures:
    await asyncio.Event().wait()
    raise AssertionError


async def breaks(engine: Engine) -> Figures:
    raise ValueError("so it is")


async def ends(engine: Engine) -> Figures:
    engine.process.kill()
    await engine.process.wait()
    return {}


@contextlib.asynccontextmanager
async def sleeping(setup: Setup, home: Path, within: float) -> AsyncIterator[Engine]:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        yield Engine(process, home, "", "", None, seconds=1.5, used_mib=2.0)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def starting(setup: Setup, home: Path, within: float) -> AsyncIterator[Engine]:
    """Only a setup with an argument starts."""
    if not setup.engine_args:
        raise engines.StartError("no driver")
    async with sleeping(setup, home, within) as engine:
        yield engine


class Few:
    """A check with these groups."""

    def __init__(self, *groups: Group) -> None:
        self.scale = check.SCALES["cpu"]
        self._groups = groups

    def groups(self) -> Sequence[Group]:
        return self._groups


def run(out: Path, *groups: Group, seconds: float = 30.0, resume: bool = False) -> dict[str, Any]:
    made = check.Run(Few(*groups), out=out, home=out, deadline=time.monotonic() + seconds)  # type: ignore[arg-type]
    if resume:
        made.resume()
    made.found["facts"] = {"device": "cpu", "gpu": None}
    asyncio.run(made.run())
    made.write()
    found: dict[str, Any] = json.loads((out / "check.json").read_text())
    return found


def statuses(found: dict[str, Any], group: str) -> dict[str, str]:
    return {name: one["status"] for name, one in found["groups"][group].items()}


def test_a_step_that_fails_or_hangs_loses_no_other(tmp_path: Path) -> None:
    group = Group(
        "slipstream",
        [SETUP],
        sleeping,
        [Step("breaks", 5, breaks), Step("hangs", 0.05, hangs), Step("good", 5, good)],
    )
    found = run(tmp_path, group)
    assert statuses(found, "slipstream") == {
        "start": "done",
        "breaks": "failed",
        "hangs": "failed",
        "good": "done",
    }
    results = found["groups"]["slipstream"]
    assert results["breaks"]["error"] == "ValueError: so it is"
    assert results["hangs"]["error"] == "not within 0 s"
    page = (tmp_path / "check.md").read_text()
    assert "- slipstream, breaks: failed. ValueError: so it is" in page
    assert "Rehearsal on CPU" in page


def test_an_engine_that_does_not_start_loses_no_other_group(tmp_path: Path) -> None:
    dead = Group("dead", [SETUP], starting, [Step("good", 5, good)])
    alive = Group("alive", [SETUP], sleeping, [Step("good", 5, good)])
    found = run(tmp_path, dead, alive)
    assert statuses(found, "dead")["good"] == "not run: the engine did not start"
    assert "no driver" in found["groups"]["dead"]["start"]["error"]
    assert statuses(found, "alive") == {"start": "done", "good": "done"}


def test_the_next_setup_is_tried_where_one_does_not_start(tmp_path: Path) -> None:
    second = Setup("cpu", SETUP.model, max_length=512, engine_args={"seed": 1})
    found = run(tmp_path, Group("slipstream", [SETUP, second], starting, []))
    assert found["groups"]["slipstream"]["start"]["figures"]["engine_args"] == {"seed": 1}


def test_after_an_engine_has_ended_its_steps_are_not_run(tmp_path: Path) -> None:
    group = Group("slipstream", [SETUP], sleeping, [Step("ends", 5, ends), Step("good", 5, good)])
    assert statuses(run(tmp_path, group), "slipstream")["good"] == "not run: the engine has ended"


def test_when_time_is_up_what_is_left_says_so(tmp_path: Path) -> None:
    group = Group("slipstream", [SETUP], sleeping, [Step("good", 5, good)])
    found = run(tmp_path, group, seconds=-1)
    assert "time is up" in found["groups"]["slipstream"]["start"]["error"]


def test_resume_runs_only_what_has_no_result(tmp_path: Path) -> None:
    ran = []

    async def counted(engine: Engine) -> Figures:
        ran.append(1)
        return {}

    def group(second: Any) -> Group:
        return Group(
            "slipstream", [SETUP], sleeping, [Step("first", 5, counted), Step("second", 5, second)]
        )

    assert statuses(run(tmp_path, group(breaks)), "slipstream")["second"] == "failed"
    found = run(tmp_path, group(good), resume=True)
    assert statuses(found, "slipstream") == {"start": "done", "first": "done", "second": "done"}
    assert len(ran) == 1
    run(tmp_path, Group("slipstream", [SETUP], starting, group(good).steps), resume=True)


def test_our_engine_reads_every_setup_of_both_devices(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        made = check.check(device, tmp_path)
        for group in made.groups():
            for setup in group.setups:
                EngineConfig.model_validate(setup.slipstream())
    assert [group.name for group in made.groups()] == ["slipstream", "bare", "fp8", "draft"]


def test_each_token_of_a_made_up_model_is_visible_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = models.write("qwen3-0.6b", tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == models.VOCABULARY
    for token in (900, 5_000, models.VOCABULARY - 1):
        assert tokenizer.decode([token]).strip() == f"w{token}"


def test_clients_are_split_over_processes_and_none_is_lost() -> None:
    parts = Offer("http://x", seconds=1, prompt=8, output=8, clients=1024).split(15)
    assert sum(part.clients or 0 for part in parts) == 1024
    assert len({part.seed for part in parts}) == 15


def test_lengths_stay_within_the_context() -> None:
    offer = Offer("http://x", seconds=1, prompt=512, output=128, clients=1, sigma=2.0, most=600)
    for body in offer.plan().prompts:
        prompt, output = body["prompt"], body["max_tokens"]
        assert isinstance(prompt, list)
        assert isinstance(output, int)
        assert len(prompt) + output <= 600


def recorded(parameters: model.Parameters, *, seed: int) -> list[Record]:
    """What clients of such an engine would see."""
    requests = [
        model.Request(key, 0.02 * key, 20 + (key * 37 + seed) % 200, 5 + (key * 13) % 60)
        for key in range(80)
    ]
    return [
        Record(
            start=one.request.arrival,
            duration=1.0,
            status=200,
            ttft=one.ttft,
            tpot=one.tpot,
            prompt_tokens=one.request.prompt,
            output_tokens=one.request.output,
        )
        for one in replay.replay(parameters, requests)
    ]


def test_the_fitted_model_is_shown_beside_the_default() -> None:
    truth = model.Parameters(alpha=0.003, beta=1e-5, gamma=2e-8, delta=1e-5)
    found = measures.step_time(
        [recorded(truth, seed=1), recorded(truth, seed=2)],
        recorded(truth, seed=3),
        limits=model.Parameters(),
    )
    assert found["fitted"]["alpha_ms"] == pytest.approx(3.0, rel=0.05)
    assert found["default"]["alpha_ms"] == 7.0
    for name, value in found["measured_ms"].items():
        assert found["predicted_ms"][name] == pytest.approx(value, rel=0.1)
    assert found["predicted_by_default_ms"]["tpot_p50"] > 1.5 * found["measured_ms"]["tpot_p50"]


def test_failed_requests_are_counted_and_in_no_latency() -> None:
    lost = Record(start=0.1, duration=1.0, status=None, error="ConnectError")
    found = measures.speed([*recorded(model.Parameters(), seed=1), lost])
    assert (found["requests"], found["failed"]) == (80, 1)
    assert found["errors"] == {"ConnectError": 1}
    assert measures.speed([lost])["ttft_p50_ms"] is None


def test_speeds_of_all_engines_stand_together_by_clients() -> None:
    speed = measures.speed(recorded(model.Parameters(), seed=1))
    result = {"status": "done", "figures": speed}
    page = report.page(
        {
            "facts": {"device": "cuda", "gpu": "NVIDIA H200"},
            "groups": {
                "slipstream": {"clients_16": result, "clients_1": result},
                "bare": {"clients_1": result},
            },
        }
    )
    assert "# GPU check: NVIDIA H200" in page
    rows = [
        line.split(" | ")[:2] for line in page.splitlines() if line.startswith(("| 1 ", "| 16 "))
    ]
    assert rows == [["| 1", "slipstream"], ["| 1", "bare"], ["| 16", "slipstream"]]


def test_the_process_that_computes_is_found_among_those_below() -> None:
    words = "(exec -a VLLM::EngineCore sleep 60) & sleep 60 & wait"
    with subprocess.Popen(["bash", "-c", words], start_new_session=True) as process:

        def named() -> bool:
            below = engines.descendants(process.pid)
            names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below]
            return len(below) == 2 and any(b"EngineCore" in name for name in names)

        try:
            waiting.until(named, seconds=120, what="both processes")
            found = engines.core(process.pid)
            assert b"EngineCore" in Path(f"/proc/{found}/cmdline").read_bytes()
            below = engines.descendants(process.pid)
            assert engines.alive(below) == 2
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    waiting.until(lambda: engines.alive(below) == 0, seconds=120, what="both processes gone")


def test_the_groups_have_the_steps_that_the_page_promises(tmp_path: Path) -> None:
    groups = {
        one.name: [step.name for step in one.steps]
        for one in check.check("cuda", tmp_path).groups()
    }
    sweep = [f"clients_{count}" for count in (1, 16, 64, 256, 1024)]
    assert groups["slipstream"] == [*sweep, "step_time", "drain"]
    assert groups["bare"] == sweep
    assert groups["fp8"][-1] == "kill"
    assert groups["draft"][-1] == "speculation"
    assert steps.ACCEPTED < 1 + steps.DRAFT_TOKENS


def test_the_fit_checks_prediction_stands_beside_what_the_engine_took(tmp_path: Path) -> None:
    [setup, _] = check.check("cuda", tmp_path).setups
    found = memory.predicted(setup, total_mib=143_771, gpu="NVIDIA H200")
    assert found["taken_mib"] == pytest.approx(0.92 * 143_771, rel=0.001)
    assert found["weights_mib"] == pytest.approx(16.4e9 / 2**20, rel=0.02)
    tokens = found["kv_tokens"]
    assert tokens is not None
    assert tokens > 500_000


def test_sigterm_ends_the_engines_and_keeps_what_is_done(tmp_path: Path) -> None:
    pids = []

    async def terminated(engine: Engine) -> Figures:
        pids.append(engine.process.pid)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        raise AssertionError

    group = Group(
        "slipstream", [SETUP], sleeping, [Step("good", 5, good), Step("last", 5, terminated)]
    )
    with pytest.raises(asyncio.CancelledError):
        run(tmp_path, group)
    assert engines.alive(pids) == 0
    found = json.loads((tmp_path / "check.json").read_text())
    assert statuses(found, "slipstream") == {"start": "done", "good": "done"}

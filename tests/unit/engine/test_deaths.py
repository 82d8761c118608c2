"""Deaths of worker processes: which one counts, and that it is reported whole and before what follows from it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from multiprocessing.process import BaseProcess

import pytest

from slipstream_runtime.engine import causes, deaths
from slipstream_runtime.engine.deaths import Death

KILLED = Death("VllmWorker-1", -signal.SIGKILL)
ABORTED = Death("VllmWorker-0", -signal.SIGABRT)
EXITED = Death("VllmWorker-2", 1)
ENDED_BY_VLLM = Death("VllmWorker-3", -signal.SIGTERM)

FATAL = "EngineCore encountered a fatal error.\nTraceback (most recent call last):\n"
REPORTS = (
    "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.\n",
    f"{FATAL}RuntimeError: cancelled\n",
    f"{FATAL}RuntimeError: Executor failed.\n",
    f"{FATAL}RuntimeError: Worker failed with error 'Connection closed by peer', please check\n",
    "WorkerProc hit an exception.\nRuntimeError: [gloo/tcp/pair.cc:534] Connection closed by peer\n",
    "Worker proc VllmWorker-0 died unexpectedly (exit code: -6)\n",
)


@pytest.fixture
def workers() -> Iterator[list[BaseProcess]]:
    """Two processes that wait."""
    context = multiprocessing.get_context("spawn")
    started: list[BaseProcess] = [context.Process(target=time.sleep, args=(600,)) for _ in "ab"]
    for process in started:
        process.start()
    yield started
    for process in started:
        process.kill()
        process.join()


def reporter(
    workers: list[BaseProcess], *, expected: Callable[[], bool] = lambda: False
) -> tuple[deaths.Reporter, list[Death]]:
    reported: list[Death] = []
    return deaths.Reporter(workers, expected=expected, report=reported.append), reported


def test_the_death_that_explains_the_others_counts_in_any_order() -> None:
    for order in permutations([KILLED, ABORTED, EXITED, ENDED_BY_VLLM]):
        assert deaths.first(order) == KILLED


def test_of_deaths_that_are_alike_the_first_counts() -> None:
    other = Death("VllmWorker-5", -signal.SIGKILL)
    assert deaths.first([other, KILLED]) == other
    assert deaths.first([]) is None


def test_a_killed_worker_is_the_cause_in_any_order_of_reports() -> None:
    for order in permutations(REPORTS):
        found = causes.find("".join(order))
        assert found is not None
        assert found.startswith("VllmWorker-1 was killed by SIGKILL"), order


def test_a_death_that_the_log_does_not_have_counts_too() -> None:
    for order in permutations(REPORTS[1:]):
        found = causes.find("".join(order), known=[KILLED])
        assert found is not None
        assert found.startswith("VllmWorker-1 was killed by SIGKILL"), order


UNKNOWN = "Worker proc VllmWorker-1 died unexpectedly (exit code: None), shutting down executor.\n"
OWN = "WorkerProc hit an exception.\nValueError: rank 1 has no room\n"


@pytest.mark.parametrize(
    ("text", "out_of_memory", "cause"),
    [
        (UNKNOWN + REPORTS[1], None, "VllmWorker-1 ended, and its exit code is not known."),
        (UNKNOWN + REPORTS[1], True, "VllmWorker-1 was killed because memory ran out."),
        (REPORTS[4] + UNKNOWN, None, "VllmWorker-1 ended, and its exit code is not known."),
        (OWN + UNKNOWN + REPORTS[1], None, "ValueError: rank 1 has no room"),
        (UNKNOWN + REPORTS[0], None, "VllmWorker-1 was killed by SIGKILL"),
    ],
)
def test_a_death_without_an_exit_code_is_not_hidden_by_what_follows(
    text: str, out_of_memory: bool | None, cause: str
) -> None:
    found = causes.find(text, out_of_memory=out_of_memory)
    assert found is not None
    assert found.startswith(cause)


@pytest.mark.parametrize("text", REPORTS[1:4])
def test_a_consequence_alone_is_no_cause(text: str) -> None:
    assert causes.find(text) is None


def test_the_exit_code_is_known_although_the_sentinel_is_ready_before_it(
    workers: list[BaseProcess],
) -> None:
    watch, reported = reporter(workers)
    watching = threading.Thread(target=watch.wait)
    watching.start()
    assert workers[1].pid is not None
    os.kill(workers[1].pid, signal.SIGKILL)
    watching.join()
    assert reported == [Death(workers[1].name, -signal.SIGKILL)]


def test_a_death_is_reported_once_whoever_notices_it(workers: list[BaseProcess]) -> None:
    watch, reported = reporter(workers)
    threads = [threading.Thread(target=watch.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    workers[0].kill()
    for thread in threads:
        thread.join()
    watch.wait(0)
    assert [death.process for death in reported] == [workers[0].name]


def test_workers_that_are_asked_to_end_are_not_reported(workers: list[BaseProcess]) -> None:
    watch, reported = reporter(workers, expected=lambda: True)
    workers[0].terminate()
    watch.wait()
    assert reported == []


def test_a_wait_without_a_death_ends_in_its_time(workers: list[BaseProcess]) -> None:
    watch, reported = reporter(workers)
    watch.wait(0)
    assert reported == []

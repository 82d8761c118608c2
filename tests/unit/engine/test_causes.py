"""Why vLLM failed, and whether its first answer was a real one."""

import json
import logging
from pathlib import Path

import pydantic
import pytest

from slipstream_runtime import logs
from slipstream_runtime.engine import causes
from slipstream_runtime.engine.config import Speculation
from slipstream_runtime.errors import describe, one_line

START = """EngineCore failed to start.
Traceback (most recent call last):
  File "core.py", line 1, in run
ValueError: To serve at least one request 1.0 GiB is needed
"""
DEATH = """EngineCore encountered a fatal error.
Traceback (most recent call last):
AttributeError: '_OpNamespace' '_C' object has no attribute 'cpu_gemm_wna16'
AsyncLLM output_handler failed.
Traceback (most recent call last):
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above).
"""


MEMORY_IS_FULL = (
    "The accelerator's memory is full: lower spec.model.maxLength or batching.maxSequences, or use "
    "spec.quantization or more accelerators."
)
NO_ROOM = (
    "ValueError: To serve at least one request 1.0 GiB is needed. In the service: lower spec.model.maxLength, or use "
    "spec.quantization.kvCache or more accelerators."
)
FRAME = 'Traceback (most recent call last):\n  File "a.py", line 1, in load\n    run()\n'
TWO_RANKS = f"""WorkerProc failed to start.
{FRAME}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 1 has 80 GiB
WorkerProc failed to start.
{FRAME}RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:4567
EngineCore failed to start.
{FRAME}Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace
"""
LOGS = {
    "another rank lost its peer": (TWO_RANKS, "OutOfMemoryError: CUDA out of memory. Tried to all"),
    "only a peer is known": (
        f"{FRAME}torch.distributed.DistNetworkError: Connection reset by peer\n",
        "DistNetworkError: Connection reset by peer",
    ),
    "a message that begins on the next line": (
        f"{FRAME}RuntimeError: \n        An attempt has been made to start a new process\n",
        "RuntimeError: An attempt has been made to start a new process",
    ),
    "a validation error": (
        (
            f"{FRAME}pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "  Value error, User-specified max_model_len (99) is greater than the derived one (40) [type=value_error]\n"
            "    For further information visit https://errors.pydantic.dev\n"
        ),
        "ValidationError: 1 validation error for ModelConfig Value error, User-specified max_model_len",
    ),
    "an exception of another name": (
        f"{FRAME}triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072\n",
        "OutOfResources: out of resource: shared memory, Required: 131072",
    ),
    "a line that only looks like it": (
        "config.Model: a name\nValueError: wrong\nlater.Thing: more\n",
        "ValueError: wrong",
    ),
    "no compiler": (
        f"{FRAME}RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist\n",
        "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
    ),
    "an old driver": (
        f"{FRAME}RuntimeError: The NVIDIA driver on your system is too old (found version 12020).\n",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
    ),
    "NCCL": (
        f"{FRAME}torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:77, unhandled system error\n",
        "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:77, unhandled system error. Accelerators could not",
    ),
}


@pytest.mark.parametrize(("text", "cause"), LOGS.values(), ids=LOGS)
def test_logs_as_vllm_writes_them_tell_the_cause(text: str, cause: str) -> None:
    found = causes.find(text)
    assert found is not None
    assert found.startswith(cause)


def test_a_remedy_survives_a_long_message() -> None:
    found = causes.find(f"torch.OutOfMemoryError: CUDA out of memory. {'x' * 3000}\n")
    assert found is not None
    assert len(found) <= 1000
    assert found.endswith(MEMORY_IS_FULL)


WORKER = """Worker proc VllmWorker-0 died unexpectedly (exit code: {code}), shutting down executor.
Dumping input data for V1 LLM engine (v0.32.0) with config: model='/models/m', speculative_config=None
Dumping scheduler stats: SchedulerStats(num_running_reqs=1, num_waiting_reqs=0)
EngineCore encountered a fatal error.
Traceback (most recent call last):
  File "multiproc_executor.py", line 1, in get_response
RuntimeError: cancelled
AsyncLLM output_handler failed.
Traceback (most recent call last):
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above).
"""


@pytest.mark.parametrize(
    ("code", "out_of_memory", "cause"),
    [
        (-9, None, "VllmWorker-0 was killed by SIGKILL, most likely because memory ran out. Raise"),
        (-9, True, "VllmWorker-0 was killed because memory ran out. Raise limits.memory"),
        (-9, False, "VllmWorker-0 was killed by SIGKILL, though memory did not run out"),
        (-7, None, "VllmWorker-0 was killed by SIGBUS: most likely /dev/shm is full"),
        (-11, None, "VllmWorker-0 was killed by SIGSEGV: it crashed."),
        (-6, None, "VllmWorker-0 was killed by SIGABRT: a library gave up, such as NCCL"),
        (-15, None, "VllmWorker-0 was ended by SIGTERM, which something else in the pod"),
        (-99, None, "VllmWorker-0 was killed by signal 99"),
        (1, None, "VllmWorker-0 ended with exit code 1"),
    ],
)
def test_a_worker_that_is_killed_is_the_cause_and_not_what_follows(
    code: int, out_of_memory: bool | None, cause: str
) -> None:
    found = causes.find(WORKER.format(code=code), out_of_memory=out_of_memory)
    assert found is not None
    assert found.startswith(cause)


def test_a_worker_that_fails_by_itself_has_said_why_before() -> None:
    own = "WorkerProc hit an exception.\ntorch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n"
    found = causes.find(own + WORKER.format(code=1))
    assert found == f"OutOfMemoryError: CUDA out of memory. Tried 2 GiB. {MEMORY_IS_FULL}"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (START, NO_ROOM),
        (
            DEATH,
            "AttributeError: '_OpNamespace' '_C' object has no attribute 'cpu_gemm_wna16'",
        ),
        (START + "RuntimeError: Engine core initialization failed. See root cause above.\n", None),
        ("AssertionError\n", "AssertionError"),
        (
            "torch.OutOfMemoryError: CUDA out of memory\n",
            f"OutOfMemoryError: CUDA out of memory. {MEMORY_IS_FULL}",
        ),
        ("a line that says Error: nothing\n", None),
        ("", None),
    ],
)
def test_the_cause_is_the_last_exception_that_is_no_consequence(
    text: str, cause: str | None
) -> None:
    if text.startswith(START) and cause is None:
        cause = NO_ROOM
    assert causes.find(text) == cause


def test_no_file_no_cause(tmp_path: Path) -> None:
    assert causes.read(tmp_path / "none") is None


def test_vllms_logging_configuration_keeps_errors_in_the_file(tmp_path: Path) -> None:
    made = json.loads(causes.logging_config(tmp_path / "errors.log"))
    assert made["handlers"]["errors"]["filename"] == str(tmp_path / "errors.log")
    assert made["loggers"]["vllm"]["handlers"] == ["stderr", "errors"]
    assert not made["disable_existing_loggers"]


def test_exceptions_of_libraries_are_one_line() -> None:
    assert describe(ValueError("a\nb")) == "ValueError: a b"
    with pytest.raises(pydantic.ValidationError) as caught:
        Speculation.model_validate({"tokens": 1})
    told = "Value error, a draft belongs to method eagle3, and to no method"
    assert describe(caught.value) == told


def test_one_line_is_one_line_and_short() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 2000) == "x" * 999 + "…"


def test_events_are_one_json_object_per_line() -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, "phase", None, None)
    record.fields = {"phase": "ready", "seconds": 1.5}
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["event"], entry["phase"], entry["seconds"]) == ("phase", "ready", 1.5)


def test_the_reason_is_left_for_the_kubelet_if_it_can_be(tmp_path: Path) -> None:
    logs.leave_reason(tmp_path / "log", "why")
    assert (tmp_path / "log").read_text() == "why\n"
    logs.leave_reason(tmp_path / "none" / "log", "why")

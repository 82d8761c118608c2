"""The engine's half of the contract, run by the Python of the GPU image's environment: `probe.py PLAN CAPABILITY`.

Everything runs as in a pod up to the start of vLLM's engine core: EngineConfig, the environment variables, the
arguments, vLLM's parser, its configuration and its choice of kernels. Prints GPU -> case -> what was found, as JSON.
"""

import dataclasses
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.gpu import choices, fake, needs
from tests.gpu.hardware import BY_KEY, Gpu


class Reached(BaseException):
    """The end of the way: vLLM would now start its engine core with this configuration."""

    def __init__(self, config: Any) -> None:
        self.config = config


def main(plan: Path, *keys: str) -> None:
    """Import vLLM once for GPUs of one capability, then look at each in a fork of this process."""
    gpus = [BY_KEY[key] for key in keys]
    wanted: dict[str, Any] = json.loads(plan.read_text())
    os.environ.update(gpus[0].variables)
    began = time.process_time()
    _launch(wanted["configs"][0][1])
    fake.install(gpus[0])
    _prepare()
    imported = time.process_time() - began
    found = {gpu.key: _forked(gpu, wanted["configs"], wanted["cases"][gpu.key]) for gpu in gpus}
    found["seconds of CPU"] = {"import": imported, "all": sum(os.times()[:4])}
    sys.stdout.write(json.dumps(found))


def _prepare() -> None:
    import vllm.model_executor.models.registry as registry
    from vllm.model_executor.layers.fused_moe.expert_map_manager import ExpertMapManager

    import slipstream_runtime.engine.serving  # noqa: F401
    from slipstream_runtime.engine import core

    def reached(*, vllm_config: Any, **_: Any) -> None:
        raise Reached(vllm_config)

    core.AsyncLLM = reached
    # vLLM looks at model classes in processes of their own, so that their import touches no GPU. None is here.
    registry._run_in_subprocess = lambda look: look()
    # A text for the log, which reads values that tensors without memory don't have.
    ExpertMapManager.get_compressed_map_string = lambda _: ""


def _forked(gpu: Gpu, configs: list[Any], names: list[str]) -> Any:
    """Answers of a child process, in which a GPU with another name and memory takes the place of the first."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        code = 1
        try:
            os.environ.update(gpu.variables)
            fake.install(gpu)
            chosen = [(name, config) for name, config in configs if name in names]
            with os.fdopen(sending, "w") as answer:
                json.dump({name: _look(config, gpu) for name, config in chosen}, answer)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(sending)
    with os.fdopen(receiving) as answer:
        text = answer.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError(f"the process that looked at {gpu.key} failed")
    return json.loads(text)


def _look(config: Mapping[str, Any], gpu: Gpu) -> dict[str, Any]:
    began = time.process_time()
    found: dict[str, Any] = {"error": None}
    launch = None
    try:
        launch = _launch(config)
        launch.run()
    except Reached as end:
        found["settings"] = _settings(end.config)
        try:
            found["kernels"] = dataclasses.asdict(choices.of(end.config))
            found["needs"] = needs.check(found["kernels"], gpu)
            if (draft := choices.draft(end.config)) is not None:
                found["draft"] = dataclasses.asdict(choices.of(draft))
                found["needs"] |= needs.check(found["draft"], gpu)
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
    if launch is not None:
        found["arguments"] = launch.status.arguments
    found["seconds"] = round(time.process_time() - began, 3)
    return found


def _launch(config: Mapping[str, Any]) -> Any:
    from slipstream_runtime import contract
    from slipstream_runtime.engine import launch
    from slipstream_runtime.engine.config import EngineConfig

    os.environ |= {
        contract.WORKER_INDEX_ENV: "0",
        contract.GROUP_SIZE_ENV: str(config.get("nodes", 1)),
        contract.LEADER_ADDRESS_ENV: "127.0.0.1",
    }
    with socket.socket() as api:
        return launch.prepare(EngineConfig.model_validate(config), api=api)


def _settings(config: Any) -> dict[str, Any]:
    """Values of a VllmConfig that the contract is about."""
    compilation, parallel = config.compilation_config, config.parallel_config
    scheduler, speculation = config.scheduler_config, config.speculative_config
    draft = speculation.draft_model_config if speculation else None
    return {
        "maxSequences": scheduler.max_num_seqs,
        "maxBatchedTokens": scheduler.max_num_batched_tokens,
        "asynchronous": bool(scheduler.async_scheduling),
        "chunkedPrefill": scheduler.enable_chunked_prefill,
        "policy": str(scheduler.policy),
        "scheduler": scheduler.scheduler_cls and str(scheduler.scheduler_cls),
        "graphs": compilation.cudagraph_mode.name,
        "compilation": compilation.mode.name,
        "eager": config.model_config.enforce_eager,
        "dtype": str(config.model_config.dtype),
        "length": config.model_config.max_model_len,
        "quantization": config.model_config.quantization,
        "kvCache": config.cache_config.cache_dtype,
        "prefixCache": config.cache_config.enable_prefix_caching,
        "memoryShare": config.cache_config.gpu_memory_utilization,
        "connector": config.kv_transfer_config and config.kv_transfer_config.kv_connector,
        "tensor": parallel.tensor_parallel_size,
        "pipeline": parallel.pipeline_parallel_size,
        "data": parallel.data_parallel_size,
        "experts": parallel.enable_expert_parallel,
        "speculation": speculation.method if speculation else None,
        "draftQuantization": draft.quantization if draft else None,
        "modelRunner": 2 if config.use_v2_model_runner else 1,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

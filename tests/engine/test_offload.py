"""vLLM's own managers of host memory and disk, with the arguments that an engine gets: what needs a GPU is left out.

Copies between GPU and host memory run on CUDA only; between host memory and disk everything is as on a GPU.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev import waiting
from slipstream_runtime import contract
from slipstream_runtime.engine import arguments
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.engine.offload import Pruner

pytest.importorskip("vllm")
pytestmark = pytest.mark.filterwarnings("ignore")

BLOCK = 4096
"""Bytes of a block; the host memory holds two."""
SECONDS = 300.0


class Tiers:
    """vLLM's manager of both tiers, driven as its scheduler drives it."""

    def __init__(self, folder: Path) -> None:
        from vllm.v1.kv_offload import base, config
        from vllm.v1.kv_offload.factory import OffloadingSpecFactory

        self._base = base
        self._spec = OffloadingSpecFactory.create_spec(
            config.OffloadingConfig(
                groups=(config.OffloadingGroupConfig(16, ("layer",), 0),),
                worker_kv_bytes_per_block=BLOCK,
                enable_kv_cache_events=False,
                extra_config=_extra(),
                engine_id=f"test-{folder.name}",
                model=config.OffloadingModelConfig("model", "bfloat16"),
                cache=config.OffloadingCacheConfig(16, 1),
                parallel=config.OffloadingParallelConfig(0, 1, 1, 1, 1, 1, 0, 1, None, True),
            )
        )
        self._manager: Any = self._spec.get_manager()
        self._request = base.ReqContext("request")
        self._manager.on_new_request(self._request)

    def store(self, number: int) -> None:
        """Keep a block whose bytes all are this number, and wait until it is on disk."""
        key = self._key(number)
        place = self._manager.prepare_store([key], self._request).store_spec.chunk_ids[0]
        self._memory[place] = number
        self._manager.complete_store([key], self._request)
        waiting.until(self._idle, seconds=SECONDS, what="the end of the transfers", interval=0.01)

    def found(self, number: int) -> bytes | None:
        """The block's bytes, brought back to host memory if need be; None if it is lost."""
        key = self._key(number)
        result = self._manager.lookup(key, self._request)
        while result not in (self._base.LookupResult.HIT, self._base.LookupResult.MISS):
            waiting.until(self._idle, seconds=SECONDS, what="an answer", interval=0.01)
            result = self._manager.lookup(key, self._request)
        if result is self._base.LookupResult.MISS:
            return None
        place = self._manager.prepare_load([key], self._request).chunk_ids[0]
        content = self._memory[place].tobytes()
        self._manager.complete_load([key], self._request)
        return content

    def end(self) -> None:
        self._manager.shutdown()

    @property
    def _memory(self) -> Any:
        return self._spec._scheduler_mmap._base.numpy().reshape(-1, BLOCK)

    def _key(self, number: int) -> Any:
        return self._base.make_offload_key(bytes([number]) * 32, 0)

    def _idle(self) -> bool:
        self._manager.on_schedule_end(self._base.ScheduleEndContext((), ()))
        return not self._manager.has_pending_work()


def _extra() -> dict[str, Any]:
    config = EngineConfig.model_validate(
        {
            "model": {"uri": "file:///m", "name": "m"},
            "cache": {"offloadBytes": 2 * BLOCK, "offloadDiskBytes": 4 * BLOCK},
            "drainSeconds": 1,
        }
    )
    weights = arguments.Weights(Path("/m"), Checkpoint("none", "bf16"))
    words = arguments.build(config, target=weights, draft=None, cpu_flags=frozenset())
    connector = json.loads(words[words.index("--kv-transfer-config") + 1])
    extra: dict[str, Any] = connector["kv_connector_extra_config"]
    return extra


@pytest.fixture
def tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiers]:
    monkeypatch.setattr(contract, "OFFLOAD_DIRECTORY", str(tmp_path))
    made = Tiers(tmp_path)
    yield made
    made.end()


def test_a_block_that_left_host_memory_comes_back_from_disk_unless_it_was_deleted(
    tiers: Tiers, tmp_path: Path
) -> None:
    for number in (1, 2, 3, 4):
        tiers.store(number)
    assert tiers.found(1) == bytes([1]) * BLOCK

    blocks = sorted(tmp_path.rglob("*.bin"), key=lambda block: block.stat().st_mtime_ns)
    assert len(blocks) == 4
    Pruner(tmp_path, limit=4 * BLOCK).prune()
    left = [block for block in blocks if block.exists()]
    assert left == blocks[2:]
    assert tiers.found(2) is None
    assert tiers.found(4) == bytes([4]) * BLOCK

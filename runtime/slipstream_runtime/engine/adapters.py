"""LoRA adapters: the listed ones, their folders, and the steps from loaded to listed. Imports no vLLM."""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors

from slipstream_runtime import contract
from slipstream_runtime.engine.config import Adapters
from slipstream_runtime.errors import EngineError
from slipstream_runtime.host import status
from slipstream_runtime.model_files import selection, sources

RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's --max-lora-rank."""
_LEAST_RANK: Final = 16
"""Rank that an engine without adapters is started for; vLLM's default."""
_PART: Final = re.compile(
    r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight"
)


@dataclasses.dataclass(frozen=True)
class Found:
    """Adapter in a local folder."""

    folder: Path
    rank: int


@dataclasses.dataclass(frozen=True)
class Steps:
    """Adapters to unload, and then those to load: name -> uri."""

    unload: tuple[str, ...]
    load: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.unload or self.load)


def wanted(file: Path) -> dict[str, str]:
    """Return the operator's list, name -> uri and revision; empty without a list, EngineError if it can't be read."""
    try:
        listed = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EngineError(f"{file}: can't be read: {error}") from error
    if not isinstance(listed, dict) or not all(isinstance(uri, str) for uri in listed.values()):
        raise EngineError(f"{file}: is not a JSON object of names and uris.")
    return listed


def steps(
    current: Mapping[str, status.AdapterStatus], listed: Mapping[str, str], *, again: bool
) -> Steps:
    """Return the steps from loaded to listed adapters; failed ones are retried `again`, or with a new uri."""
    kept = {
        name
        for name, adapter in current.items()
        if listed.get(name) == adapter.uri and (adapter.loaded or not again)
    }
    return Steps(
        unload=tuple(name for name in current if name not in kept),
        load={name: uri for name, uri in listed.items() if name not in kept},
    )


def find(entry: str, *, cache: Path, token: str | None) -> Found:
    """Return the adapter's folder and rank, after a download if necessary; EngineError if it is not an adapter."""
    uri = entry.partition(contract.ADAPTER_REVISION)[0]
    folder = sources.resolve(
        sources.parse(uri), cache=cache, token=token, holds=selection.ADAPTER_CONFIG
    )
    try:
        rank = rank_of(json.loads((folder / selection.ADAPTER_CONFIG).read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{uri}: {selection.ADAPTER_CONFIG} can't be read: {error}") from error
    return Found(folder, rank)


def path_of(found: Found, entry: str, *, links: Path) -> Path:
    """Return the adapter's path for vLLM, which takes cached prefixes of the same path for those of the same weights.

    So an adapter with a revision has a link of its own.
    """
    if contract.ADAPTER_REVISION not in entry:
        return found.folder
    links.mkdir(parents=True, exist_ok=True)
    link = links / hashlib.sha256(f"{entry}\0{found.folder}".encode()).hexdigest()[:16]
    with contextlib.suppress(FileExistsError):
        link.symlink_to(found.folder, target_is_directory=True)
    return link


def rank_of(config: Any) -> int:
    """Return the highest rank in an adapter_config.json; ValueError if it has none."""
    rank: object = config.get("r") if isinstance(config, dict) else None
    if type(rank) is not int or rank < 1:
        raise ValueError("the field r, the rank, is missing")
    pattern = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict):
        raise ValueError("the field rank_pattern is no JSON object")
    return max([rank, *(other for other in pattern.values() if type(other) is int)])


def max_rank(config: Adapters, ranks: Iterable[int]) -> int:
    """Return the rank to start vLLM with: the configured one, else the highest of these ranks."""
    needed = config.rank or max([_LEAST_RANK, *(rank for rank in ranks if rank <= RANKS[-1])])
    return next(rank for rank in RANKS if rank >= needed)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in the folder's safetensors files; only their headers are read."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it has no __iter__)
                found[name] = tuple(tensors.get_slice(name).get_shape())
    return found


def check_base(
    adapter: Mapping[str, tuple[int, ...]], model: Mapping[str, tuple[int, ...]], *, uri: str
) -> None:
    """Raise EngineError if a tensor of the adapter does not fit the size of the module that it adapts.

    vLLM loads an adapter that is smaller, and then generates nonsense. Modules without such a tensor in the model, as
    in a quantized one, are left to vLLM.
    """
    for name, shape in adapter.items():
        match = _PART.fullmatch(name)
        adapted = model.get(f"{match['module']}.weight") if match else None
        if match is None or adapted is None or len(shape) != 2 or len(adapted) != 2:
            continue
        ours, theirs = (shape[1], adapted[1]) if match["part"] == "A" else (shape[0], adapted[0])
        if ours != theirs:
            raise EngineError(
                f"{uri}: was trained for a different base model: its {match['module']} has size {ours}, "
                f"the model's has {theirs}."
            )


def check_rank(found: Found, *, uri: str, max_rank: int) -> None:
    """Raise EngineError if the adapter's rank is above the rank that the engine was started for."""
    if found.rank > max_rank:
        raise EngineError(
            f"{uri}: has rank {found.rank}, and this engine was started for {max_rank}. "
            f"Set spec.model.maxAdapterRank to {next((rank for rank in RANKS if rank >= found.rank), RANKS[-1])}."
        )

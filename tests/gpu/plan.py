"""The operator's half of the contract: from a service to the configuration file of its engine."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from slipstream_operator.core import resolve
from tests.gpu import checkpoints
from tests.gpu.cases import CASES, Case
from tests.support import given

ROOT: Final = Path(__file__).parents[2]
SAMPLES: Final = tuple(sorted((ROOT / "tests/golden").glob("*-gpu.yaml")))
_PROFILE: Final = given.profile(
    sources={"allow": ["file://*", "s3://*"], "trustRemoteCode": True},
    accelerators=[
        {"name": "gpu", "resourceName": "nvidia.com/gpu"},
        {"name": "half", "resourceName": "nvidia.com/gpu.shared", "memoryShare": "50%"},
    ],
)


def spec(case: Case, models: Path) -> dict[str, Any]:
    """Return the spec of a case with the folders of its models."""
    found: dict[str, Any] = copy.deepcopy(dict(case.spec))
    found["model"] = {**found.get("model", {}), "uri": f"file://{models / case.model}"}
    if case.draft is not None:
        found["speculation"]["draft"] = f"file://{models / case.draft}"
    return found


def config(case: Case, models: Path) -> dict[str, Any]:
    """Return what the operator writes into the engine's file; PermanentError if it refuses the service."""
    parent = given.parent(spec(case, models))
    observed = given.observed(parent=parent, profiles=[_PROFILE], leader_worker_sets=True)
    return dict(resolve.resolve(observed).revisioned.config)


def samples(models: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and engine configuration of each golden GPU sample, with folders for its sources."""
    for path in SAMPLES:
        for manifest in yaml.safe_load_all(path.read_text()):
            if text := (manifest.get("data") or {}).get("engine.json"):
                found = json.loads(text)
                for part, key in (("model", "uri"), ("speculation", "draft")):
                    if key in found.get(part, {}):
                        source = checkpoints.SOURCES[found[part][key]]
                        found[part][key] = f"file://{models / source}"
                yield f"sample {path.stem}", found


def configs(models: Path) -> dict[str, dict[str, Any]]:
    """Return case or sample -> the configuration of its engine."""
    return {case.name: config(case, models) for case in CASES} | dict(samples(models))

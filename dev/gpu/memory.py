"""The memory that the operator's fit check predicts for an engine of the check, beside what the engine took."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.gpu.engines import Setup
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.core.fit import demands, memory

MIB: Final = 2**20


def predicted(setup: Setup, *, total_mib: float, gpu: str) -> Mapping[str, float | None]:
    """Return the prediction for one GPU in MiB, and the tokens of its KV cache; empty where it says nothing."""
    config = setup.slipstream()
    draft = config.get("speculation", {}).get("draft")
    facts = Facts(
        model=_facts(f"file://{setup.model}"), draft=_facts(draft) if draft else ModelFacts()
    )
    accelerator = Accelerator.model_validate(
        {
            "name": "".join(one if one.isalnum() else "-" for one in gpu.lower()).strip("-"),
            "resourceName": "nvidia.com/gpu",
            "memory": f"{int(total_mib)}Mi",
        }
    )
    found = memory.estimate(demands.of(config, accelerator, facts))
    if found is None:
        return {}
    return {
        "taken_mib": round(found.usable / MIB),
        "weights_mib": round(found.loaded / MIB),
        "activations_mib": round(found.activations / MIB),
        "graphs_mib": round(found.graphs / MIB),
        "kv_mib": round(found.kv / MIB),
        "kv_tokens": found.tokens,
    }


def _facts(uri: str) -> ModelFacts:
    """Facts as the job that inspects a model would report them, but for the size: made-up weights have no file."""
    folder = Path(uri.removeprefix("file://"))
    return ModelFacts(config=json.loads((folder / "config.json").read_text()), uri=uri)

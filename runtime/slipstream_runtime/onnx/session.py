"""Session of ONNX Runtime with the model, from a batch to one row of numbers for each sequence.

No other module imports ONNX Runtime. Calls block, and run one batch at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from slipstream_runtime.errors import EngineError, describe
from slipstream_runtime.onnx import pooling, providers
from slipstream_runtime.onnx.batching import BatchLimits
from slipstream_runtime.onnx.exported import Exported
from slipstream_runtime.onnx.tokens import Tokens

VERSION: Final[str] = onnxruntime.__version__

_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_STATES: Final = ("last_hidden_state", "token_embeddings")
_VECTORS: Final = ("sentence_embedding", "pooler_output")
_LOGITS: Final = ("logits",)


class Session:
    """Loaded model."""

    def __init__(
        self,
        model: Exported,
        *,
        uri: str,
        wanted: Sequence[str],
        threads: int,
        limits: BatchLimits,
        cache: Path | None,
    ) -> None:
        if providers.CUDA in wanted:
            onnxruntime.preload_dlls()  # from the wheels of CUDA and cuDNN, where the loader does not search
        found = providers.usable(wanted, available=onnxruntime.get_available_providers())
        try:
            chosen: list[Any] = [
                (name, _tensorrt(model, limits=limits, cache=cache))
                if name == providers.TENSORRT
                else name
                for name in found
            ]
            self._session = onnxruntime.InferenceSession(
                model.graph, _options(threads), providers=chosen
            )
        except Exception as error:
            # NB: the library has an exception class for each error code, without a common base.
            raise EngineError(f"{uri}: ONNX Runtime can't load it: {describe(error)}") from error
        self.providers = providers.compare(wanted, used=self._session.get_providers())
        self._reading = model.reading
        self._inputs = self._accepted(uri)
        self._output, self._pools = self._chosen(uri)

    def run(self, batch: Sequence[Tokens]) -> pooling.Floats:
        """Return one row for each sequence: a unit vector, a score, or probabilities by label."""
        longest = max(len(tokens) for tokens in batch)
        ids = np.full((len(batch), longest), self._reading.padding, np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens.ids
            types[row, : len(tokens)] = tokens.types
            mask[row, : len(tokens)] = 1
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        (found,) = self._session.run([self._output], {name: fed[name] for name in self._inputs})
        rows = self._read(np.asarray(found, np.float32), mask)
        if not np.isfinite(rows).all():
            raise ArithmeticError("the model returned NaN or infinity")
        return rows

    def _read(self, found: pooling.Floats, mask: pooling.Mask) -> pooling.Floats:
        reading = self._reading
        if reading.task != "embed":
            return pooling.activate(found, by=reading.activation)
        vectors = pooling.pool(found, mask, by=reading.pooling) if self._pools else found
        return pooling.normalize(vectors) if reading.normalize else vectors

    def _accepted(self, uri: str) -> list[str]:
        names = [node.name for node in self._session.get_inputs()]
        unknown = sorted(set(names) - _INPUTS)
        if unknown or "input_ids" not in names:
            raise EngineError(
                f"{uri}: the graph has the inputs {', '.join(unknown or names)}, and runtime onnx supports "
                f"{', '.join(sorted(_INPUTS))}. Export the model again."
            )
        return names

    def _chosen(self, uri: str) -> tuple[str, bool]:
        """Return the output to read, and whether it has to be pooled."""
        names = [node.name for node in self._session.get_outputs()]
        known = (*_STATES, *_VECTORS) if self._reading.task == "embed" else _LOGITS
        name = next((name for name in known if name in names), None)
        if name is None:
            raise EngineError(
                f"{uri}: the graph has the outputs {', '.join(names)}, and runtime onnx needs one of "
                f"{', '.join(known)}. Export the model again."
            )
        return name, name in _STATES


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # NB: a pattern is stored for each shape of input, and batches have many shapes.
    options.enable_mem_pattern = False
    # NB: threads that spin while they wait use up the pod's CPU quota, or another pod's core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _tensorrt(model: Exported, *, limits: BatchLimits, cache: Path | None) -> dict[str, str]:
    reader = onnxruntime.InferenceSession(model.graph, providers=[providers.CPU])
    return providers.tensorrt_options(
        [node.name for node in reader.get_inputs()],
        sequences=limits.sequences,
        length=model.max_length,
        cache=cache / "tensorrt" if cache else None,
    )

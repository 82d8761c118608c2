"""Pooling of a model's output into one vector, score or distribution per sequence.

Pure, over numpy arrays in float32.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from slipstream_runtime.onnx.exported import Activation, Pooling

Floats: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.int64]

_SMALLEST = 1e-12
"""Norm below which a vector has no direction; torch's default."""


def pool(states: Floats, mask: Mask, *, by: Pooling) -> Floats:
    """Return a vector a sequence: [sequences, tokens, size] -> [sequences, size]; the mask is 0 on trailing padding."""
    present = mask[:, :, None].astype(np.float32)
    match by:
        case "mean":
            pooled: Floats = (states * present).sum(axis=1) / present.sum(axis=1)
            return pooled
        case "max":
            lowest = np.where(present > 0, states, np.float32(-np.inf))
            highest: Floats = lowest.max(axis=1)
            return highest
        case "cls":
            first: Floats = states[:, 0]
            return first
        case "lasttoken":
            last: Floats = states[np.arange(len(states)), mask.sum(axis=1) - 1]
            return last
        case "none":
            raise AssertionError("a classifier's output is not pooled")


def normalize(vectors: Floats) -> Floats:
    """Return the vectors scaled to length 1."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, _SMALLEST)
    return unit


def activate(logits: Floats, *, by: Activation) -> Floats:
    """Return probabilities, or the logits themselves: [sequences, labels] in and out."""
    match by:
        case "identity":
            return logits
        case "sigmoid":
            chances: Floats = ((1 + np.tanh(logits / 2)) / 2).astype(np.float32)
            return chances
        case "softmax":
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares: Floats = powers / powers.sum(axis=1, keepdims=True)
            return shares

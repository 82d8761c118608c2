"""From a model's output to vectors and probabilities, padding left out."""

import numpy as np
import pytest

from slipstream_runtime.onnx import pooling
from slipstream_runtime.onnx.exported import Activation, Pooling

STATES = np.array([[[1, 2], [3, 6], [99, -99]], [[4, 4], [0, 0], [2, 8]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("by", "vectors"),
    [
        ("mean", [[2, 4], [2, 4]]),
        ("cls", [[1, 2], [4, 4]]),
        ("max", [[3, 6], [4, 8]]),
        ("lasttoken", [[3, 6], [2, 8]]),
    ],
)
def test_padding_is_no_part_of_a_vector(by: Pooling, vectors: list[list[float]]) -> None:
    assert pooling.pool(STATES, MASK, by=by).tolist() == vectors


def test_normalized_vectors_have_length_one_and_zero_stays_zero() -> None:
    vectors = pooling.normalize(np.array([[3, 4], [0, 0]], np.float32))
    assert vectors == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("identity", [[0, np.log(3)]]),
        ("sigmoid", [[0.5, 0.75]]),
        ("softmax", [[0.25, 0.75]]),
    ],
)
def test_logits_become(by: Activation, rows: list[list[float]]) -> None:
    logits = np.array([[0, np.log(3)]], np.float32)
    assert pooling.activate(logits, by=by) == pytest.approx(np.array(rows))


@pytest.mark.parametrize("by", ["sigmoid", "softmax"])
def test_great_logits_overflow_nothing(by: Activation) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = pooling.activate(np.array([[-1000, 1000]], np.float32), by=by)
    assert found == pytest.approx(np.array([[0, 1]]))

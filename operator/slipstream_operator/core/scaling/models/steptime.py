"""Time of one engine step, learned from the metrics of engines.

A step with b sequences, K tokens in the KV cache and p prompt tokens takes
alpha + beta*b + gamma*K + delta*p seconds. Observations are averaged within classes of load, so that
idle hours don't outweigh observations under load. The fit is a non-negative ridge regression.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

_SHAPE: Final = (0.007, 20e-6, 60e-9, 32e-6)
"""Prior proportions in seconds: 8B parameters in 16 bits on one accelerator.

Only the ratios count: the first observations set the scale.
"""
NOISE: Final = 0.1
"""Relative standard deviation of one observation of a step's time."""
_PRIOR: Final = 4.0
"""Precision of the prior proportions: their standard deviation is a half."""
_FORGETTING: Final = 0.05
"""Weight of the newest observation of a class once 20 were made."""
_MOST_WEIGHT: Final = 8.0
"""Largest number of observations that a class counts for: errors that they share don't average out."""
_OUTLIER: Final = 6.63
"""Quantile 0.99 of chi-squared with one degree of freedom, above which an observation is an outlier."""
_HUBER: Final = 1.345
"""Huber's constant for 95 % efficiency under normal errors."""
_DISBELIEF: Final = 8
"""Outliers in a row that mean a changed engine: the model is dropped and learned again."""
CLASSES: Final = 8
"""Classes of load, by powers of two of the batch: 1 to 128 and more."""
_MAX_UNCERTAINTY: Final = 0.5
"""Relative standard deviation that is assumed before the first observation, and at most."""

Vector: TypeAlias = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds of a step: `alpha` fixed, `beta` per sequence, `gamma` per KV token, `delta` per prompt token."""

    alpha: float
    beta: float
    gamma: float
    delta: float


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """Means of the steps of an engine over a window: batch, KV tokens, prompt tokens, seconds."""

    batch: float
    context: float
    prompt: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Mean of the observations of one class of load, and their weighted count."""

    count: float
    batch: float
    context: float
    prompt: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class StepTimeModel:
    """Model of the step time. Only `rows` survive a restart; the rest is fitted to them."""

    rows: tuple[Row, ...] = ()
    coefficients: Coefficients | None = None
    uncertainty: float = _MAX_UNCERTAINTY
    """Relative standard deviation of the step time at the heaviest observed load."""
    disbelieved: int = 0

    @property
    def cautious(self) -> Coefficients | None:
        """Coefficients plus one standard deviation: an uncertain model assumes less capacity."""
        if self.coefficients is None:
            return None
        more = 1 + self.uncertainty
        fit = self.coefficients
        return Coefficients(fit.alpha * more, fit.beta * more, fit.gamma * more, fit.delta * more)


def learn(model: StepTimeModel, observations: Sequence[Observation]) -> StepTimeModel:
    """Return the model after these observations; outliers are left out until they persist."""
    rows = {_class_of(row.batch): row for row in model.rows}
    disbelieved = model.disbelieved
    learned = False
    for seen in observations:
        weight = _belief(model, seen)
        if weight == 0:
            disbelieved += 1
            if disbelieved < _DISBELIEF:
                continue
            rows, model, weight = {}, StepTimeModel(), 1.0
        disbelieved = 0
        learned = True
        index = _class_of(seen.batch)
        rows[index] = _averaged(rows.get(index), seen, weight)
    if not learned:
        return dataclasses.replace(model, disbelieved=disbelieved)
    return dataclasses.replace(
        fit(tuple(rows[index] for index in sorted(rows))), disbelieved=disbelieved
    )


def fit(rows: tuple[Row, ...]) -> StepTimeModel:
    """Fit by ridge regression towards the prior proportions; negative coefficients become zero, and the fit repeats."""
    if not rows:
        return StepTimeModel()
    scale = _scale(rows)
    prior = tuple(scale * part for part in _SHAPE)
    gram = [[_PRIOR if i == j else 0.0 for j in range(4)] for i in range(4)]
    right = [_PRIOR] * 4
    for row in rows:
        weight = min(row.count, _MOST_WEIGHT) / (NOISE * row.seconds) ** 2
        features = _scaled(row, prior)
        for i in range(4):
            weighted = weight * features[i]
            right[i] += weighted * row.seconds
            for j in range(4):
                gram[i][j] += weighted * features[j]
    active = [0, 1, 2, 3]
    while True:
        solution, inverse = _solve(gram, right, active)
        negative = [i for i in active if solution[i] < 0]
        if not negative:
            break
        active = [i for i in active if solution[i] >= 0]
    values = [solution[i] * prior[i] for i in range(4)]
    point = _scaled(rows[-1], prior)
    variance = sum(point[i] * inverse[i][j] * point[j] for i in active for j in active)
    predicted = sum(point[i] * solution[i] for i in range(4))
    uncertainty = min(math.sqrt(max(variance, 0.0)) / predicted, _MAX_UNCERTAINTY)
    return StepTimeModel(rows, Coefficients(*values), uncertainty)


def _class_of(batch: float) -> int:
    return max(0, min(CLASSES - 1, math.floor(math.log2(max(batch, 1.0)) + 0.5)))


def _belief(model: StepTimeModel, seen: Observation) -> float:
    """Return Huber's weight of an observation; 0 for an outlier."""
    fitted = model.coefficients
    if fitted is None:
        return 1.0
    predicted = (
        fitted.alpha
        + fitted.beta * seen.batch
        + fitted.gamma * seen.context
        + fitted.delta * seen.prompt
    )
    deviation = math.sqrt(NOISE**2 + model.uncertainty**2)
    error = abs(math.log(seen.seconds / max(predicted, 1e-9))) / deviation
    if error**2 > _OUTLIER:
        return 0.0
    return min(1.0, _HUBER / error) if error > 0 else 1.0


def _averaged(row: Row | None, seen: Observation, weight: float) -> Row:
    if row is None:
        return Row(weight, seen.batch, seen.context, seen.prompt, seen.seconds)
    count = min(row.count + weight, 1 / _FORGETTING)
    gain = weight / count
    return Row(
        count,
        row.batch + gain * (seen.batch - row.batch),
        row.context + gain * (seen.context - row.context),
        row.prompt + gain * (seen.prompt - row.prompt),
        row.seconds + gain * (seen.seconds - row.seconds),
    )


def _scale(rows: Sequence[Row]) -> float:
    """Return the factor of the prior proportions that fits the rows best."""
    top = bottom = 0.0
    for row in rows:
        shape = sum(
            part * feature
            for part, feature in zip(_SHAPE, (1.0, row.batch, row.context, row.prompt), strict=True)
        )
        weight = row.count / row.seconds**2
        top += weight * shape * row.seconds
        bottom += weight * shape * shape
    return top / bottom


def _scaled(row: Row, prior: Sequence[float]) -> Vector:
    return (
        prior[0],
        prior[1] * row.batch,
        prior[2] * row.context,
        prior[3] * row.prompt,
    )


def _solve(
    gram: Sequence[Sequence[float]], right: Sequence[float], active: Sequence[int]
) -> tuple[list[float], list[list[float]]]:
    """Return solution and inverse over the active rows, by Gauss-Jordan; the matrix is positive definite."""
    size = len(active)
    work = [[gram[i][j] for j in active] + [1.0 if i == j else 0.0 for j in active] for i in active]
    for column in range(size):
        pivot = work[column][column]
        lead = [value / pivot for value in work[column]]
        work[column] = lead
        for row in range(size):
            if row != column and (factor := work[row][column]):
                work[row] = [
                    value - factor * other for value, other in zip(work[row], lead, strict=True)
                ]
    inverse = [[0.0] * 4 for _ in range(4)]
    for i, at in enumerate(active):
        for j, to in enumerate(active):
            inverse[at][to] = work[i][size + j]
    solution = [sum(inverse[i][j] * right[j] for j in active) for i in range(4)]
    return solution, inverse

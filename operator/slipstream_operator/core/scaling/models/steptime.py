"""How long one engine step takes, learned from what engines report.

A step with b sequences, K tokens in the KV cache and p prompt tokens takes
alpha + beta*b + gamma*K + delta*p seconds. Observations are averaged within classes of load, so that
idle hours don't wash out what was learned under load; the fit is a non-negative ridge regression.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

_SHAPE: Final = (0.007, 20e-6, 60e-9, 32e-6)
"""Prior proportions: 8B parameters in 16 bits on one accelerator. Only the ratios count: the first observations
set the scale."""
NOISE: Final = 0.1
"""Relative standard deviation of one observation of a step's time."""
_PRIOR: Final = 4.0
"""Precision of the prior proportions: each may be off by half."""
_FORGETTING: Final = 0.05
_MOST_WEIGHT: Final = 8.0
"""Observations that a class counts for at most: their common errors don't average out."""
_OUTLIER: Final = 6.63
"""The 99 % quantile of chi-squared with one degree of freedom: above it an observation is not believed."""
_HUBER: Final = 1.345
_DISBELIEF: Final = 8
"""So many unbelievable observations in a row mean that the engine changed, and what was learned is dropped."""
_CLASSES: Final = 8
_MAX_UNCERTAINTY: Final = 0.5

Vector: TypeAlias = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds of a step: `alpha` fixed, `beta` a sequence, `gamma` a KV token, `delta` a prompt token."""

    alpha: float
    beta: float
    gamma: float
    delta: float


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """Means over a window, of the steps that an engine took: batch, KV tokens, prompt tokens, seconds."""

    batch: float
    context: float
    prompt: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """The mean of the observations of one class of load, and how many they stand for."""

    count: float
    batch: float
    context: float
    prompt: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class StepTimeModel:
    """What is known; `rows` alone are kept over a restart, the rest is fitted to them."""

    rows: tuple[Row, ...] = ()
    coefficients: Coefficients | None = None
    uncertainty: float = _MAX_UNCERTAINTY
    """One relative standard deviation of a step's time at the heaviest load that was seen."""
    disbelieved: int = 0

    @property
    def cautious(self) -> Coefficients | None:
        """The coefficients plus one standard deviation: poor knowledge means less capacity."""
        if self.coefficients is None:
            return None
        more = 1 + self.uncertainty
        fit = self.coefficients
        return Coefficients(fit.alpha * more, fit.beta * more, fit.gamma * more, fit.delta * more)


def learn(model: StepTimeModel, observations: Sequence[Observation]) -> StepTimeModel:
    """The model after these observations; outliers are left out until they prove to be the rule."""
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
    """Ridge towards the prior proportions, with negative coefficients set to zero and the others fitted anew."""
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
    return max(0, min(_CLASSES - 1, math.floor(math.log2(max(batch, 1.0)) + 0.5)))


def _belief(model: StepTimeModel, seen: Observation) -> float:
    """Huber's weight of an observation; 0 if it is too far from the model to be believed."""
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
    """What the prior proportions must be multiplied by to fit the rows best."""
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
    """Solution and inverse over the active rows, by Gauss-Jordan; the matrix is positive definite."""
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

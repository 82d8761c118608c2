"""Distributions that scenarios use: lengths of prompts and outputs, and times of cold starts."""

import math
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from slipstream_simulator.quantities import Part, Seconds, Share


class LognormalLength(Part):
    """Lognormal number of tokens, capped at `max`."""

    distribution: Literal["lognormal"]
    median: float = Field(ge=1)
    mean: float = Field(ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _mean_above_median(self) -> Self:
        if self.mean < self.median:
            raise ValueError(
                f"mean {self.mean:g} is below median {self.median:g}, which no lognormal is: swap them?"
            )
        return self

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw lengths before rounding; sigma follows from mean = median * exp(sigma^2 / 2)."""
        sigma = math.sqrt(2 * math.log(self.mean / self.median))
        return self.median * np.exp(sigma * generator.standard_normal(count))


class FixedLength(Part):
    """Constant number of tokens."""

    distribution: Literal["fixed"]
    value: int = Field(ge=1)

    @property
    def max(self) -> int:
        """Return the longest length."""
        return self.value

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return the value; the generator advances as for any other distribution."""
        generator.standard_normal(count)
        return np.full(count, float(self.value))


class ExponentialLength(Part):
    """Exponential number of tokens, capped at `max`."""

    distribution: Literal["exponential"]
    mean: float = Field(ge=1)
    max: int = Field(ge=1)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw lengths before rounding."""
        return generator.exponential(self.mean, count)


class UniformLength(Part):
    """Uniform number of tokens from `min` to `max`."""

    distribution: Literal["uniform"]
    min: int = Field(ge=1)
    max: int = Field(ge=1)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Lengths before rounding."""
        return generator.uniform(self.min - 0.5, self.max + 0.5, count)


Length: TypeAlias = Annotated[
    LognormalLength | FixedLength | ExponentialLength | UniformLength,
    Field(discriminator="distribution"),
]


class LognormalTime(Part):
    """Lognormal time in seconds; `sigma` is the standard deviation of the logarithm."""

    distribution: Literal["lognormal"]
    median: Seconds = Field(gt=0)
    sigma: float = Field(default=0.3, ge=0, le=3)

    def draw(self, generator: np.random.Generator) -> float:
        """Draw one time."""
        return self.median * math.exp(self.sigma * generator.standard_normal())


class FixedTime(Part):
    """Constant time."""

    distribution: Literal["fixed"]
    value: Seconds = Field(gt=0)

    def draw(self, generator: np.random.Generator) -> float:
        """Return the time."""
        return self.value


class Choice(Part):
    """One distribution of a mixture, with its share."""

    share: Share
    time: Annotated[LognormalTime | FixedTime, Field(discriminator="distribution")]


class MixtureTime(Part):
    """Mixture of distributions, for example when some starts wait for a new node."""

    distribution: Literal["mixture"]
    of: tuple[Choice, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(choice.share for choice in self.of)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares add up to {total:.0%}: make them 100%")
        return self

    def draw(self, generator: np.random.Generator) -> float:
        """One time."""
        luck = generator.random()
        for choice in self.of:
            luck -= choice.share
            if luck < 0:
                break
        return choice.time.draw(generator)


class PhasedTime(Part):
    """Sum of named phases that follow each other: pull, load, compile, warm."""

    distribution: Literal["phases"]
    phases: dict[
        str, Annotated[LognormalTime | FixedTime | MixtureTime, Field(discriminator="distribution")]
    ] = Field(min_length=1)

    def draw(self, generator: np.random.Generator) -> float:
        """One time."""
        return sum(phase.draw(generator) for phase in self.phases.values())


Time: TypeAlias = Annotated[
    LognormalTime | FixedTime | MixtureTime | PhasedTime, Field(discriminator="distribution")
]

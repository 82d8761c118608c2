"""Configuration of an evaluation: who answers, which items, which metrics, and the greatest loss of each."""

from pathlib import Path
from typing import Annotated

import pydantic

from slipstream_runtime.evaluate.quality.items import FIELDS
from slipstream_runtime.evaluate.quality.metrics import METRICS, Name
from slipstream_runtime.part import Part, Positive

MOST_EXAMPLES = 20


class Model(Part):
    """Model that answers: an OpenAI-compatible endpoint, or a checkpoint that is loaded into this process."""

    url: Annotated[str, pydantic.Field(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")] | None = None
    """Address of the server, with or without /v1. Errors name it, so it holds no password."""
    model: str | None = None
    """Name of the model at that address."""
    key_file: Path | None = None
    """File with the API key. A key never stands in the configuration itself."""
    ca_file: Path | None = None
    """File with the certificates that sign the server's; None takes those of the system."""
    path: str | None = None
    """URI or folder of the checkpoint, such as hf://org/name."""
    identity: str = ""
    """Name of what answers at the address, such as a revision. Kept answers of another identity are not used."""

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> "Model":
        if (self.url is None) == (self.path is None):
            raise ValueError("give either url (and model), or path")
        if self.url is not None and self.model is None:
            raise ValueError("model: name the model that the url serves")
        return self


class Dataset(Part):
    """Items by a file of JSON lines, or a task of lm-evaluation-harness."""

    uri: str | None = None
    """File as a path, or as hf://datasets/org/name[@revision]/file, s3://bucket/file or gs://bucket/file."""
    fields: Annotated[dict[str, str], pydantic.Field(default_factory=dict)]
    """Names of the dataset's fields, where they differ, such as reference: answer."""
    task: str | None = None
    """Name of a task of lm-evaluation-harness, such as gsm8k."""
    tasks_folder: Path | None = None
    """Folder with own task files of lm-evaluation-harness."""

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> "Dataset":
        if (self.uri is None) == (self.task is None):
            raise ValueError("give either uri or task")
        if unknown := self.fields.keys() - set(FIELDS):
            raise ValueError(
                f'fields: "{min(unknown)}" is not a field of an item. Use {", ".join(FIELDS)}'
            )
        return self


class Metric(Part):
    """Metric and the greatest loss against the baseline that still passes."""

    name: Name
    max_regression: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    """Greatest loss: of a score, as a share of 1; of perplexity, as its relative growth. None only measures."""


class QualityConfig(Part):
    """Everything that decides an evaluation."""

    candidate: Model
    baseline: Model | None = None
    dataset: Dataset
    metrics: Annotated[tuple[Metric, ...], pydantic.Field(max_length=len(METRICS))] = ()
    """Metrics; with a task of lm-evaluation-harness, only those that its own metrics do not cover: none."""
    max_regression: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    """Greatest loss of each metric of a task of lm-evaluation-harness."""
    judge: Model | None = None
    max_items: Positive | None = None
    """Number of items to ask, drawn at random by `seed`; None asks all."""
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    max_tokens: Positive = 256
    """Longest answer, in tokens."""
    chat: bool = True
    """Whether questions are asked by the model's chat template."""
    concurrency: Positive = 16
    """Requests in flight to one endpoint, or questions in one batch of a loaded checkpoint."""
    timeout: Annotated[float, pydantic.Field(gt=0)] = 300.0
    """Seconds for one request."""
    examples: Annotated[int, pydantic.Field(ge=0, le=MOST_EXAMPLES)] = 0
    """Number of worst regressions that the report shows with both answers. 0 shows no answers."""
    output: Path
    """Folder of the report and of the kept answers."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "QualityConfig":
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError("metrics: a metric is listed twice")
        if bool(self.metrics) == (self.dataset.task is not None):
            raise ValueError("metrics: list them for dataset.uri, and leave them out for a task")
        if self.baseline is None:
            needy = [name for name in names if METRICS[name].relative]
            needy += [m.name for m in self.metrics if m.max_regression is not None]
            if needy or self.max_regression is not None:
                raise ValueError(
                    f"baseline: {needy[0] if needy else 'maxRegression'} compares with a baseline; give one"
                )
        if (Name.JUDGE in names) != (self.judge is not None):
            raise ValueError("judge: name a model if, and only if, the metric Judge is used")
        return self

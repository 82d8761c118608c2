"""Configuration of a build: source, steps and output. The operator writes it, and `slipstream build --local` too."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from slipstream_runtime import build_support
from slipstream_runtime.evaluate.quality.config import Dataset, Metric
from slipstream_runtime.part import Part, Positive

Share = Annotated[float, pydantic.Field(gt=0, lt=1)]


class Samples(Part):
    """Texts or conversations of a dataset, for calibration or training."""

    dataset: Dataset
    samples: Positive | None = None
    """Number of items, drawn by the recipe's seed; None takes all."""
    max_length: Annotated[int, pydantic.Field(ge=2)] = 2048
    """Tokens at which a longer item is cut."""


class Training(Samples):
    """Short fine-tuning on a dataset."""

    epochs: Annotated[float, pydantic.Field(gt=0)] = 1.0
    learning_rate: Annotated[float, pydantic.Field(gt=0)] | None = None
    """None takes the step's own default."""
    batch: Positive = 8


class Quantize(Part):
    """Quantization by llm-compressor, in the form of compressed-tensors."""

    scheme: build_support.Scheme
    method: build_support.Method = "rtn"
    kv_cache: Literal["fp8"] | None = None
    """Scales for a KV cache in fp8, from the calibration."""
    calibration: Samples | None = None
    ignore: tuple[str, ...] = ("lm_head",)
    """Modules that stay as they are: names, or regular expressions after `re:`."""


class Sparsify(Part):
    """Pruning of single weights."""

    pattern: build_support.Pattern
    method: build_support.PruningMethod = "sparsegpt"
    sparsity: Share = 0.5
    """Share of zeros; always 50 % for 2of4."""
    calibration: Samples | None = None
    heal: Training | None = None
    """Fine-tuning after pruning, during which zeros stay zero."""


class Prune(Part):
    """Structured pruning: exactly one of whole layers, heads or channels, chosen by measured importance."""

    layers: Share | None = None
    """Share of the decoder layers to remove."""
    heads: Share | None = None
    channels: Share | None = None
    """Share of the channels of the feed-forward blocks to remove."""
    calibration: Samples
    heal: Training | None = None


class Shape(Part):
    """Size of a student that is initialized from its teacher."""

    layers: Positive
    hidden: Positive | None = None
    """Width; None keeps the teacher's."""


class Distill(Part):
    """Training of a student on its teacher's answers, by TRL's trainers."""

    student: Shape | str
    """Shape, or URI of a checkpoint with the teacher's tokenizer."""
    training: Training
    temperature: Annotated[float, pydantic.Field(gt=0)] = 1.0
    loss: Literal["forward-kl", "reverse-kl", "sequence"] = "forward-kl"
    """`sequence` trains on the teacher's own answers instead of its logits."""
    purpose: Literal["Serve", "Draft"] = "Serve"
    """A draft is scored by its accepted tokens against the teacher in the engine, instead of by its answers."""
    speculator: Literal["eagle3"] | None = None
    """Head by the library speculators instead of a whole model; only on GPUs, for purpose Draft."""


class Export(Part):
    """Export to ONNX, with graph optimization, checked against the source."""

    format: Literal["onnx"] = "onnx"
    precision: Literal["fp32", "int8"] = "fp32"
    tolerance: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Greatest absolute difference of an output from the source's. Of int8: of a vector's cosine similarity from 1, or
    of a score or probability. None is the precision's default."""
    opset: Positive | None = None


class Step(Part):
    """One step: exactly one of its fields."""

    quantize: Quantize | None = None
    sparsify: Sparsify | None = None
    prune: Prune | None = None
    distill: Distill | None = None
    export: Export | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> "Step":
        if len(self.model_fields_set) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Return the name of the step's field, such as quantize."""
        return next(iter(self.model_fields_set))


class Quality(Part):
    """Evaluation of every step's checkpoint against the source. The last one decides about the output."""

    dataset: Dataset
    metrics: tuple[Metric, ...] = ()
    max_regression: Share | None = None
    """Greatest loss of each metric of a task of lm-evaluation-harness."""
    max_items: Positive | None = None
    max_tokens: Positive = 256
    chat: bool = True
    min_acceptance: Share | None = None
    """Least share of draft tokens that the teacher accepts, for purpose Draft."""


class Output(Part):
    """Place of the artifact."""

    uri: Annotated[str, pydantic.Field(pattern=r"^(pvc|s3|gs|oci|file)://")]
    plain_http: bool = False
    """Whether an `oci://` registry is reached without TLS, as one inside a cluster may be."""


class Recipe(Part):
    """Everything that decides an artifact."""

    name: str
    uid: str
    """Identity of the build. An output of another build is never overwritten."""
    source: str
    """URI of the checkpoint."""
    steps: Annotated[tuple[Step, ...], pydantic.Field(min_length=1, max_length=8)]
    output: Output
    quality: Quality | None = None
    device: build_support.Device = "cpu"
    memory: Positive | None = None
    """Bytes that a step may use: of the accelerator, or of the container on CPUs. None is unknown."""
    seed: int = 0
    work: Path
    """Folder of finished steps and of checkpoints of the running one. A build that finds it resumes."""
    cache: Path
    """Folder of downloads."""

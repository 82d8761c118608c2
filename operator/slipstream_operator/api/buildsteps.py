"""Steps of a ModelBuild. Their fields have the names of the builder's recipe."""

from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api import units
from slipstream_operator.api.base import ApiModel, rule, rules
from slipstream_operator.api.datasets import DatasetSpec
from slipstream_operator.api.sources import ModelUri
from slipstream_runtime import build_support

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


def _above_zero(number: float) -> float:
    if not number > 0:
        raise ValueError(f"{number:g} must be more than zero.")
    return number


_MORE_THAN_ZERO: Final = pydantic.AfterValidator(_above_zero)
_ABOVE_ZERO: Final = Field(
    ge=0, json_schema_extra=rules(rule("self > 0.0", message="must be more than zero."))
)
"""Bound of numbers so small that YAML would write their minimum in a form that not all of its readers know."""
_ZERO_OR_ALL: Final = "^(0{1,2}([.]0{1,2})?|100)%$"


def _share(text: str) -> str:
    if not 0 < units.share(text) < 1:
        raise ValueError(f'"{text}" must be more than 0% and less than 100%.')
    return text


Share = Annotated[
    str,
    pydantic.AfterValidator(_share),
    Field(
        max_length=8,
        json_schema_extra=rules(
            rule(
                f"self.matches('{units.PERCENTAGE_PATTERN}') && !self.matches('{_ZERO_OR_ALL}')",
                message_expression=(
                    "'\"' + self + '\" is not a share. Use a percentage between 0% and 100%, such as 50%.'"
                ),
            )
        ),
    ),
]
"""Percentage between 0 and 100, both excluded."""


class Samples(ApiModel):
    """Texts or conversations of a dataset, for calibration."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.dataset.task)",
                message="a task of lm-evaluation-harness has no texts. Use configMap, claim or uri.",
                field_path=".dataset.task",
            )
        )
    )
    dataset: DatasetSpec = Field(description="Dataset.")
    samples: Count | None = Field(
        default=None, description="Number of items, drawn by spec.seed. Default: all."
    )
    max_length: Annotated[int, Field(ge=2, le=10_000_000)] | None = Field(
        default=None, description="Tokens at which a longer item is cut. Default: 2048."
    )


class Training(Samples):
    """Training on a dataset."""

    epochs: Annotated[float, Field(ge=0.001, le=10_000)] | None = Field(
        default=None, description="Passes over the items. Default: 1."
    )
    learning_rate: Annotated[float, _MORE_THAN_ZERO, _ABOVE_ZERO, Field(le=10)] | None = Field(
        default=None, description="Learning rate. Default: the step's own."
    )
    batch: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None, description="Items of a batch. Default: 8."
    )


def _method_rules() -> list[dict[str, str]]:
    """Return one rule for each scheme, from the table of the builder."""
    return [
        rule(
            f"self.scheme != '{scheme}' || !has(self.method) || self.method in {list(methods)}",
            message_expression=(
                f"'\"' + self.method + '\" is not offered for {scheme}. Use {' or '.join(methods)}.'"
            ),
            field_path=".method",
        )
        for scheme, methods in build_support.SCHEME_METHODS.items()
    ]


_CALIBRATED: Final = sorted(build_support.CALIBRATED)
_CALIBRATED_SCHEMES: Final = [
    scheme for scheme in build_support.SCHEMES if build_support.needs_calibration(scheme, "rtn")
]


class Quantize(ApiModel):
    """Quantization by llm-compressor, in the form of compressed-tensors."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            *_method_rules(),
            rule(
                f"has(self.calibration) || !((has(self.method) && self.method in {_CALIBRATED}) || "
                f"self.scheme in {_CALIBRATED_SCHEMES} || has(self.kvCache))",
                message="this scheme, method or kvCache needs calibration. Set calibration.dataset.",
            ),
        )
    )
    scheme: build_support.Scheme = Field(
        description="Form of weights and activations: fp8, fp8-static, w8a8, w4a16, nvfp4 or mxfp4."
    )
    method: build_support.Method | None = Field(
        default=None, description="Method: rtn, gptq, awq or smoothquant. Default: rtn."
    )
    kv_cache: Literal["fp8"] | None = Field(
        default=None, description="Scales for a KV cache in fp8, from the calibration."
    )
    calibration: Samples | None = Field(default=None, description="Texts for the calibration.")
    ignore: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=64)]
        | None
    ) = Field(
        default=None,
        description="Modules that stay as they are: names, or regular expressions after re:. Default: lm_head.",
    )


class Sparsify(ApiModel):
    """Pruning of single weights."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.pattern != '2of4' || !has(self.method) || self.method != 'magnitude'",
                message="magnitude can't make 2of4. Use wanda or sparsegpt.",
                field_path=".method",
            ),
            rule(
                "has(self.calibration) || (has(self.method) && self.method == 'magnitude')",
                message="wanda and sparsegpt need calibration. Set calibration.dataset.",
            ),
            rule(
                "self.pattern != '2of4' || !has(self.sparsity) || self.sparsity == '50%'",
                message="2of4 is always 50%. Leave sparsity out, or use pattern: unstructured.",
                field_path=".sparsity",
            ),
        )
    )
    pattern: build_support.Pattern = Field(
        description="Pattern of the zeros: 2of4 or unstructured."
    )
    method: build_support.PruningMethod | None = Field(
        default=None, description="Method: magnitude, wanda or sparsegpt. Default: sparsegpt."
    )
    sparsity: Share | None = Field(default=None, description="Share of zeros. Default: 50%.")
    calibration: Samples | None = Field(default=None, description="Texts for wanda and sparsegpt.")
    heal: Training | None = Field(
        default=None, description="Training after the pruning, during which zeros stay zero."
    )


class Prune(ApiModel):
    """Structured pruning of whole layers, heads or channels, chosen by measured importance."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.layers), has(self.heads), has(self.channels)].filter(given, given).size() == 1",
                message="needs exactly one of layers, heads and channels. Use a step for each.",
            )
        )
    )
    layers: Share | None = Field(
        default=None, description="Share of the decoder layers to remove, such as 25%."
    )
    heads: Share | None = Field(default=None, description="Share of the attention heads to remove.")
    channels: Share | None = Field(
        default=None, description="Share of the channels of the feed-forward blocks to remove."
    )
    calibration: Samples = Field(description="Texts by which importance is measured.")
    heal: Training | None = Field(default=None, description="Training after the pruning.")


class Student(ApiModel):
    """Checkpoint, or size of a student that is initialized from its teacher."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.uri) != has(self.layers) && !(has(self.uri) && has(self.hidden))",
                message="needs either uri, or layers and optionally hidden.",
            )
        )
    )
    uri: ModelUri | None = Field(
        default=None, description="Checkpoint with the teacher's tokenizer."
    )
    layers: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Number of layers."
    )
    hidden: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Width of the layers. Default: the teacher's."
    )


class Distill(ApiModel):
    """Training of a student on its teacher's answers, by TRL's trainers."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.speculator) || (has(self.purpose) && self.purpose == 'Draft')",
                message="a speculator is a draft. Set purpose: Draft, or leave speculator out.",
                field_path=".speculator",
            )
        )
    )
    student: Student = Field(description="Student.")
    training: Training = Field(description="Dataset and length of the training.")
    temperature: Annotated[float, Field(ge=0.01, le=100)] | None = Field(
        default=None, description="Temperature of the logits. Default: 1."
    )
    loss: Literal["forward-kl", "reverse-kl", "sequence"] | None = Field(
        default=None,
        description="Loss. sequence trains on the teacher's own answers. Default: forward-kl.",
    )
    purpose: Literal["Serve", "Draft"] | None = Field(
        default=None,
        description="Use of the student. A Draft is scored by its accepted tokens against the teacher. Default: Serve.",
    )
    speculator: Literal["eagle3"] | None = Field(
        default=None,
        description="Head by the library speculators in place of a whole model, on GPUs only.",
    )


class Export(ApiModel):
    """Export to ONNX with graph optimization, checked against the source."""

    format: Literal["onnx"] | None = Field(default=None, description="Format. Default: onnx.")
    precision: Literal["fp32", "int8"] | None = Field(
        default=None, description="Precision: fp32 or int8. Default: fp32."
    )
    tolerance: Annotated[float, _MORE_THAN_ZERO, _ABOVE_ZERO, Field(le=1)] | None = Field(
        default=None,
        description="Greatest difference of an output from the source's. Of int8: of a vector's cosine similarity from "
        "1, or of a score or probability. Default: 0.001 of fp32, 0.05 of int8.",
    )
    opset: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None, description="Version of ONNX's operators. Default: the exporter's."
    )


class Step(ApiModel):
    """One step: exactly one of its fields."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.quantize), has(self.sparsify), has(self.prune), has(self.distill), has(self.export)]"
                ".filter(given, given).size() == 1",
                message="is exactly one of quantize, sparsify, prune, distill and export. Use one entry for each.",
            )
        )
    )
    quantize: Quantize | None = Field(default=None, description="Quantization of weights.")
    sparsify: Sparsify | None = Field(default=None, description="Pruning of single weights.")
    prune: Prune | None = Field(
        default=None, description="Removal of whole layers, heads or channels."
    )
    distill: Distill | None = Field(
        default=None, description="Training of a smaller model on this one's answers."
    )
    export: Export | None = Field(default=None, description="Export to ONNX.")

    @property
    def kind(self) -> str:
        """Return the name of the step's field, such as quantize."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

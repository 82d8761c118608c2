"""ModelBuild: a checkpoint that is made from another one by steps, with proof that the answers held."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod
from slipstream_operator.api.base import ApiModel, ShortText, list_map, rule, rules
from slipstream_operator.api.build_template import BuildTemplate
from slipstream_operator.api.buildsteps import Count, Share, Step
from slipstream_operator.api.datasets import DatasetSpec
from slipstream_operator.api.model import SecretKey
from slipstream_operator.api.sources import ModelUri
from slipstream_operator.api.status import ConditionStatus, Text


class BuildMetric(ApiModel):
    """Metric of the answers, and the greatest loss against the source."""

    name: Literal[
        "ExactMatch",
        "F1",
        "Choice",
        "Rouge",
        "Bleu",
        "Perplexity",
        "Agreement",
        "JsonSchema",
    ] = Field(description="Metric.")
    max_regression: Share | None = Field(
        default=None,
        description="Greatest loss that still passes, such as 1%. Of perplexity, its relative growth. Default: the "
        "metric is only measured.",
    )


class BuildQuality(ApiModel):
    """Evaluation of each step's checkpoint against the source. The last one decides about the output."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.dataset.task) || !has(self.metrics)",
                message="a task of lm-evaluation-harness has its own metrics. Leave metrics out.",
                field_path=".metrics",
            ),
            rule(
                "!has(self.maxRegression) || has(self.dataset.task)",
                message="is for a task of lm-evaluation-harness. Use metrics[].maxRegression.",
                field_path=".maxRegression",
            ),
        )
    )
    dataset: DatasetSpec = Field(description="Items that source and candidate answer.")
    metrics: (
        Annotated[
            list[BuildMetric],
            Field(min_length=1, max_length=8, json_schema_extra=list_map("name")),
        ]
        | None
    ) = Field(default=None, description="Metrics of the answers.")
    max_regression: Share | None = Field(
        default=None,
        description="Greatest loss of each metric of a task of lm-evaluation-harness, such as 1%.",
    )
    max_items: Count | None = Field(
        default=None, description="Number of items, drawn by spec.seed. Default: all."
    )
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Longest answer in tokens. Default: 256."
    )
    chat: bool | None = Field(
        default=None,
        description="Whether questions are asked by the model's chat template. Default: true.",
    )
    min_acceptance: Share | None = Field(
        default=None,
        description="Least share of draft tokens that the teacher accepts, for distill with purpose: Draft.",
    )


class ObjectName(ApiModel):
    """Object of the same namespace."""

    name: ShortText = Field(description="Name of the object.")


class BuildAccelerator(ApiModel):
    """Accelerator of the profile on which the steps run."""

    type: ShortText | None = Field(
        default=None,
        description="Name of an accelerator of the ServingProfile. Default: the profile's default.",
    )
    count: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Number of devices, or of cores for cpu. Default: 1."
    )


class BuildOutput(ApiModel):
    """Place of the artifact."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.uri.startsWith('hf://') && !self.uri.startsWith('file://')",
                message_expression=(
                    "'\"' + self.uri + '\" can\\'t be written. Use pvc://claim/path, s3://bucket/prefix, "
                    "gs://bucket/prefix or oci://registry/image:tag.'"
                ),
                field_path=".uri",
            ),
            rule(
                "self.uri.startsWith('oci://') || !self.uri.matches('^[a-z0-9]+://[^/]+/*$')",
                message_expression=(
                    "'\"' + self.uri + '\" has no path. Name the folder of the artifact, such as \"' + self.uri + "
                    "'/my-model\".'"
                ),
                field_path=".uri",
            ),
            rule(
                "!self.uri.contains('@sha256:')",
                message="a digest can't be chosen. Use a tag.",
                field_path=".uri",
            ),
            rule(
                "self.uri.startsWith('oci://') || !(has(self.pushSecret) || has(self.plainHttp))",
                message="pushSecret and plainHttp are for oci:// alone. Leave them out.",
            ),
        )
    )
    uri: ModelUri = Field(
        description="pvc://claim/path, s3://bucket/prefix, gs://bucket/prefix or oci://registry/image:tag."
    )
    plain_http: bool | None = Field(
        default=None, description="Whether the registry is reached without TLS. Default: false."
    )
    push_secret: ObjectName | None = Field(
        default=None,
        description="Secret of type kubernetes.io/dockerconfigjson with the right to push to the registry.",
    )


class Workspace(ApiModel):
    """Place of finished steps and checkpoints."""

    claim: ObjectName = Field(
        description="PersistentVolumeClaim. A build that loses its node resumes from it."
    )


class ModelBuildSpec(ApiModel):
    """Source, steps and output. It can't be changed."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                message="can't be changed, because it says how the artifact was made. Delete the ModelBuild and create "
                "it again, or create another one.",
            ),
            rule(
                "self.steps.all(i, step, i == self.steps.size() - 1 || !(has(step.quantize) || has(step.export)))",
                message="quantize and export must be the last step, because other steps need weights that are not "
                "quantized. Move it to the end.",
                field_path=".steps",
            ),
            rule(
                "!has(self.credentials) || self.source.startsWith('s3://') || self.source.startsWith('gs://') || "
                "self.output.uri.startsWith('s3://') || self.output.uri.startsWith('gs://') || "
                "(has(self.quality) && has(self.quality.dataset.uri) && !self.quality.dataset.uri.startsWith('hf://'))",
                message="can't work because source, output and quality are not s3:// or gs://. Leave it out.",
                field_path=".credentials",
            ),
        )
    )
    source: ModelUri = Field(
        description="Checkpoint to start from: hf://org/name[@revision], pvc://claim/path, s3://bucket/prefix, "
        "gs://bucket/prefix, oci://registry/image or file:///path."
    )
    steps: Annotated[list[Step], Field(min_length=1, max_length=8)] = Field(
        description="Steps in order. Each one starts from the checkpoint of the one before."
    )
    output: BuildOutput = Field(description="Place of the artifact.")
    quality: BuildQuality | None = Field(
        default=None,
        description="Proof that the answers held. If it fails or can't tell, nothing is published. Default: none.",
    )
    accelerator: BuildAccelerator | None = Field(
        default=None, description="Accelerator on which the steps run."
    )
    resources: pod.Resources | None = Field(
        default=None,
        description="Requests and limits of each step's container. Default: those of the profile's accelerator.",
    )
    workspace: Workspace | None = Field(
        default=None,
        description="Place of finished steps. Default: a hidden folder in the claim of a pvc:// output, or else the "
        "pod's own disk, whose content is lost with the pod.",
    )
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = Field(
        default=None, description="Seed of all random choices. Default: 0."
    )
    token_secret: SecretKey | None = Field(
        default=None, description="Token for gated hf:// sources and datasets."
    )
    credentials: ObjectName | None = Field(
        default=None, description="Secret with the credentials of s3:// or gs://."
    )
    image_pull_secrets: pod.PullSecrets | None = Field(
        default=None,
        description="Secrets for the registries of the builder's image and of an oci:// source.",
    )
    template: BuildTemplate | None = Field(
        default=None,
        description="Overrides of the pods, such as a mirror of the hub, a proxy or certificate authorities.",
    )


class BuildProgress(ApiModel):
    """Progress of the running stage."""

    percent: Text | None = Field(default=None, description="Share that is done, such as 45%.")
    eta: Text | None = Field(default=None, description="Expected time until the end of the stage.")
    loss: Text | None = Field(
        default=None, description="Training loss. Absent where nothing is trained."
    )


class MetricStatus(ApiModel):
    """Score of a metric."""

    name: Text = Field(description="Metric.")
    candidate: Text | None = Field(default=None, description="Score of the step's checkpoint.")
    baseline: Text | None = Field(default=None, description="Score of the source.")
    loss: Text | None = Field(
        default=None, description="Interval of 95 % of the loss, such as -0.5% to 0.8%."
    )
    verdict: Text | None = Field(
        default=None, description="Passed, Failed, Inconclusive or Measured."
    )


class QualityStatus(ApiModel):
    """Quality of a step's checkpoint against the source."""

    verdict: Text = Field(description="Passed, Failed, Inconclusive or Measured.")
    metrics: (
        Annotated[list[MetricStatus], Field(max_length=16, json_schema_extra=list_map("name"))]
        | None
    ) = Field(default=None, description="Scores.")
    items: int | None = Field(default=None, description="Number of items.")
    needed: int | None = Field(
        default=None, description="Number of items that would do, if the verdict is Inconclusive."
    )
    acceptance: Text | None = Field(
        default=None, description="Share of draft tokens that the teacher accepts."
    )
    tokens_per_step: Text | None = Field(
        default=None, description="Tokens of one step of the engine with this draft."
    )
    baseline_tokens_per_step: Text | None = Field(
        default=None, description="Tokens of one step with the former draft."
    )


class StepStatus(ApiModel):
    """State of one stage of the build."""

    name: Text = Field(description="Stage: source, the index and kind of a step, or publish.")
    phase: Literal["Pending", "Running", "Succeeded", "Failed"] = Field(description="Phase.")
    duration: Text | None = Field(default=None, description="Time that it took.")
    peak_memory: Text | None = Field(default=None, description="Peak memory.")
    size: Text | None = Field(default=None, description="Size of its checkpoint.")
    facts: Text | None = Field(default=None, description="Facts of the step.")
    quality: QualityStatus | None = Field(
        default=None, description="Quality of its checkpoint against the source."
    )


class FileStatus(ApiModel):
    """File of the artifact."""

    name: Text = Field(description="Path in the artifact.")
    sha256: Annotated[str, Field(max_length=64)] = Field(description="SHA-256 of its content.")


class ArtifactStatus(ApiModel):
    """Published artifact."""

    uri: Text = Field(description="URI of the artifact.")
    size: Text | None = Field(default=None, description="Size for people.")
    bytes: int | None = Field(default=None, description="Bytes of the artifact.")
    source_bytes: int | None = Field(default=None, description="Bytes of the source.")
    sha256: Annotated[str, Field(max_length=64)] = Field(
        description="SHA-256 of the file slipstream-build.json, which lists all files with their hashes."
    )
    files: (
        Annotated[list[FileStatus], Field(max_length=64, json_schema_extra=list_map("name"))] | None
    ) = Field(default=None, description="Files.")
    files_omitted: int | None = Field(
        default=None, description="Number of files that are only listed in slipstream-build.json."
    )


class NamedText(ApiModel):
    """Name and value."""

    name: Text = Field(description="Name.")
    value: Text = Field(description="Value.")


NamedTexts = Annotated[list[NamedText], Field(max_length=32, json_schema_extra=list_map("name"))]


class LineageStatus(ApiModel):
    """Everything that decided the artifact."""

    source: Text | None = Field(default=None, description="URI of the source.")
    revision: Text | None = Field(
        default=None, description="Commit, digest or other version of the source."
    )
    sha256: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="SHA-256 over the names and hashes of the source's files."
    )
    recipe: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="SHA-256 of the recipe."
    )
    versions: NamedTexts | None = Field(default=None, description="Versions of the libraries.")
    datasets: NamedTexts | None = Field(default=None, description="SHA-256 of each dataset.")


class EstimateStatus(ApiModel):
    """Expected cost of the whole build."""

    memory: Text | None = Field(default=None, description="Peak memory.")
    disk: Text | None = Field(default=None, description="Disk of the working folder.")
    duration: Text | None = Field(default=None, description="Time.")


class ModelBuildStatus(ApiModel):
    """Status of the build."""

    observed_generation: int | None = Field(
        default=None, description="Generation of spec that this status is about."
    )
    phase: Literal["Pending", "Running", "Ready", "Failed"] | None = Field(
        default=None, description="Phase of the build."
    )
    step: Text | None = Field(default=None, description="Stage that runs, or that failed.")
    progress: BuildProgress | None = Field(
        default=None, description="Progress of the running stage."
    )
    quality: Text | None = Field(
        default=None, description="Verdict about the newest checkpoint with a quality report."
    )
    steps: (
        Annotated[list[StepStatus], Field(max_length=20, json_schema_extra=list_map("name"))] | None
    ) = Field(default=None, description="Stages of the build.")
    artifact: ArtifactStatus | None = Field(default=None, description="Published artifact.")
    lineage: LineageStatus | None = Field(
        default=None, description="Everything that decided the artifact."
    )
    estimate: EstimateStatus | None = Field(
        default=None, description="Expected cost, before the work started."
    )
    peak_memory: Text | None = Field(default=None, description="Peak memory of all stages.")
    duration: Text | None = Field(default=None, description="Time of all finished stages together.")
    conditions: (
        Annotated[list[ConditionStatus], Field(max_length=8, json_schema_extra=list_map("type"))]
        | None
    ) = Field(default=None, description="Conditions: Ready, Accepted, Reconciling, Stalled.")


NAME_RULES = rules(
    rule(
        f"self.metadata.name.matches('{names.NAME_PATTERN}')",
        message_expression=(
            "'metadata.name \"' + self.metadata.name + '\" must be at most 40 characters (a-z, 0-9, -) and start "
            "with a letter, because child objects add suffixes.'"
        ),
    ),
)

"""spec.template of a ModelBuild: overrides of its pods."""

from typing import Final

import pydantic
from pydantic import Field

from slipstream_operator.api import template
from slipstream_operator.api.base import ApiModel, ShortText, rule, rules
from slipstream_operator.api.containers import Variables
from slipstream_operator.api.volumes import Mounts
from slipstream_runtime import contract

RESERVED_VARIABLES: Final = ("HF_HOME", "DOCKER_CONFIG")
"""Environment variables that the operator sets in builds, besides those of engines."""
RESERVED_VOLUMES: Final = "(work|registry|dataset-[0-9]+)"
"""Pattern of the volumes that the operator adds to builds, besides those of engines."""
RESERVED_PATHS: Final = (
    contract.BUILD_DIRECTORY,
    contract.DATASETS_DIRECTORY,
    contract.REGISTRY_DIRECTORY,
)
"""Folders that the operator mounts in builds, besides those of engines."""


class BuildTemplate(ApiModel):
    """Overrides of the pods of a build."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            template.DECLARED,
            rule(
                f"!has(self.env) || !self.env.exists(variable, variable.name in {list(RESERVED_VARIABLES)})",
                message=f"{' and '.join(RESERVED_VARIABLES)} are set by the operator. Leave them out.",
                field_path=".env",
            ),
            rule(
                f"!has(self.volumes) || !self.volumes.exists(volume, volume.name.matches('^{RESERVED_VOLUMES}$'))",
                message="work, registry and dataset-0, dataset-1, ... are names of volumes of the operator. Use "
                "other names.",
                field_path=".volumes",
            ),
            rule(
                "!has(self.volumeMounts) || !self.volumeMounts.exists(mount, "
                f"{list(RESERVED_PATHS)}.exists(ours, mount.mountPath == ours || "
                "mount.mountPath.startsWith(ours + '/') || ours.startsWith(mount.mountPath + '/')))",
                message=f"a path overlaps one that the build uses ({', '.join(RESERVED_PATHS)}). Use another path, "
                "such as /mnt/data.",
                field_path=".volumeMounts",
            ),
        )
    )
    labels: template.PodLabels | None = Field(
        default=None, description="Additional labels of the pods."
    )
    annotations: template.PodAnnotations | None = Field(
        default=None, description="Additional annotations of the pods."
    )
    env: Variables | None = Field(
        default=None, description="Environment variables of each step's container."
    )
    volumes: template.Volumes | None = Field(
        default=None, description="Additional volumes of the pods."
    )
    volume_mounts: Mounts | None = Field(
        default=None, description="Mounts of these volumes in each step's container."
    )
    service_account_name: ShortText | None = Field(
        default=None,
        description="ServiceAccount of the pods, whose identity opens object stores without credentials. Its token "
        "is not mounted.",
    )

    def whole(self) -> template.Template:
        """Return the template of engine pods with the same fields, which the same rules judge."""
        return template.Template.model_validate(self.model_dump(by_alias=True, exclude_none=True))

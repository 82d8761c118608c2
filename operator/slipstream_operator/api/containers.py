"""Typed part of core/v1 Container that init containers use."""

from typing import Annotated, Final

from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod
from slipstream_operator.api.base import ApiModel, list_map, rule, rules
from slipstream_operator.api.volumes import Mounts
from slipstream_runtime import contract

RESERVED_VARIABLES: Final = ("HOME", "TMPDIR", contract.SHARED_MEMORY_ENV)
"""Environment variables that the operator sets itself."""
RESERVED_VARIABLE_PREFIXES: Final = ("SLIPSTREAM_", "LWS_")
"""Prefixes of environment variables that the operator and LeaderWorkerSet set."""
RESERVED_CONTAINERS: Final = (names.ENGINE_CONTAINER,)
RESERVED_PREFIX: Final = "slipstream-"
"""Prefix that is reserved for containers of the operator."""

Variables = Annotated[
    list[pod.EnvVar],
    Field(
        max_length=64,
        json_schema_extra=list_map("name")
        | rules(
            rule(
                f"!self.exists(variable, variable.name in {list(RESERVED_VARIABLES)} || "
                + " || ".join(
                    f"variable.name.startsWith('{prefix}')" for prefix in RESERVED_VARIABLE_PREFIXES
                )
                + ")",
                message=f"{', '.join(RESERVED_VARIABLES)} and names that start with "
                f"{' or '.join(RESERVED_VARIABLE_PREFIXES)} are set by the operator. Leave them out.",
            )
        ),
    ),
]
Words = Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)]


class InitContainer(ApiModel):
    """Container that runs to completion before the engine starts, under the same pod security."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            json_schema_extra=rules(
                rule(
                    f"!(self in {list(RESERVED_CONTAINERS)}) && !self.startsWith('{RESERVED_PREFIX}')",
                    message_expression=(
                        "'\"' + self + '\" is a name that the operator uses. Use another name.'"
                    ),
                )
            ),
        ),
    ] = Field(description="Name of the container.")
    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Image. It runs as user 65532 with a read-only root file system and its own /tmp."
    )
    command: Words | None = Field(
        default=None, description="Command. Default: the entrypoint of the image."
    )
    args: Words | None = Field(default=None, description="Arguments. Default: those of the image.")
    env: Variables | None = Field(default=None, description="Environment variables.")
    resources: pod.Resources | None = Field(default=None, description="Requests and limits.")
    volume_mounts: Mounts | None = Field(
        default=None, description="Mounts of volumes in spec.template.volumes."
    )


InitContainers = Annotated[
    list[InitContainer], Field(max_length=8, json_schema_extra=list_map("name"))
]

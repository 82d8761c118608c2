"""core/v1 Container, typed as far as containers that run before the engine need it."""

from typing import Annotated, Final

from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod
from slipstream_operator.api.base import Model, list_map, rule, rules
from slipstream_operator.api.volumes import Mounts
from slipstream_runtime import contract

RESERVED_VARIABLES: Final = ("HOME", "TMPDIR", contract.SHARED_MEMORY_ENV)
"""Environment variables that the operator sets itself."""
RESERVED_VARIABLE_PREFIXES: Final = ("SLIPSTREAM_", "LWS_")
"""Prefixes of variables by which the operator, and LeaderWorkerSet, tell an engine what it is part of."""
RESERVED_CONTAINERS: Final = (names.ENGINE_CONTAINER,)
RESERVED_PREFIX: Final = "slipstream-"
"""Prefix of containers that the operator may add itself."""

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
                message=f"{', '.join(RESERVED_VARIABLES)} and all that begin with "
                f"{' or '.join(RESERVED_VARIABLE_PREFIXES)} are set by the operator: leave them out",
            )
        ),
    ),
]
Words = Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)]


class InitContainer(Model):
    """A container that runs to its end before the engine starts, confined as the engine is."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            json_schema_extra=rules(
                rule(
                    f"!(self in {list(RESERVED_CONTAINERS)}) && !self.startsWith('{RESERVED_PREFIX}')",
                    message_expression=(
                        "'\"' + self + '\" is a name that the operator uses: choose another'"
                    ),
                )
            ),
        ),
    ] = Field(description="Name of the container.")
    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Image; it runs as user 65532 with a read-only root and an own /tmp."
    )
    command: Words | None = Field(default=None, description="Command. Default: the image's.")
    args: Words | None = Field(default=None, description="Arguments. Default: the image's.")
    env: Variables | None = Field(default=None, description="Environment variables.")
    resources: pod.Resources | None = Field(default=None, description="Requests and limits.")
    volume_mounts: Mounts | None = Field(
        default=None, description="Where it sees volumes of spec.template.volumes."
    )


InitContainers = Annotated[
    list[InitContainer], Field(max_length=8, json_schema_extra=list_map("name"))
]

"""core/v1 Volume and VolumeMount, typed: the sources that restricted pod security admits, so no hostPath."""

from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Model, Quantity, ShortText, list_map, rule, rules
from slipstream_runtime import contract

RESERVED_NAMES: Final = (
    "config",
    "scratch",
    "cache",
    "shm",
    "adapters",
    "api-keys",
    "store-credentials",
    "offload",
)
"""Volumes that the operator makes itself; it also makes claim-0, image-0, ..."""
RESERVED_PATHS: Final = (
    contract.CONFIG_DIRECTORY,
    contract.IMAGES_DIRECTORY,
    contract.CREDENTIALS_DIRECTORY,
    contract.ADAPTERS_DIRECTORY,
    contract.API_KEYS_DIRECTORY,
    contract.CLAIMS_DIRECTORY,
    contract.CACHE_DIRECTORY,
    contract.OFFLOAD_DIRECTORY,
    contract.SCRATCH_DIRECTORY,
    "/dev",
    "/proc",
    "/sys",
)

Mode = Annotated[int, Field(ge=0, le=0o777)]
RelativePath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=rules(
            rule(
                "!self.startsWith('/') && !self.contains('..')",
                message_expression=(
                    "'\"' + self + '\" must be a path below the volume: no / in front, no ..'"
                ),
            )
        ),
    ),
]


class KeyPath(Model):
    """File for one key."""

    key: ShortText = Field(description="Key of the object.")
    path: RelativePath = Field(description="File below the mount.")
    mode: Mode | None = Field(default=None, description="Permissions of the file.")


KeyPaths = Annotated[list[KeyPath], Field(max_length=32)]


class ConfigMapFiles(Model):
    """Files from a ConfigMap."""

    name: ShortText = Field(description="Name of the ConfigMap.")
    items: KeyPaths | None = Field(default=None, description="Keys to use. Default: all.")
    optional: bool | None = Field(default=None, description="Start without it if it is missing.")


class ConfigMapVolume(ConfigMapFiles):
    """A ConfigMap as files."""

    default_mode: Mode | None = Field(default=None, description="Permissions of the files.")


class SecretVolume(Model):
    """A Secret as files."""

    secret_name: ShortText = Field(description="Name of the Secret.")
    items: KeyPaths | None = Field(default=None, description="Keys to use. Default: all.")
    optional: bool | None = Field(default=None, description="Start without it if it is missing.")
    default_mode: Mode | None = Field(default=None, description="Permissions of the files.")


class EmptyDir(Model):
    """An empty folder that lives as long as the pod."""

    medium: Literal["Memory"] | None = Field(
        default=None, description="Memory keeps it in memory. Default: the node's disk."
    )
    size_limit: Quantity | None = Field(default=None, description="The most that it may hold.")


class ClaimVolume(Model):
    """A PersistentVolumeClaim of the namespace."""

    claim_name: ShortText = Field(description="Name of the PersistentVolumeClaim.")
    read_only: bool | None = Field(default=None, description="Mount it read-only.")


class TokenFile(Model):
    """A token of the pod's ServiceAccount for somebody outside, such as a cloud's identity service."""

    path: RelativePath = Field(description="File below the mount.")
    audience: ShortText | None = Field(
        default=None, description="Who may accept it. Default: the API server."
    )
    expiration_seconds: Annotated[int, Field(ge=600, le=1 << 32)] | None = Field(
        default=None, description="How long it is valid. Default: an hour."
    )


_PROJECTIONS = ("configMap", "secret", "serviceAccountToken")


class Projection(Model):
    """One source of a projected volume."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                f"[{', '.join(f'has(self.{name})' for name in _PROJECTIONS)}].filter(given, given).size() == 1",
                message=f"needs exactly one of {', '.join(_PROJECTIONS)}",
            )
        )
    )
    config_map: ConfigMapFiles | None = Field(default=None, description="Keys of a ConfigMap.")
    secret: ConfigMapFiles | None = Field(default=None, description="Keys of a Secret.")
    service_account_token: TokenFile | None = Field(
        default=None, description="A token of the pod's ServiceAccount."
    )


class Projected(Model):
    """Several sources in one folder."""

    sources: Annotated[list[Projection], Field(min_length=1, max_length=8)] = Field(
        description="What it holds."
    )
    default_mode: Mode | None = Field(default=None, description="Permissions of the files.")


class SecretReference(Model):
    """A Secret of the namespace."""

    name: ShortText = Field(description="Name of the Secret.")


class CsiVolume(Model):
    """A volume that a CSI driver makes for each pod, such as secrets of a vault."""

    driver: ShortText = Field(description="Name of the driver.")
    read_only: bool | None = Field(default=None, description="Mount it read-only.")
    fs_type: ShortText | None = Field(default=None, description="File system. Default: driver's.")
    volume_attributes: (
        Annotated[dict[ShortText, Annotated[str, Field(max_length=1024)]], Field(max_length=32)]
        | None
    ) = Field(default=None, description="Attributes that the driver understands.")
    node_publish_secret_ref: SecretReference | None = Field(
        default=None, description="Secret that the driver gets."
    )


class StorageRequest(Model):
    """Size of the storage."""

    storage: Quantity = Field(description="Size of the volume, such as 200Gi.")


class ClaimResources(Model):
    """Resources of a claim."""

    requests: StorageRequest = Field(description="How much storage.")


class ClaimSpec(Model):
    """Requirements of a claim."""

    access_modes: Annotated[
        list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]],
        Field(min_length=1, max_length=4),
    ] = Field(description="Who may mount it at once.")
    storage_class_name: ShortText | None = Field(
        default=None, description="StorageClass. Default: the cluster's."
    )
    resources: ClaimResources = Field(description="How much storage.")


class ClaimTemplate(Model):
    """The claim that is made for each pod."""

    spec: ClaimSpec = Field(description="What the claim asks for.")


class Ephemeral(Model):
    """A PersistentVolumeClaim that lives as long as the pod."""

    volume_claim_template: ClaimTemplate = Field(description="The claim that is made for each pod.")


class ImageVolume(Model):
    """The files of an OCI image or artifact, read-only."""

    reference: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Image or artifact, such as registry.example.com/models/qwen3-8b:1."
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When it is pulled. Default: Always with tag latest, else once."
    )


_SOURCES = (
    "configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "csi", "ephemeral", "image",
)  # fmt: skip


class Volume(Model):
    """A volume of the engine pods."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                f"[{', '.join(f'has(self.{name})' for name in _SOURCES)}].filter(given, given).size() == 1",
                message_expression=(
                    f"'volume \"' + self.name + '\" needs exactly one of {', '.join(_SOURCES)}'"
                ),
            ),
            rule(
                f"!(self.name in {list(RESERVED_NAMES)}) && !self.name.matches('^(claim|image)-[0-9]+$')",
                message_expression=(
                    "'\"' + self.name + '\" is a volume that the operator makes: choose another name'"
                ),
                field_path=".name",
            ),
        )
    )
    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name that volumeMounts refer to."
    )
    config_map: ConfigMapVolume | None = Field(default=None, description="A ConfigMap as files.")
    secret: SecretVolume | None = Field(default=None, description="A Secret as files.")
    empty_dir: EmptyDir | None = Field(
        default=None, description="An empty folder that lives as long as the pod."
    )
    persistent_volume_claim: ClaimVolume | None = Field(
        default=None, description="A PersistentVolumeClaim of the namespace."
    )
    projected: Projected | None = Field(default=None, description="Several sources in one folder.")
    csi: CsiVolume | None = Field(
        default=None, description="A volume that a CSI driver makes for each pod."
    )
    ephemeral: Ephemeral | None = Field(
        default=None, description="A PersistentVolumeClaim that lives as long as the pod."
    )
    image: ImageVolume | None = Field(
        default=None, description="The files of an OCI image or artifact, read-only."
    )


_PATHS = str(list(RESERVED_PATHS))
MountPath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=rules(
            rule(
                r"self.matches('^(/[A-Za-z0-9._-]+)+$') && !self.matches('/\\.\\.?(/|$)')",
                message_expression=(
                    "'\"' + self + '\" is not an absolute path of letters, digits, ., _ and -: "
                    "write for example /mnt/data'"
                ),
            ),
            rule(
                f"!{_PATHS}.exists(ours, self == ours || self.startsWith(ours + '/') "
                "|| ours.startsWith(self + '/'))",
                message_expression=(
                    f"'\"' + self + '\" overlaps a path that the engine uses ({', '.join(RESERVED_PATHS)}): "
                    "choose another, such as /mnt/data'"
                ),
            ),
        ),
    ),
]


class Mount(Model):
    """Path of a volume in the engine container."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the volume in spec.template.volumes."
    )
    mount_path: MountPath = Field(description="Where it appears.")
    sub_path: RelativePath | None = Field(
        default=None, description="Folder or file in the volume. Default: all of it."
    )
    read_only: bool | None = Field(default=None, description="Mount it read-only.")


Mounts = Annotated[list[Mount], Field(max_length=16, json_schema_extra=list_map("mountPath"))]

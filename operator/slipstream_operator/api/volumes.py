"""Typed core/v1 Volume and VolumeMount, with the sources that restricted pod security allows: no hostPath."""

from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, ByteSize, ShortText, list_map, rule, rules
from slipstream_runtime import contract

RESERVED_NAMES: Final = (
    "config",
    "scratch",
    "cache",
    "shm",
    "adapters",
    "api-keys",
    "store-credentials",
    "chat-template",
    "offload",
)
"""Names of volumes that the operator adds itself. It also adds claim-0, image-0, ..."""
RESERVED_PATHS: Final = (
    contract.CONFIG_DIRECTORY,
    contract.IMAGES_DIRECTORY,
    contract.CREDENTIALS_DIRECTORY,
    contract.CHAT_TEMPLATE_DIRECTORY,
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
                    "'\"' + self + '\" is not a relative path. Use a path without a leading / and without .. in "
                    "it.'"
                ),
            )
        ),
    ),
]


class KeyPath(ApiModel):
    """File for a key."""

    key: ShortText = Field(description="Key of the object.")
    path: RelativePath = Field(description="Path of the file below the mount.")
    mode: Mode | None = Field(default=None, description="Permissions of the file.")


KeyPaths = Annotated[list[KeyPath], Field(max_length=32)]


class ConfigMapFiles(ApiModel):
    """Files from a ConfigMap."""

    name: ShortText = Field(description="Name of the object.")
    items: KeyPaths | None = Field(default=None, description="Keys to use. Default: all.")
    optional: bool | None = Field(
        default=None, description="Whether the pod starts if the object is missing."
    )


class ConfigMapVolume(ConfigMapFiles):
    """A ConfigMap as files."""

    default_mode: Mode | None = Field(default=None, description="Permissions of the files.")


class SecretVolume(ApiModel):
    """A Secret as files."""

    secret_name: ShortText = Field(description="Name of the Secret.")
    items: KeyPaths | None = Field(default=None, description="Keys to use. Default: all.")
    optional: bool | None = Field(
        default=None, description="Whether the pod starts if the object is missing."
    )
    default_mode: Mode | None = Field(default=None, description="Permissions of the files.")


class EmptyDir(ApiModel):
    """An empty folder that lives as long as the pod."""

    medium: Literal["Memory"] | None = Field(
        default=None, description="Medium. Memory means a tmpfs. Default: the disk of the node."
    )
    size_limit: ByteSize | None = Field(default=None, description="Maximum size.")


class ClaimVolume(ApiModel):
    """A PersistentVolumeClaim of the namespace."""

    claim_name: ShortText = Field(description="Name of the PersistentVolumeClaim.")
    read_only: bool | None = Field(
        default=None, description="Whether the volume is mounted read-only."
    )


class TokenFile(ApiModel):
    """Token of the pod's ServiceAccount for an external service, such as a cloud's identity service."""

    path: RelativePath = Field(description="Path of the file below the mount.")
    audience: ShortText | None = Field(
        default=None, description="Audience of the token. Default: the API server."
    )
    expiration_seconds: Annotated[int, Field(ge=600, le=1 << 32)] | None = Field(
        default=None, description="Validity of the token in seconds. Default: 3600."
    )


_PROJECTIONS = ("configMap", "secret", "serviceAccountToken")


class Projection(ApiModel):
    """Source of a projected volume."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                f"[{', '.join(f'has(self.{name})' for name in _PROJECTIONS)}].filter(given, given).size() == 1",
                message=f"needs exactly one of {', '.join(_PROJECTIONS)}. Keep one and leave out the others.",
            )
        )
    )
    config_map: ConfigMapFiles | None = Field(default=None, description="Files from a ConfigMap.")
    secret: ConfigMapFiles | None = Field(default=None, description="Files from a Secret.")
    service_account_token: TokenFile | None = Field(
        default=None, description="Token of the pod's ServiceAccount."
    )


class Projected(ApiModel):
    """Several sources in one folder."""

    sources: Annotated[list[Projection], Field(min_length=1, max_length=8)] = Field(
        description="Sources of the files."
    )
    default_mode: Mode | None = Field(default=None, description="Permissions of the files.")


class SecretReference(ApiModel):
    """Secret in the same namespace."""

    name: ShortText = Field(description="Name of the Secret.")


class CsiVolume(ApiModel):
    """Volume that a CSI driver creates for each pod, such as the secrets of a vault."""

    driver: ShortText = Field(description="Name of the CSI driver.")
    read_only: bool | None = Field(
        default=None, description="Whether the volume is mounted read-only."
    )
    fs_type: ShortText | None = Field(
        default=None, description="File system. Default: that of the driver."
    )
    volume_attributes: (
        Annotated[dict[ShortText, Annotated[str, Field(max_length=1024)]], Field(max_length=32)]
        | None
    ) = Field(default=None, description="Attributes that are passed to the driver.")
    node_publish_secret_ref: SecretReference | None = Field(
        default=None, description="Secret that is passed to the driver."
    )


class StorageRequest(ApiModel):
    """Size of the storage."""

    storage: ByteSize = Field(description="Size of the volume, such as 200Gi.")


class ClaimResources(ApiModel):
    """Resources of a claim."""

    requests: StorageRequest = Field(description="Requested storage.")


class ClaimSpec(ApiModel):
    """Desired state of a claim."""

    access_modes: Annotated[
        list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]],
        Field(min_length=1, max_length=4),
    ] = Field(description="Access modes of the volume.")
    storage_class_name: ShortText | None = Field(
        default=None, description="StorageClass. Default: that of the cluster."
    )
    resources: ClaimResources = Field(description="Requested storage.")


class ClaimTemplate(ApiModel):
    """The claim that is made for each pod."""

    spec: ClaimSpec = Field(description="Desired state of the claim.")


class Ephemeral(ApiModel):
    """A PersistentVolumeClaim that lives as long as the pod."""

    volume_claim_template: ClaimTemplate = Field(
        description="PersistentVolumeClaim that is created for each pod."
    )


class ImageVolume(ApiModel):
    """The files of an OCI image or artifact, read-only."""

    reference: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Image or artifact, such as registry.example.com/models/qwen3-8b:1."
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None,
        description="Pull policy. Default: Always for the tag latest, otherwise IfNotPresent.",
    )


_SOURCES = (
    "configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "csi", "ephemeral", "image",
)  # fmt: skip


class Volume(ApiModel):
    """Volume of the engine pods."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                f"[{', '.join(f'has(self.{name})' for name in _SOURCES)}].filter(given, given).size() == 1",
                message_expression=(
                    f"'volume \"' + self.name + '\" needs exactly one of {', '.join(_SOURCES)}. Keep one and leave "
                    "out the others.'"
                ),
            ),
            rule(
                f"!(self.name in {list(RESERVED_NAMES)}) && !self.name.matches('^(claim|image)-[0-9]+$')",
                message_expression=(
                    "'\"' + self.name + '\" is the name of a volume of the operator. Use another name.'"
                ),
                field_path=".name",
            ),
        )
    )
    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name that volumeMounts refer to."
    )
    config_map: ConfigMapVolume | None = Field(default=None, description="Files from a ConfigMap.")
    secret: SecretVolume | None = Field(default=None, description="Files from a Secret.")
    empty_dir: EmptyDir | None = Field(
        default=None, description="Empty directory that is deleted with the pod."
    )
    persistent_volume_claim: ClaimVolume | None = Field(
        default=None, description="PersistentVolumeClaim in the same namespace."
    )
    projected: Projected | None = Field(
        default=None, description="Several sources in one directory."
    )
    csi: CsiVolume | None = Field(
        default=None, description="Volume that a CSI driver creates for each pod."
    )
    ephemeral: Ephemeral | None = Field(
        default=None, description="PersistentVolumeClaim that is created and deleted with the pod."
    )
    image: ImageVolume | None = Field(
        default=None, description="Read-only files of an OCI image or artifact."
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
                    "'\"' + self + '\" is not an absolute path of letters, digits, ., _ and -. Use a path such as "
                    "/mnt/data.'"
                ),
            ),
            rule(
                f"!{_PATHS}.exists(ours, self == ours || self.startsWith(ours + '/') "
                "|| ours.startsWith(self + '/'))",
                message_expression=(
                    f"'\"' + self + '\" overlaps a path that the engine uses ({', '.join(RESERVED_PATHS)}). Use "
                    "another path, such as /mnt/data.'"
                ),
            ),
        ),
    ),
]


class Mount(ApiModel):
    """Mount of a volume."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Name of the volume in spec.template.volumes."
    )
    mount_path: MountPath = Field(description="Path in the container.")
    sub_path: RelativePath | None = Field(
        default=None, description="Path in the volume. Default: its root."
    )
    read_only: bool | None = Field(
        default=None, description="Whether the volume is mounted read-only."
    )


Mounts = Annotated[list[Mount], Field(max_length=16, json_schema_extra=list_map("mountPath"))]

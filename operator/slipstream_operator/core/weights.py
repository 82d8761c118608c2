"""Sources of a service's weights: checks, mounts and downloads."""

import fnmatch
from collections.abc import Mapping
from typing import Final

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Sources
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

BUILD: Final = "build://"
MODEL_FIELD: Final = "spec.model.uri"
DRAFT_FIELD: Final = "spec.speculation.draft"
_CLAIM: Final = "pvc://"
_IMAGE: Final = "oci://"
_STORES: Final = ("s3://", "gs://")
_REMOTE: Final = ("hf://", *_STORES)


def check(
    spec: InferenceServiceSpec,
    sources: Sources,
    profile: str,
    *,
    runtime: Runtime,
    builds: Mapping[str, str],
) -> None:
    """Raise PermanentError if a source is not allowed or can't be used in its field.

    `builds` are the sources build://name, by field, that the spec has been given the artifacts of. A source that is
    still build://name is unknown, and only its form was checked.
    """
    if spec.model is None:
        return
    named = sourced(spec)
    unknown = any(is_unknown(uri) for uri in named.values())
    for field, uri in named.items():
        if is_unknown(uri):
            continue
        if not any(fnmatch.fnmatchcase(uri, pattern) for pattern in sources.allow):
            raise PermanentError(
                Reason.SOURCE_NOT_ALLOWED,
                f"{field}: {_quoted(field, uri, builds)} matches none of the sources that ServingProfile "
                f"{profile} allows ({', '.join(sources.allow)}). Use an allowed source, or ask the platform team.",
            )
    if spec.model.trust_remote_code and not sources.trust_remote_code:
        raise PermanentError(
            Reason.REMOTE_CODE_NOT_ALLOWED,
            f"spec.model.trustRemoteCode: true is not allowed by ServingProfile {profile}. Leave it out, or ask "
            "the platform team.",
        )
    for name, uri in adapters(spec).items():
        field = adapter_field(name)
        if uri.startswith(_IMAGE):
            raise PermanentError(
                Reason.UNSUPPORTED,
                f"{field}: {_quoted(field, uri, builds)} can't work because adapters change while engines run, and "
                "an image is mounted when a pod starts. Use hf://, s3://, gs:// or pvc://.",
            )
    stores = any(uri.startswith(_STORES) for uri in named.values())
    if spec.model.credentials and not (stores or unknown):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.model.credentials: "{spec.model.credentials.name}" can\'t work because no source is s3:// or gs://. '
            "Leave it out, or use tokenSecret for a gated hf:// source.",
        )
    if spec.model.load == "Streamed" and not runtime.loads_checkpoints:
        raise PermanentError(
            Reason.UNSUPPORTED,
            f'spec.model.load: "Streamed" can\'t work because runtime: {runtime.name} does not load models with '
            "vLLM. Leave it out.",
        )


def adapters(spec: InferenceServiceSpec) -> dict[str, str]:
    """Return the LoRA adapters, name -> uri."""
    return {adapter.name: adapter.uri for adapter in (spec.model and spec.model.adapters) or []}


def listed_adapters(spec: InferenceServiceSpec) -> dict[str, str]:
    """Return the entries of the list that engines follow, by name: the uri, and the revision if there is one."""
    return {
        adapter.name: adapter.uri
        if adapter.revision is None
        else f"{adapter.uri}{contract.ADAPTER_REVISION}{adapter.revision}"
        for adapter in (spec.model and spec.model.adapters) or []
    }


def models(spec: InferenceServiceSpec) -> tuple[str, ...]:
    """Return the sources of the model and of its draft, if it has one."""
    draft = spec.speculation.draft if spec.speculation else None
    return tuple(uri for uri in (spec.model and spec.model.uri, draft) if uri)


def claims(spec: InferenceServiceSpec) -> tuple[str, ...]:
    """Return the claims that hold weights."""
    uris = (*models(spec), *adapters(spec).values())
    return claims_of(uris)


def claims_of(uris: tuple[str, ...]) -> tuple[str, ...]:
    """Return the claims that these sources name."""
    named = {uri.removeprefix(_CLAIM).split("/")[0] for uri in uris if uri.startswith(_CLAIM)}
    return tuple(sorted(named))


def images(spec: InferenceServiceSpec) -> tuple[str, ...] | None:
    """Return the oci:// sources, which are mounted as image volumes; None if there is none."""
    return tuple(sorted({uri for uri in models(spec) if uri.startswith(_IMAGE)})) or None


def image_reference(uri: str) -> str:
    """Return the image of an oci:// source as a kubelet pulls it."""
    return uri.removeprefix(_IMAGE)


def is_unknown(uri: str) -> bool:
    """Whether the source is a build that has no artifact yet."""
    return uri.startswith(BUILD)


def is_remote(uri: str) -> bool:
    """Whether pods download the weights to the cache."""
    return uri.startswith(_REMOTE)


def downloads(spec: InferenceServiceSpec) -> bool:
    """Whether pods download weights. Weights of claims and images are mounted."""
    return any(is_remote(uri) for uri in models(spec))


def cache(spec: InferenceServiceSpec) -> Manifest | None:
    """Return the source of the cache volume, as core/v1 names it; None is an emptyDir."""
    kept = spec.cache.model if spec.cache else None
    if kept is None:
        return None
    if kept.claim is not None:
        return {"persistentVolumeClaim": {"claimName": kept.claim.name}}
    assert kept.host_path is not None
    return {"hostPath": {"path": kept.host_path.path, "type": "DirectoryOrCreate"}}


def sourced(spec: InferenceServiceSpec) -> Mapping[str, str]:
    """Return the field and the uri of each source."""
    if spec.model is None:
        return {}
    named = {MODEL_FIELD: spec.model.uri}
    for name, uri in adapters(spec).items():
        named[adapter_field(name)] = uri
    if spec.speculation and spec.speculation.draft:
        named[DRAFT_FIELD] = spec.speculation.draft
    return named


def adapter_field(name: str) -> str:
    """Return the field with the uri of this adapter."""
    return f"spec.model.adapters[{name}].uri"


def _quoted(field: str, uri: str, builds: Mapping[str, str]) -> str:
    """Return the source as the user wrote it, with the artifact of a build."""
    written = builds.get(field)
    return f'"{uri}"' if written is None else f'"{written}", which publishes to {uri},'

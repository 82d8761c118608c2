"""Sources build://name of a service, which name ModelBuilds of its namespace.

The published artifact takes the place of such a source before anything else is decided. So checks, mounts, credentials
and downloads treat it like a source that the user wrote.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api import sources
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import weights
from slipstream_operator.core.observed import BuildView, Child, Manifest, Observed
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

READY: Final = "Ready"
FAILED: Final = "Failed"
"""Phases of a ModelBuild. All others are those of a build that may still become Ready."""
BUILDS_KEY: Final = "builds.json"
"""Key of a revision's ConfigMap with the artifacts that it serves. Only revisions that use builds have it."""
_DIGITS: Final = 12
"""Digits of a digest that stand for it in the revision of an adapter."""
_LONGEST: Final = 1024
"""Characters of a build's message in a condition."""


@dataclasses.dataclass(frozen=True)
class BuildSource:
    """Field of the spec that names a build, and the artifact that is used for it."""

    field: str
    build: str
    uri: str | None = None
    """Artifact in use; None while there is none."""
    digest: str | None = None
    exported: bool | None = None
    """Whether the build exports to ONNX; None if unknown."""
    problem: tuple[str, str] | None = None
    """Reason and message while the build is not Ready."""
    planned: str | None = None
    """Uri that the build will publish to."""

    @property
    def holds_revision(self) -> bool:
        """Whether no revision can be made of the spec yet. A missing adapter holds nothing back."""
        return self.uri is None and self.field in (weights.MODEL_FIELD, weights.DRAFT_FIELD)

    @property
    def waits(self) -> bool:
        """Whether the service lacks what it asks for. The artifact of a deleted build is what it asks for."""
        if self.problem is None:
            return False
        return self.uri is None or self.problem[0] != Reason.BUILD_MISSING


def named(spec: Manifest) -> Iterator[str]:
    """Yield the builds that a spec names, which may be malformed."""
    model, speculation = spec.get("model"), spec.get("speculation")
    uris = [speculation.get("draft")] if isinstance(speculation, Mapping) else []
    if isinstance(model, Mapping):
        adapters = model.get("adapters")
        listed = adapters if isinstance(adapters, list) else []
        uris += [model.get("uri"), *(one.get("uri") for one in listed if isinstance(one, Mapping))]
    for uri in uris:
        if isinstance(uri, str) and (name := _name(uri)) is not None:
            yield name


def find(
    spec: InferenceServiceSpec, observed: Observed, *, runtime: Runtime
) -> tuple[BuildSource, ...]:
    """Return the fields that name builds. Raise PermanentError for a build that can never be used."""
    if not runtime.needs_model:
        return ()
    found = []
    for field, uri in weights.sourced(spec).items():
        if not uri.startswith(weights.BUILD):
            continue
        if (name := _name(uri)) is None:
            raise PermanentError(Reason.INVALID_SPEC, f'{field}: "{uri}" {_refusal(uri)}')
        source = _source(field, name, observed)
        _check_format(source, runtime)
        found.append(source)
    return tuple(found)


def applied(
    spec: InferenceServiceSpec, builds: Sequence[BuildSource], *, planned: bool = False
) -> InferenceServiceSpec:
    """Return the spec with the artifacts in the place of their builds.

    A source without an artifact stays as it is or, if `planned`, becomes the uri that the build will publish to.
    """
    used = {
        source.field: dataclasses.replace(
            source, uri=source.uri or (source.planned if planned else None)
        )
        for source in builds
    }
    if spec.model is None or not used:
        return spec
    changes: dict[str, Any] = {}
    if (source := used.get(weights.MODEL_FIELD)) and source.uri:
        changes["uri"] = source.uri
    if spec.model.adapters:
        changes["adapters"] = [
            adapter.model_copy(update=_of_adapter(adapter.revision, source))
            if (source := used.get(weights.adapter_field(adapter.name))) and source.uri
            else adapter
            for adapter in spec.model.adapters
        ]
    update: dict[str, Any] = {"model": spec.model.model_copy(update=changes)}
    if spec.speculation and (source := used.get(weights.DRAFT_FIELD)) and source.uri:
        update["speculation"] = spec.speculation.model_copy(update={"draft": source.uri})
    return spec.model_copy(update=update)


def _of_adapter(revision: str | None, source: BuildSource) -> dict[str, str | None]:
    """Return the fields of an adapter. Its revision names the artifact, so that engines load another one."""
    if source.digest is None:
        return {"uri": source.uri}
    short = source.digest.rpartition(":")[2][:_DIGITS]
    return {"uri": source.uri, "revision": f"{revision}-{short}" if revision else short}


def listed_adapters(
    listed: Mapping[str, str], builds: Sequence[BuildSource], observed: Observed
) -> dict[str, str]:
    """Return the list that engines follow: an adapter whose build is not Ready stays as it was listed before."""
    before = _adapters_before(observed)
    waiting = {source.field for source in builds if source.problem is not None}
    found = {}
    for name, entry in listed.items():
        if weights.adapter_field(name) not in waiting:
            found[name] = entry
        elif name in before:
            found[name] = before[name]
    return found


def written(builds: Sequence[BuildSource]) -> dict[str, str]:
    """Return the fields that name builds, with their sources as the user wrote them."""
    return {source.field: f"{weights.BUILD}{source.build}" for source in builds}


def identity(builds: Sequence[BuildSource]) -> Manifest | None:
    """Return the part of a revision's inputs that changes with its builds; None without builds.

    Adapters are no part of a revision.
    """
    found = {
        source.field: [source.build, source.digest]
        for source in builds
        if source.field in (weights.MODEL_FIELD, weights.DRAFT_FIELD)
    }
    return found or None


def record(builds: Sequence[BuildSource]) -> Manifest | None:
    """Return the artifacts of a revision as they are stored with it; None without builds."""
    found = {
        source.field: {
            "build": source.build,
            "uri": source.uri,
            "digest": source.digest,
            "exported": source.exported,
        }
        for source in builds
        if source.field in (weights.MODEL_FIELD, weights.DRAFT_FIELD) and source.uri is not None
    }
    return found or None


def _name(uri: str) -> str | None:
    found = re.fullmatch(sources.BUILD_PATTERN.strip("^$"), uri)
    return found[1] if found else None


def _refusal(uri: str) -> str:
    if "/" in uri.removeprefix(weights.BUILD):
        return sources.OTHER_NAMESPACE
    return "is not the name of a ModelBuild. Use build://name."


def _source(field: str, name: str, observed: Observed) -> BuildSource:
    view = observed.builds.get(name)
    if view is None:
        return _missing(field, name, observed)
    found = BuildSource(field, name, exported=view.exported, planned=view.output)
    if view.phase == READY and view.artifact is not None and view.digest is not None:
        if re.fullmatch(sources.SOURCE_PATTERN.strip("^$"), view.artifact):
            return dataclasses.replace(found, uri=view.artifact, digest=view.digest)
        message = f"{field}: ModelBuild {name} has published to no source that engines can read."
        return dataclasses.replace(found, problem=(Reason.BUILD_FAILED, message))
    return dataclasses.replace(found, **_before(field, observed), problem=_problem(field, view))


def _problem(field: str, view: BuildView) -> tuple[str, str]:
    message = view.message[:_LONGEST] or f"It is {view.phase or 'new'}."
    if view.phase == FAILED:
        return Reason.BUILD_FAILED, f"{field}: ModelBuild {view.name} failed: {message}"
    return Reason.BUILD_RUNNING, f"{field}: ModelBuild {view.name} is not ready: {message}"


def _missing(field: str, name: str, observed: Observed) -> BuildSource:
    """Return the source of a build that does not exist. A revision that serves its artifact goes on."""
    space = observed.parent.key.namespace
    remedy = "Create it, or name another source."
    kept = _before(field, observed) or _kept(field, name, observed)
    if not kept:
        message = f"{field}: there is no ModelBuild {name} in namespace {space}. {remedy}"
    else:
        message = (
            f"{field}: ModelBuild {name} no longer exists in namespace {space}. Engines go on with {kept['uri']}. "
            f"{remedy}"
        )
    return BuildSource(field, name, **kept, problem=(Reason.BUILD_MISSING, message))


def _before(field: str, observed: Observed) -> dict[str, Any]:
    """Return the source that engines have for this adapter until now."""
    for name, entry in _adapters_before(observed).items():
        if field == weights.adapter_field(name):
            return {"uri": entry.partition(contract.ADAPTER_REVISION)[0]}
    return {}


def _adapters_before(observed: Observed) -> dict[str, str]:
    child = observed.child("ConfigMap", names.adapters_name(observed.parent.key.name))
    if child is None or child.controller != observed.parent.uid:
        return {}
    return {
        name: entry
        for name, entry in _read(child, contract.ADAPTERS_FILE).items()
        if isinstance(entry, str)
    }


def _kept(field: str, name: str, observed: Observed) -> dict[str, Any]:
    """Return the artifact of this build in the newest revision that has one."""
    uid = observed.parent.uid
    revisions = [
        child
        for child in observed.children
        if child.ref.kind == "ConfigMap" and child.controller == uid and child.revision is not None
    ]
    for child in sorted(revisions, key=_created, reverse=True):
        kept = _read(child, BUILDS_KEY).get(field)
        if isinstance(kept, dict) and kept.get("build") == name:
            return {key: kept.get(key) for key in ("uri", "digest", "exported")}
    return {}


def _created(child: Child) -> tuple[str, str]:
    return child.manifest["metadata"].get("creationTimestamp", ""), child.ref.name


def _read(child: Child, key: str) -> Mapping[str, Any]:
    """Return one entry of a ConfigMap; nothing of one that was edited by hand and can't be read."""
    try:
        content = json.loads((child.manifest.get("data") or {}).get(key, "{}"))
    except (ValueError, TypeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_format(source: BuildSource, runtime: Runtime) -> None:
    """Raise PermanentError if the runtime can't read the artifact's format."""
    if source.exported is None or source.exported == runtime.serves_exports:
        return
    if source.exported:
        why = f"runtime: {runtime.name} reads no export to ONNX"
        remedy = "Use runtime: onnx, or a build without the step export."
    else:
        why = f"runtime: {runtime.name} needs an export to ONNX, and the build has no step export"
        remedy = "Add export as its last step, or leave out runtime."
    raise PermanentError(
        Reason.UNSUPPORTED,
        f'{source.field}: "{weights.BUILD}{source.build}" can\'t work because {why}. {remedy}',
    )

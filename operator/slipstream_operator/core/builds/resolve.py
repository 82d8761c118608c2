"""Resolution of a ModelBuild and the profile into a build with all defaults.

A build that can't work raises PermanentError, which becomes `Accepted=False`.
"""

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, get_args

from slipstream_operator.api import pod, units
from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_operator.api.servingprofile import (
    Accelerator,
    ServingProfileSpec,
    Sources,
)
from slipstream_operator.core import (
    accelerators,
    devices,
    network,
    parsing,
    pod_template,
    profiles,
    resource_checks,
    rights,
    weights,
)
from slipstream_operator.core.builds import recipe as recipes
from slipstream_operator.core.observed import Key, Manifest, ObservedBuild
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import build_support, contract

_LEAST: Final = {"cpu": "2", "memory": "8Gi"}
"""Requests of a step on a GPU without other settings: cores and memory of PyTorch and of one file of weights."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """Container of a build."""

    name: str
    image: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """Claim that the pods of a build mount."""

    name: str
    path: str
    read_only: bool


@dataclasses.dataclass(frozen=True)
class ResolvedBuild:
    """ModelBuild with all defaults."""

    key: Key
    uid: str
    recipe: Manifest
    stages: tuple[Stage, ...]
    resources: Manifest
    placement: Manifest
    claims: tuple[Claim, ...]
    files: tuple[recipes.Mounted, ...]
    images: tuple[str, ...]
    """Sources of oci://, which are mounted."""
    device_class: str | None
    """DeviceClass of dynamic resource allocation; None for other accelerators."""
    devices: int
    ephemeral: bool
    """Whether finished steps are lost with the pod, because the working folder is on its own disk."""
    token_secret: tuple[str, str] | None
    credentials: str | None
    registry: str | None
    """Secret with the right to push."""
    pull_secrets: tuple[str, ...]
    egress: tuple[Manifest, ...]
    template: Manifest
    """Overrides of the pods, and whether the cluster assigns their user."""


def resolve(observed: ObservedBuild) -> ResolvedBuild:
    """Return the resolved build. Raise PermanentError if it can't run."""
    parent = observed.parent
    spec = parsing.parse(ModelBuildSpec, parent.spec, what="spec")
    profile_name, profile = profiles.select(
        observed.profiles, namespace=parent.key.namespace, labels=observed.namespace_labels
    )
    accelerator = _accelerator(spec, profile, profile_name)
    device = devices.of(accelerator)
    if device.dedicated:
        accelerators.check(accelerator, profile=profile_name)
    kind = _kind(device, accelerator)
    _check_steps(spec, kind, dedicated=device.dedicated)
    _check_sources(spec, profile.sources or Sources(), profile_name)
    if spec.template is not None:
        pod_template.check_build(
            spec.template,
            router_account=profile.router.service_account_name if profile.router else None,
            has_token=spec.token_secret is not None,
        )
    rights.check_build(spec, profile, name=profile_name)
    _check_count(spec, accelerator, profile, profile_name, device=device)
    count = _count(spec)
    resources = _resources(spec, accelerator, profile_name, device=device)
    work, claims = _claims(spec, parent.uid)
    secret, registry = spec.token_secret, spec.output.push_secret
    return ResolvedBuild(
        key=parent.key,
        uid=parent.uid,
        recipe=recipes.build(
            spec,
            name=parent.key.name,
            uid=parent.uid,
            device=kind,
            memory=_memory(accelerator, resources, count, dedicated=device.dedicated),
            work=work,
        ),
        stages=_stages(spec, profile, profile_name, device=device),
        resources=resources,
        placement=_placement(accelerator),
        claims=claims,
        files=recipes.mounts(spec),
        images=tuple(sorted({uri for _, uri in _read(spec) if uri.startswith("oci://")})),
        device_class=accelerator.device_class,
        devices=count,
        ephemeral=not any(not claim.read_only for claim in claims),
        token_secret=(secret.name, secret.key) if secret else None,
        credentials=spec.credentials.name if spec.credentials else None,
        registry=registry.name if registry else None,
        pull_secrets=tuple(one.name for one in spec.image_pull_secrets or ()),
        egress=network.egress(profile.network),
        template=pod_template.of_build(spec.template, assigned_user=profile.users == "Assigned"),
    )


def _accelerator(spec: ModelBuildSpec, profile: ServingProfileSpec, name: str) -> Accelerator:
    wanted = (spec.accelerator and spec.accelerator.type) or profile.default_accelerator
    if wanted is None:
        return profile.accelerators[0]
    found = next((known for known in profile.accelerators if known.name == wanted), None)
    if found is None:
        known = sorted(accelerator.name for accelerator in profile.accelerators)
        raise PermanentError(
            Reason.UNKNOWN_ACCELERATOR,
            f'spec.accelerator.type: "{wanted}" is not an accelerator of ServingProfile {name}. Use one of '
            f"{', '.join(known)}.",
        )
    return found


def _kind(device: devices.Device, accelerator: Accelerator) -> build_support.Device:
    """Return the device as the builder names it."""
    for known in get_args(build_support.Device):
        if known == device.name:
            return cast(build_support.Device, known)
    raise PermanentError(
        Reason.UNSUPPORTED,
        f"spec.accelerator.type: \"{accelerator.name}\" can't work because steps don't run on {device.title}. Use "
        f"an accelerator of {devices.supported()}.",
    )


def _check_steps(spec: ModelBuildSpec, device: build_support.Device, *, dedicated: bool) -> None:
    """Raise PermanentError for the first step that can't run on the device, by the table of the builder."""
    if reason := build_support.order_refusal([step.kind for step in spec.steps]):
        raise PermanentError(Reason.UNSUPPORTED, f"spec.steps: {reason}.")
    for index, step in enumerate(spec.steps):
        field, reason = f"spec.steps[{index}].{step.kind}", None
        if step.quantize is not None:
            method = step.quantize.method or "rtn"
            reason = build_support.quantization_refusal(step.quantize.scheme, method, device)
            if reason is None and step.quantize.calibration is None:
                needed = build_support.needs_calibration(step.quantize.scheme, method)
                reason = "needs calibration. Set calibration.dataset" if needed else None
            before = spec.steps[index - 1].sparsify if index else None
            if reason is None and before is not None:
                reason = build_support.sparse_refusal(before.pattern, method)
        if step.sparsify is not None:
            method_of_pruning = step.sparsify.method or "sparsegpt"
            reason = build_support.sparsity_refusal(step.sparsify.pattern, method_of_pruning)
        if step.distill is not None and step.distill.speculator and not dedicated:
            field += ".speculator"
            reason = (
                f'"{step.distill.speculator}" can\'t work because the library speculators needs a GPU. Use '
                "an accelerator with a GPU, or leave it out for a draft model"
            )
        if reason is not None:
            raise PermanentError(Reason.UNSUPPORTED, f"{field}: {reason}.")
    if reason := _quality_refusal(spec):
        raise PermanentError(Reason.UNSUPPORTED, f"spec.{reason}.")


def _quality_refusal(spec: ModelBuildSpec) -> str | None:
    quality = spec.quality
    if quality is None:
        return None
    return build_support.quality_refusal(
        [step.kind for step in spec.steps],
        draft=recipes.first_draft(spec),
        metrics=bool(quality.metrics),
        regression=any(metric.max_regression for metric in quality.metrics or ()),
        task=quality.dataset.task is not None,
        acceptance=quality.min_acceptance is not None,
    )


def _read(spec: ModelBuildSpec) -> Iterator[tuple[str, str]]:
    """Yield the field and the URI of each checkpoint that the build reads."""
    yield "spec.source", spec.source
    yield from recipes.students(spec)


def _check_sources(spec: ModelBuildSpec, sources: Sources, profile: str) -> None:
    """Raise PermanentError for the first source or output that the profile does not allow."""
    named = [*_read(spec), ("spec.output.uri", spec.output.uri)]
    for field, dataset in recipes.datasets(spec):
        if dataset.uri is not None:
            named.append((f"{field}.uri", dataset.uri))
        if dataset.task is not None:
            named.append((f"{field}.task", f"hf://datasets/{dataset.task}"))
    for field, uri in named:
        if not any(fnmatch.fnmatchcase(uri, pattern) for pattern in sources.allow):
            raise PermanentError(
                Reason.SOURCE_NOT_ALLOWED,
                f'{field}: "{uri}" matches none of the sources that ServingProfile {profile} allows '
                f"({', '.join(sources.allow)}). Use an allowed one, or ask the platform team.",
            )


def _count(spec: ModelBuildSpec) -> int:
    return (spec.accelerator and spec.accelerator.count) or 1


def _check_count(
    spec: ModelBuildSpec,
    accelerator: Accelerator,
    profile: ServingProfileSpec,
    name: str,
    *,
    device: devices.Device,
) -> None:
    count = _count(spec)
    if not device.dedicated:
        return
    if count > 1 and (reason := device.single(accelerator)) is not None:
        raise PermanentError(
            Reason.UNSUPPORTED,
            f"spec.accelerator.count: {count} can't work because devices of {accelerator.name} can't be combined: "
            f"{reason}. Use one device, or an accelerator of whole GPUs.",
        )
    most = profile.limits.max_accelerators_per_namespace if profile.limits else None
    if most is not None and count > most:
        raise PermanentError(
            Reason.QUOTA_EXCEEDED,
            f"spec.accelerator.count: {count} is more than the {most} accelerators that ServingProfile {name} allows a "
            "namespace. Use fewer, or ask the platform team.",
        )


def _stages(
    spec: ModelBuildSpec, profile: ServingProfileSpec, name: str, *, device: devices.Device
) -> tuple[Stage, ...]:
    builder = profile.images.builder if profile.images else None
    if builder is None:
        raise PermanentError(
            Reason.IMAGE_MISSING,
            f"No image is set for the steps of a build. Set images.builder in ServingProfile {name}.",
        )
    drafts, engine = recipes.drafts(spec), builder
    if drafts:
        field = "vllm" if device.dedicated else "vllm_cpu"
        found: str | None = getattr(profile.images, field)
        if found is None:
            shown = "vllm" if device.dedicated else "vllmCpu"
            raise PermanentError(
                Reason.IMAGE_MISSING,
                "No image is set for the engine, which measures a draft. "
                f"Set images.{shown} in ServingProfile {name}.",
            )
        engine = found
    return tuple(
        Stage(stage, engine if stage in drafts else builder) for stage in recipes.stages(spec)
    )


def _resources(
    spec: ModelBuildSpec, accelerator: Accelerator, profile: str, *, device: devices.Device
) -> Manifest:
    """Return requests and limits: of the object, of the profile's accelerator, or built-in defaults."""
    for field, given in (
        ("spec.resources", spec.resources),
        (
            f"ServingProfile {profile}: accelerators[{accelerator.name}].resources",
            accelerator.resources,
        ),
    ):
        for problem in resource_checks.problems(given, but=accelerator.resource_name):
            raise PermanentError(Reason.INVALID_SPEC, f"{field}.{problem}")
    for name in sorted({*_part(spec.resources, "limits"), *_part(spec.resources, "requests")}):
        if "/" in name and name != accelerator.resource_name:
            raise PermanentError(
                Reason.UNSUPPORTED,
                f'spec.resources: "{name}" can\'t work because only spec.accelerator asks for devices. Leave it out, '
                "and use spec.accelerator.type and spec.accelerator.count.",
            )
    chosen = spec.resources or accelerator.resources or device.default_resources
    found = {kind: dict(_part(chosen, kind)) for kind in ("limits", "requests")}
    if device.dedicated:
        for name, size in _LEAST.items():
            if name not in found["limits"]:
                found["requests"].setdefault(name, size)
    else:
        cores = str(_count(spec))
        limit = found["limits"].get("cpu", cores)
        found["requests"].setdefault("cpu", min(limit, cores, key=units.quantity))
    if accelerator.resource_name is not None:
        for kind in found.values():
            kind[accelerator.resource_name] = str(_count(spec))
    return {kind: dict(sorted(sizes.items())) for kind, sizes in found.items() if sizes}


def _part(resources: pod.Resources | None, kind: str) -> Mapping[str, str]:
    found: Mapping[str, str] | None = getattr(resources, kind) if resources else None
    return found or {}


def _memory(
    accelerator: Accelerator, resources: Manifest, count: int, *, dedicated: bool
) -> int | None:
    """Return the bytes that a step may use; None if they are unknown."""
    if not dedicated:
        limit = resources.get("limits", {}).get("memory")
        return None if limit is None else int(units.quantity(limit))
    if accelerator.memory is None:
        return None
    share = units.share(accelerator.memory_share) if accelerator.memory_share else 1.0
    return int(float(units.quantity(accelerator.memory)) * share) * count


def _placement(accelerator: Accelerator) -> Manifest:
    found: dict[str, Any] = {
        "nodeSelector": accelerator.node_selector,
        "tolerations": [
            each.model_dump(by_alias=True, exclude_none=True)
            for each in accelerator.tolerations or []
        ],
        "runtimeClassName": accelerator.runtime_class_name,
    }
    return {key: value for key, value in found.items() if value}


def _claims(spec: ModelBuildSpec, uid: str) -> tuple[str, tuple[Claim, ...]]:
    """Return the working folder, and the claims that the pods mount."""
    folder = contract.CLAIMS_DIRECTORY
    output = weights.claims_of((spec.output.uri,))
    sources = weights.claims_of(tuple(uri for _, uri in _read(spec)))
    found = [Claim(name, f"{folder}/{name}", read_only=False) for name in output]
    found += [
        Claim(name, f"{folder}/{name}", read_only=True) for name in sources if name not in output
    ]
    own = f"{contract.BUILD_FOLDER}{uid}"
    if spec.workspace is not None:
        claim = Claim(spec.workspace.claim.name, contract.BUILD_DIRECTORY, read_only=False)
        return f"{contract.BUILD_DIRECTORY}/{own}", (*found, claim)
    place = f"{folder}/{output[0]}" if output else contract.BUILD_DIRECTORY
    return f"{place}/{own}", tuple(found)

"""Checks of accelerators and of requests for them."""

from collections.abc import Iterator

from slipstream_operator.api import pod
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator, ServingProfileSpec
from slipstream_operator.core import devices
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


def check(accelerator: Accelerator, *, profile: str) -> None:
    """Raise PermanentError for an accelerator that no engine runs on."""
    device = devices.of(accelerator)
    given = [("resourceName", accelerator.resource_name), ("deviceClass", accelerator.device_class)]
    given += [("resources", name) for name in _resources(accelerator.resources)]
    for field, value in given:
        found = devices.owner(value or "")
        if found is None or (found is device and device.supported):
            continue
        problem = (
            f"and engines run on {devices.supported()} only. Use one of these."
            if not found.supported
            else f"but the accelerator is one of {device.title}. Name resources of one kind of device."
        )
        raise PermanentError(
            Reason.UNSUPPORTED,
            f'spec.accelerator.type: "{accelerator.name}" can\'t work because {field} {value} in ServingProfile '
            f"{profile} means {found.title}, {problem}",
        )


def check_count(spec: InferenceServiceSpec, accelerator: Accelerator, count: int) -> None:
    """Raise PermanentError for several devices where an engine can use only one."""
    reason = devices.of(accelerator).single(accelerator)
    if reason is None or count == 1:
        return
    named = spec.accelerator is not None and "count" in spec.accelerator.model_fields_set
    field = f"spec.accelerator.count: {count}" if named else f"spec.parallelism: {count} devices"
    raise PermanentError(
        Reason.UNSUPPORTED,
        f"{field} can't work because devices of {accelerator.name} can't be combined: {reason}. Use one device and "
        "more replicas, or an accelerator of whole GPUs.",
    )


def check_requests(
    spec: InferenceServiceSpec,
    accelerator: Accelerator,
    profile: ServingProfileSpec,
    *,
    runtime: Runtime,
) -> None:
    """Raise PermanentError for accelerators outside spec.accelerator, which quotas would not count."""
    known = {entry.resource_name for entry in profile.accelerators}
    counted = accelerator.resource_name if runtime.uses_accelerator else None
    for field, name in _requested(spec):
        if field == "spec.resources" and name == counted:
            continue  # spec.accelerator.count replaces it
        if name in known or devices.owner(name) is not None:
            raise PermanentError(
                Reason.UNSUPPORTED,
                f'{field}: "{name}" can\'t work because only spec.accelerator asks for accelerators, and quotas count '
                "them there. Use spec.accelerator.type and spec.accelerator.count.",
            )


def _requested(spec: InferenceServiceSpec) -> Iterator[tuple[str, str]]:
    """Yield each resource that the object names, with the field that holds it."""
    for name in _resources(spec.resources):
        yield "spec.resources", name
    for container in (spec.template and spec.template.init_containers) or []:
        for name in _resources(container.resources):
            yield f"spec.template.initContainers[{container.name}].resources", name


def _resources(resources: pod.Resources | None) -> list[str]:
    if resources is None:
        return []
    return sorted({*(resources.limits or {}), *(resources.requests or {})})

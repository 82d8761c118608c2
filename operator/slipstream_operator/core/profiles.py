"""Selection of the ServingProfile for a namespace: the most specific selector wins, then the oldest profile."""

from collections.abc import Mapping, Sequence

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.pod import LabelSelector
from slipstream_operator.api.servingprofile import Accelerator, ServingProfileSpec
from slipstream_operator.core import parsing
from slipstream_operator.core.observed import Profile
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


def select(
    profiles: Sequence[Profile], *, namespace: str, labels: Mapping[str, str]
) -> tuple[str, ServingProfileSpec]:
    """Return the name and the spec of the namespace's profile. Raise PermanentError if there is none."""
    candidates = []
    for profile in profiles:
        spec = parsing.parse(
            ServingProfileSpec, profile.spec, what=f"ServingProfile {profile.name}"
        )
        selector = spec.namespace_selector or LabelSelector()
        if matches(selector, labels):
            candidates.append((-specificity(selector), profile.created, profile.name, spec))
    if not candidates:
        raise PermanentError(
            Reason.NO_PROFILE,
            f"No ServingProfile selects namespace {namespace}. Create a profile whose namespaceSelector matches "
            "the labels of the namespace.",
        )
    _, _, name, chosen = min(candidates, key=lambda candidate: candidate[:3])
    return name, chosen


def accelerator(spec: InferenceServiceSpec, profile: ServingProfileSpec) -> Accelerator | None:
    """Return the accelerator of the service, or else the default of the profile; None if it does not exist."""
    wanted = (spec.accelerator and spec.accelerator.type) or profile.default_accelerator
    if wanted is None:
        return profile.accelerators[0]
    return next((known for known in profile.accelerators if known.name == wanted), None)


def specificity(selector: LabelSelector) -> int:
    """Return the number of requirements of the selector."""
    return len(selector.match_labels or {}) + len(selector.match_expressions or [])


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether the labels match the selector, by the rules of Kubernetes label selectors."""
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    for requirement in selector.match_expressions or []:
        values, value = requirement.values or [], labels.get(requirement.key)
        met = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[requirement.operator]
        if not met:
            return False
    return True

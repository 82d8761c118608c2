"""Resolution of a ModelBuild and the profile into a build with all defaults."""

from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_operator.core import parsing, profiles
from slipstream_operator.core.observed import ObservedBuild


def resolve(observed: ObservedBuild) -> ModelBuildSpec:
    """Return the valid spec. Raise PermanentError if the build can't run."""
    parent = observed.parent
    spec = parsing.parse(ModelBuildSpec, parent.spec, what="spec")
    profiles.select(
        observed.profiles, namespace=parent.key.namespace, labels=observed.namespace_labels
    )
    return spec

"""Image of the engines: by the object, by its version of vLLM, or by the profile."""

from slipstream_operator.api.base import camel
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import (
    Accelerator,
    Images,
    ServingProfileSpec,
    VersionImages,
)
from slipstream_operator.core import devices, vllm_versions
from slipstream_operator.core.runtimes.runtime import Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


def of(
    spec: InferenceServiceSpec,
    profile: ServingProfileSpec,
    name: str,
    accelerator: Accelerator,
    *,
    runtime: Runtime,
) -> str:
    """Return the image of the engines. Raise PermanentError if the profile has none."""
    if spec.template and spec.template.image:
        return spec.template.image
    own = devices.of(accelerator).images.get(runtime.name)
    fields = (own,) if own else runtime.images
    if spec.engine and spec.engine.version:
        return _image_of_version(spec.engine.version, profile, name, accelerator, field=fields[0])
    for field in fields:
        image: str | None = getattr(profile.images, field, None)
        if image:
            return image
    raise PermanentError(
        Reason.IMAGE_MISSING,
        f"spec.template.image: no image is set for accelerator {accelerator.name}. Set images.{camel(fields[0])} "
        f"in ServingProfile {name}.",
    )


def _image_of_version(
    version: str, profile: ServingProfileSpec, name: str, accelerator: Accelerator, *, field: str
) -> str:
    """Return the image of a version of vLLM; the default images are of the pinned one."""
    listed = (profile.images and profile.images.versions) or []
    images: VersionImages | Images | None = next(
        (images for images in listed if images.version == version), None
    )
    if images is None and version == vllm_versions.PINNED.name:
        images = profile.images
    image: str | None = getattr(images, field, None)
    if image is None:
        raise PermanentError(
            Reason.IMAGE_MISSING,
            f'spec.engine.version: "{version}" has no image for accelerator {accelerator.name} in ServingProfile '
            f"{name}. Set {camel(field)} of that version in images.versions, or use another version.",
        )
    return image

"""Secrets, ConfigMaps and ServiceAccounts that a service or a build names, with the fields that name them."""

from collections.abc import Iterator

from slipstream_operator.api import pod
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.modelbuild import ModelBuildSpec
from slipstream_operator.api.template import Template
from slipstream_operator.api.volumes import Volume

Reference = tuple[str, str]
"""Field, and name of the object."""


def secrets(spec: InferenceServiceSpec) -> Iterator[Reference]:
    """Yield the Secrets that the service's pods or its router read."""
    if spec.model is not None and spec.model.token_secret is not None:
        yield "spec.model.tokenSecret.name", spec.model.token_secret.name
    if spec.model is not None and spec.model.credentials is not None:
        yield "spec.model.credentials.name", spec.model.credentials.name
    if spec.routing is not None and spec.routing.api_keys is not None:
        yield "spec.routing.apiKeys.name", spec.routing.api_keys.name
    yield from _of_template(spec.template)


def secrets_of_build(spec: ModelBuildSpec) -> Iterator[Reference]:
    """Yield the Secrets that the build's pods read."""
    if spec.token_secret is not None:
        yield "spec.tokenSecret.name", spec.token_secret.name
    if spec.credentials is not None:
        yield "spec.credentials.name", spec.credentials.name
    if spec.output.push_secret is not None:
        yield "spec.output.pushSecret.name", spec.output.push_secret.name
    for secret in spec.image_pull_secrets or ():
        yield "spec.imagePullSecrets", secret.name
    yield from _of_template(spec.template.whole() if spec.template else None)


def service_accounts(template: Template | None) -> Iterator[Reference]:
    """Yield the ServiceAccounts whose identity the pods use."""
    if template is None:
        return
    if template.service_account_name is not None:
        yield "spec.template.serviceAccountName", template.service_account_name
        return
    for volume in template.volumes or ():
        for source in (volume.projected and volume.projected.sources) or ():
            if source.service_account_token is not None:
                yield f"spec.template.volumes[{volume.name}].projected", "default"


def _of_template(template: Template | None) -> Iterator[Reference]:
    if template is None:
        return
    for secret in template.image_pull_secrets or ():
        yield "spec.template.imagePullSecrets", secret.name
    for field, source in _sources(template):
        if source.secret_key_ref is not None:
            yield f"{field}.valueFrom.secretKeyRef.name", source.secret_key_ref.name
    for volume in template.volumes or ():
        yield from _of_volume(volume)


def _of_volume(volume: Volume) -> Iterator[Reference]:
    field = f"spec.template.volumes[{volume.name}]"
    if volume.secret is not None:
        yield f"{field}.secret.secretName", volume.secret.secret_name
    for source in (volume.projected and volume.projected.sources) or ():
        if source.secret is not None:
            yield f"{field}.projected.sources.secret.name", source.secret.name
    if volume.csi is not None and volume.csi.node_publish_secret_ref is not None:
        yield f"{field}.csi.nodePublishSecretRef.name", volume.csi.node_publish_secret_ref.name


def _sources(template: Template) -> Iterator[tuple[str, pod.EnvSource]]:
    """Yield the sources of the variables' values."""
    for variable in template.env or ():
        if variable.value_from is not None:
            yield f"spec.template.env[{variable.name}]", variable.value_from
    for container in template.init_containers or ():
        for variable in container.env or ():
            if variable.value_from is not None:
                field = f"spec.template.initContainers[{container.name}].env[{variable.name}]"
                yield field, variable.value_from

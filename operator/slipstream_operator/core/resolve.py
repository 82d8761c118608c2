"""Resolution of the user's object and the profile into a service with all defaults.

A service that can't work raises PermanentError, which becomes `Accepted=False`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Accelerator, ServingProfileSpec, Sources
from slipstream_operator.core import (
    accelerators,
    build_sources,
    devices,
    engine_arguments,
    engine_image,
    fetching,
    memory_limit,
    network,
    objectives,
    offload,
    outputs,
    parallelism,
    parsing,
    pod_template,
    prefetching,
    profiles,
    prometheus,
    quota,
    replica_bounds,
    resource_checks,
    resources,
    rights,
    roofline,
    routing,
    times,
    weights,
)
from slipstream_operator.core.fit import demands, verdict
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.parallelism import Split
from slipstream_operator.core.resolved import Resolved, Revisioned
from slipstream_operator.core.rollout import policy
from slipstream_operator.core.runtimes import registry
from slipstream_operator.core.runtimes.runtime import Inputs, Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

SCALE_DOWN_WINDOW: Final = 120.0
"""Default stabilization window of scale-down in seconds; that of Kubernetes' HPA is 300."""


def resolve(observed: Observed) -> Resolved:
    """Return the resolved service. Raise PermanentError if it can't run."""
    parent = observed.parent
    if not names.is_valid_service_name(parent.key.name):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'metadata.name: "{parent.key.name}" is not valid. Use at most 40 characters (a-z, 0-9, -), start with '
            "a letter and not with slipstream-.",
        )
    written = parsing.parse(InferenceServiceSpec, parent.spec, what="spec")
    runtime = registry.of(written)
    builds = build_sources.find(written, observed, runtime=runtime)
    spec = build_sources.applied(written, builds, planned=True)
    name, profile = profiles.select(
        observed.profiles, namespace=parent.key.namespace, labels=observed.namespace_labels
    )
    accelerator = _accelerator(spec, profile, name)
    device = runtime.device(accelerator)
    sources = profile.sources or Sources()
    _check_model(spec, runtime)
    weights.check(spec, sources, name, runtime=runtime, builds=build_sources.written(builds))
    if spec.output is not None:
        outputs.check(spec.output)
    pod_template.check(
        spec, router_account=profile.router.service_account_name if profile.router else None
    )
    model_name = (spec.model and spec.model.name) or parent.key.name
    _check_name(observed, model_name)
    _check_adapters(spec, model_name)
    if device.dedicated:
        accelerators.check(accelerator, profile=name)
    accelerators.check_requests(spec, accelerator, profile, runtime=runtime)
    resource_checks.check(spec, accelerator, profile=name, runtime=runtime)
    rights.check(spec, profile, accelerator, name=name)
    weights_bytes = _weights_bytes(observed, spec)
    split = parallelism.split(spec, dedicated=device.dedicated, has_model=runtime.needs_model)
    _check_groups(observed, spec, split)
    if device.dedicated:
        accelerators.check_count(spec, accelerator, split.total)
    count = split.total if device.dedicated else parallelism.cores(spec, split)
    chosen = times.of(
        spec,
        accelerator,
        device=device,
        generates_tokens=runtime.generates_tokens,
        weights_bytes=weights_bytes,
    )
    offload.check(spec, runtime=runtime, device=device)
    per_pod = count // split.nodes
    configured = offload.added(
        resources.configured(spec, accelerator, per_pod, runtime=runtime), spec
    )
    keeps_cache = weights.cache(spec) is not None
    if weights_bytes is not None and weights.downloads(spec) and not keeps_cache:
        resources.check_disk(configured, spec, weights_bytes)
    image = engine_image.of(spec, profile, name, accelerator, runtime=runtime)
    keys = routing.engine_keys(spec) if runtime.checks_keys else None
    config = runtime.configure(
        Inputs(
            spec=spec,
            model_name=model_name,
            accelerator=accelerator,
            device=device,
            split=split,
            resources=configured,
            drain=chosen.drain,
            body=chosen.body,
            checks_keys=keys is not None,
        )
    )
    engine_arguments.check_allowed(
        spec, profile.engine_args.allow if profile.engine_args else (), profile=name
    )
    sequences = runtime.max_sequences(spec)
    engines = split.data if runtime.needs_model else 1
    routed = routing.resolve(
        spec, profile, name, times=chosen, sequences=sequences and sequences * engines
    )
    if routed.certificate is not None:
        config = {**config, "certificate": contract.CERTIFICATE_DIRECTORY}
    demand = None
    if device.dedicated and runtime.loads_checkpoints:
        demand = demands.of(
            config, accelerator, observed.facts, tensor_field=parallelism.tensor_field(spec, split)
        )
        verdict.check(demand, profile.accelerators)
    share = quota.share(observed, profile, name)
    bounds = replica_bounds.of(spec, profile, name, share)
    template = pod_template.of(spec, accelerator, assigned_user=profile.users == "Assigned")
    prefetch = prefetching.of(
        spec,
        image=image,
        template=template,
        pods=bounds.maximum * split.nodes,
        anywhere=not device.dedicated,
        profile=name,
        from_builds=build_sources.identity(builds) is not None,
    )
    requests: Mapping[str, str] = {}
    if device.dedicated:
        requests = offload.requested(
            resources.defaults(
                gpus=per_pod,
                weights_bytes=weights_bytes,
                downloads=weights.downloads(spec),
                keeps_cache=keeps_cache,
            ),
            spec,
        )
    waits = any(source.holds_revision for source in builds)
    return Resolved(
        key=parent.key,
        uid=parent.uid,
        model_name=model_name,
        runtime=runtime.name,
        accelerator=f"{accelerator.name} x {count}"
        + (f" on {split.nodes} nodes" if split.nodes > 1 else ""),
        quantization=_quantization(spec) if runtime.loads_checkpoints else None,
        speculation=_speculation_in_short(written),
        disable_below=None if waits else _share(written, "disable_below_acceptance"),
        disable_below_gain=None if waits else _share(written, "disable_below_gain"),
        max_length=spec.model.max_length if spec.model else None,
        adapters=build_sources.listed_adapters(weights.listed_adapters(spec), builds, observed)
        if spec.model is not None and spec.model.adapters is not None and runtime.needs_model
        else None,
        task=fetching.task(
            spec,
            profile,
            accelerator,
            engine_image=image,
            template=template,
            builds=build_sources.identity(builds),
        )
        if runtime.loads_checkpoints and not waits
        else None,
        prefetch=None if waits else prefetch,
        revisioned=Revisioned(
            module=runtime.module,
            image=image,
            config=config,
            claims=weights.claims(spec) if runtime.needs_model else (),
            token_secret=(spec.model.token_secret.name, spec.model.token_secret.key)
            if spec.model and spec.model.token_secret
            else None,
            resources=configured,
            template=template,
            offload_disk=offload.disk(spec),
            cache=weights.cache(spec),
            images=weights.images(spec) if runtime.needs_model else None,
            certificate=routed.certificate,
            credentials=spec.model.credentials.name
            if spec.model and spec.model.credentials
            else None,
            chat_template=(spec.model.chat_template_from.name, spec.model.chat_template_from.key)
            if spec.model and spec.model.chat_template_from
            else None,
            nodes=split.nodes if split.nodes > 1 else None,
            devices={"deviceClass": accelerator.device_class, "count": per_pod}
            if accelerator.device_class and device.dedicated
            else None,
            api_keys=keys,
            builds=build_sources.identity(builds),
            start=chosen.start if times.configured(spec, accelerator).start else None,
        ),
        times=chosen,
        default_requests=requests,
        default_memory_limit=memory_limit.of(
            spec, accelerator, gpus=per_pod, resources=configured, requests=requests
        )
        if device.dedicated
        else None,
        dedicated=device.dedicated,
        routing=routed,
        steps=policy.of(spec),
        recreate=spec.rollout is not None and spec.rollout.strategy == "Recreate",
        bounds=bounds,
        share=share,
        objectives=_objectives(spec, profile, name, runtime=runtime),
        scale_down_window=units.seconds(profile.scaling.scale_down_window)
        if profile.scaling and profile.scaling.scale_down_window
        else SCALE_DOWN_WINDOW,
        prometheus=prometheus.server(profile),
        scraping=prometheus.scraping(profile, pod_monitors=observed.pod_monitors),
        egress=network.egress(profile.network),
        gateways=network.gateways(profile.network) if routed.mode == "Gateway" else None,
        max_sequences=sequences,
        engines=split.data,
        provision_time=_provision_time(accelerator),
        demand=demand,
        roofline=roofline.of(accelerator, demand),
        hourly_cost=Decimal(accelerator.hourly_cost) * count if accelerator.hourly_cost else None,
        builds=builds,
    )


def _weights_bytes(observed: Observed, spec: InferenceServiceSpec) -> int | None:
    """Return the size of all checkpoints; None if unknown."""
    if observed.facts is None or spec.model is None:
        return None
    draft = spec.speculation.draft if spec.speculation else None
    return observed.facts.weights(spec.model.uri, draft)


def _provision_time(accelerator: Accelerator) -> float:
    if accelerator.provision_time is not None:
        return units.seconds(accelerator.provision_time)
    return devices.of(accelerator).provision_seconds


def _accelerator(spec: InferenceServiceSpec, profile: ServingProfileSpec, name: str) -> Accelerator:
    found = profiles.accelerator(spec, profile)
    if found is None:
        wanted = (spec.accelerator and spec.accelerator.type) or profile.default_accelerator
        known = sorted(accelerator.name for accelerator in profile.accelerators)
        raise PermanentError(
            Reason.UNKNOWN_ACCELERATOR,
            f'spec.accelerator.type: "{wanted}" is not an accelerator of ServingProfile {name}. Use one of '
            f"{', '.join(known)}.",
        )
    return found


def _check_groups(observed: Observed, spec: InferenceServiceSpec, split: Split) -> None:
    if split.nodes == 1:
        return
    most = spec.scaling.max_replicas if spec.scaling else spec.replicas
    name, longest = observed.parent.key.name, names.longest_of_groups(most)
    if len(name) > longest:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'metadata.name: "{name}" can\'t be used for {most} replicas that span nodes because labels of their '
            f"workers would be longer than 63 characters. Use at most {longest} characters, or fewer replicas.",
        )
    if not observed.leader_worker_sets:
        raise PermanentError(
            Reason.LEADER_WORKER_SET_MISSING,
            f"spec.parallelism.nodes: {split.nodes} can't work because the cluster has no LeaderWorkerSet "
            "(leaderworkerset.x-k8s.io/v1). Ask the platform team to install it, or use nodes: 1.",
        )


def _check_model(spec: InferenceServiceSpec, runtime: Runtime) -> None:
    """Raise PermanentError for objects that were stored before the rules of the CRD existed."""
    if spec.model is None and runtime.needs_model:
        raise PermanentError(Reason.INVALID_SPEC, "spec.model: is required. Set model.uri.")
    kept = spec.cache.model if spec.cache else None
    if kept is not None and kept.claim is None and kept.host_path is None:
        raise PermanentError(
            Reason.INVALID_SPEC,
            "spec.cache.model: needs exactly one of claim and hostPath. Set one and leave "
            "out the other.",
        )


def _check_name(observed: Observed, model_name: str) -> None:
    holder = observed.name_holders.get(model_name, observed.parent.key)
    if holder != observed.parent.key:
        raise PermanentError(
            Reason.NAME_TAKEN,
            f'spec.model.name: "{model_name}" is already served by the older InferenceService {holder.name} in '
            "this namespace. Use another name.",
        )


def _check_adapters(spec: InferenceServiceSpec, model_name: str) -> None:
    if model_name in weights.adapters(spec):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.model.adapters: "{model_name}" is also the name of the model. Use another name for the adapter, '
            "or set spec.model.name.",
        )


def _objectives(
    spec: InferenceServiceSpec, profile: ServingProfileSpec, name: str, *, runtime: Runtime
) -> objectives.Objectives:
    if spec.slo is None:
        return objectives.Objectives()
    tiers = profile.tiers or {}
    if spec.slo.tier and spec.slo.tier not in tiers:
        raise PermanentError(
            Reason.UNKNOWN_TIER,
            f'spec.slo.tier: "{spec.slo.tier}" is not a tier of ServingProfile {name}, which has '
            f"{', '.join(sorted(tiers)) or 'none'}. Use an existing tier, or set objectives in spec.slo.",
        )
    found = objectives.combine(spec.slo, tier=tiers.get(spec.slo.tier) if spec.slo.tier else None)
    if runtime.generates_tokens:
        return found
    if not found.without_tokens():
        raise PermanentError(
            Reason.UNSUPPORTED,
            f'spec.slo.tier: "{spec.slo.tier}" has no e2e objective, and runtime: {runtime.name} supports no '
            "other. Set slo.e2e, or use a tier with an e2e objective.",
        )
    return found.without_tokens()


def _quantization(spec: InferenceServiceSpec) -> str:
    return spec.quantization.method if spec.quantization else "auto"


def _share(spec: InferenceServiceSpec, limit: str) -> float | None:
    """Return a limit of spec.speculation; None if it is not set."""
    percentage = getattr(spec.speculation, limit, None)
    return None if percentage is None else units.share(percentage)


def _speculation_in_short(spec: InferenceServiceSpec) -> str | None:
    if spec.speculation is None:
        return None
    speculation = spec.speculation
    how = " ".join(part for part in (speculation.method, speculation.draft) if part)
    return f"{how}, {speculation.tokens} tokens"

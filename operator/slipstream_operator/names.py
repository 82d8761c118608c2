"""Names that all modules share: API group, kinds, labels, field managers, conditions, reasons and object names."""

import re
from typing import Final

GROUP: Final = "slipstream.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
INFERENCE_SERVICE: Final = "InferenceService"
SERVING_PROFILE: Final = "ServingProfile"
INFERENCE_ROUTE: Final = "InferenceRoute"
MODEL_BUILD: Final = "ModelBuild"
ROUTER: Final = "Router"
"""Kind of the queue's keys for the router of a namespace; the API has no such kind."""
NAMESPACE: Final = "Namespace"
CUSTOM_RESOURCE_DEFINITION: Final = "CustomResourceDefinition"
POD_MONITOR: Final = "PodMonitor"

OPERATOR: Final = "slipstream-operator"
FIELD_MANAGER: Final = OPERATOR

GATEWAY: Final = "Gateway"
HTTP_ROUTE: Final = "HTTPRoute"
INFERENCE_POOL: Final = "InferencePool"
GATEWAY_CHILDREN: Final = (INFERENCE_POOL, HTTP_ROUTE)
"""Kinds that attach a service to a Gateway, where the cluster has them."""
LEADER_WORKER_SET: Final = "LeaderWorkerSet"
WORKLOADS: Final = ("Deployment", LEADER_WORKER_SET)
"""Kinds that run a revision's pods; a LeaderWorkerSet if a replica spans nodes."""
LEASE: Final = OPERATOR

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
NAME_LABEL: Final = "app.kubernetes.io/name"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
SERVICE_LABEL: Final = f"{GROUP}/service"
REVISION_LABEL: Final = f"{GROUP}/revision"
WORKER_LABEL: Final = f"{GROUP}/worker-of"
"""Label of a worker pod of a replica that spans nodes: its service. It is no replica, so it has no service label."""
MANAGED_BY_SELECTOR: Final = f"{MANAGED_BY_LABEL}={OPERATOR}"
PICKER_LABEL: Final = f"{GROUP}/picker"
"""Label of an endpoint picker's pod: its service. The pod is no engine, so it has no service label."""
APPLIED_ANNOTATION: Final = f"{GROUP}/applied"

RESOURCE_CLAIM_TEMPLATE: Final = "ResourceClaimTemplate"
DEVICES: Final = "accelerators"
"""Name of a pod's device claim for dynamic resource allocation."""
FETCH_LABEL: Final = f"{GROUP}/fetch"
"""Label of a pod that downloads or inspects a model: its service. The pod is no engine, so it has no service label."""
TASK_LABEL: Final = f"{GROUP}/task"
"""Label of such a pod: the hash of its task."""
FETCH_COMPONENT: Final = "fetch"
PREFETCH_LABEL: Final = f"{GROUP}/prefetch"
"""Label of a pod that pulls images onto its node: its service."""
PREFETCH_COMPONENT: Final = "prefetch"
BUILD_LABEL: Final = f"{GROUP}/build"
"""Label of a pod that builds a model, and of all children of its ModelBuild: its name."""
BUILD_COMPONENT: Final = "build"
COMPLETION_INDEX_LABEL: Final = "batch.kubernetes.io/job-completion-index"
"""Label that Kubernetes gives pods of a Job with completionMode Indexed."""
JOB: Final = "Job"

ENGINE_CONTAINER: Final = "engine"
WORKER_COMPONENT: Final = "worker"
ROUTER_COMPONENT: Final = "router"
ROUTER_TOKEN: Final = "slipstream-router-token"  # noqa: S105 (a name)
"""Name of the Secret by which the routers of a namespace know each other."""
ENGINE_TOKENS: Final = "slipstream-engine-tokens"
"""Name of the Secret with the tokens of a namespace's engines: uid of a service -> token that its engines accept."""
PICKER_COMPONENT: Final = "picker"


class Condition:
    """Condition types of an InferenceService."""

    READY: Final = "Ready"
    ACCEPTED: Final = "Accepted"
    MODEL_READY: Final = "ModelReady"
    AVAILABLE: Final = "Available"
    SLO_MET: Final = "SLOMet"
    SCALING_ACTIVE: Final = "ScalingActive"
    RECONCILING: Final = "Reconciling"
    STALLED: Final = "Stalled"
    FOREIGN_PODS: Final = "ForeignPods"
    KEYS_REFUSED: Final = "KeysRefused"
    HOOKS_READY: Final = "HooksReady"
    """Condition of an InferenceRoute with hooks."""


class Reason:
    """Reasons shared by conditions, Events and logs."""

    ACCEPTED: Final = "Accepted"
    INVALID_SPEC: Final = "InvalidSpec"
    NO_PROFILE: Final = "NoProfile"
    UNKNOWN_ACCELERATOR: Final = "UnknownAccelerator"
    UNKNOWN_TIER: Final = "UnknownTier"
    SOURCE_NOT_ALLOWED: Final = "SourceNotAllowed"
    REMOTE_CODE_NOT_ALLOWED: Final = "RemoteCodeNotAllowed"
    NOT_ALLOWED: Final = "NotAllowed"
    LIMIT_EXCEEDED: Final = "LimitExceeded"
    UNSUPPORTED: Final = "Unsupported"
    IMAGE_MISSING: Final = "ImageMissing"
    LEADER_WORKER_SET_MISSING: Final = "LeaderWorkerSetMissing"
    NAME_TAKEN: Final = "NameTaken"
    NAME_CONFLICT: Final = "NameConflict"
    REJECTED: Final = "Rejected"
    INVALID_PARALLELISM: Final = "InvalidParallelism"
    DOES_NOT_FIT: Final = "DoesNotFit"
    QUOTA_EXCEEDED: Final = "QuotaExceeded"

    CREATE_FAILED: Final = "CreateFailed"
    ENGINES_READY: Final = "EnginesReady"
    STARTING: Final = "Starting"
    PENDING: Final = "Pending"
    UNSCHEDULABLE: Final = "Unschedulable"
    ENGINE_FAILED: Final = "EngineFailed"
    GROUP_RESTARTED: Final = "GroupRestarted"
    CONTAINER_CONFIG_ERROR: Final = "ContainerConfigError"
    EVICTED: Final = "Evicted"
    PREEMPTED: Final = "Preempted"
    NODE_DRAINED: Final = "NodeDrained"
    NODE_SHUTDOWN: Final = "NodeShutdown"
    REJECTED_BY_NODE: Final = "RejectedByNode"
    OUT_OF_MEMORY: Final = "OutOfMemory"
    IMAGE_PULL_FAILED: Final = "ImagePullFailed"
    STOPPED: Final = "Stopped"
    SCALED_TO_ZERO: Final = "ScaledToZero"
    ROUTER_NOT_READY: Final = "RouterNotReady"
    GATEWAY_UNAVAILABLE: Final = "GatewayUnavailable"
    GATEWAY_NOT_READY: Final = "GatewayNotReady"
    GATEWAY_DEGRADED: Final = "GatewayDegraded"
    BACKEND_NOT_FOUND: Final = "BackendNotFound"
    BACKENDS_READY: Final = "BackendsReady"
    BACKENDS_NOT_READY: Final = "BackendsNotReady"
    HOOKS_READY: Final = "HooksReady"
    HOOK_SERVICE_MISSING: Final = "HookServiceMissing"
    HOOK_SERVICE_NOT_READY: Final = "HookServiceNotReady"
    HOOK_KEY_MISSING: Final = "HookKeyMissing"
    ROLLING_OUT: Final = "RollingOut"
    ROLLOUT_STEP: Final = "RolloutStep"
    ROLLOUT_HELD: Final = "RolloutHeld"
    ROLLOUT_PROMOTING: Final = "RolloutPromoting"
    ROLLOUT_PROMOTED: Final = "RolloutPromoted"
    ROLLOUT_REVERTED: Final = "RolloutReverted"
    ROLLOUT_ABORTED: Final = "RolloutAborted"
    ROLLOUT_RETRIED: Final = "RolloutRetried"
    ROLLED_BACK: Final = "RolledBack"

    FETCHING: Final = "Fetching"
    FETCH_FAILED: Final = "FetchFailed"
    BUILDING: Final = "Building"
    BUILD_RUNNING: Final = "BuildRunning"
    BUILD_FAILED: Final = "BuildFailed"
    BUILD_MISSING: Final = "BuildMissing"
    QUALITY_TOO_LOW: Final = "QualityTooLow"
    QUALITY_INCONCLUSIVE: Final = "QualityInconclusive"
    PUBLISHED: Final = "Published"
    ARTIFACT_UNREADABLE: Final = "ArtifactUnreadable"
    LOADED: Final = "Loaded"
    NOT_LOADED: Final = "NotLoaded"

    MET: Final = "Met"
    MISSED: Final = "Missed"
    INFEASIBLE: Final = "Infeasible"
    NO_TRAFFIC: Final = "NoTraffic"
    NO_METRICS: Final = "NoMetrics"
    NO_PROMETHEUS: Final = "NoPrometheus"
    NO_OBJECTIVES: Final = "NoObjectives"

    FOLLOWING_LOAD: Final = "FollowingLoad"
    HOLDING: Final = "Holding"
    DECISION_FAILED: Final = "DecisionFailed"
    RECONCILE_FAILED: Final = "ReconcileFailed"
    FIXED_REPLICAS: Final = "FixedReplicas"
    PAUSED: Final = "Paused"
    RECOMMENDING: Final = "Recommending"

    SCALED_UP: Final = "ScaledUp"
    SCALED_DOWN: Final = "ScaledDown"
    REVISION_CREATED: Final = "RevisionCreated"
    REVISION_ACTIVATED: Final = "RevisionActivated"
    REVISION_DELETED: Final = "RevisionDeleted"
    ROUTER_ACTIVATED: Final = "RouterActivated"
    SPECULATION_DISABLED: Final = "SpeculationDisabled"
    SPECULATION_NOT_FASTER: Final = "SpeculationNotFaster"
    DRIFT_REPAIRED: Final = "DriftRepaired"
    FOREIGN_PODS: Final = "ForeignPods"
    KEYS_REFUSED: Final = "KeysRefused"
    KEYS_MISSING: Final = "KeysMissing"
    KEYS_UNREADABLE: Final = "KeysUnreadable"


_LONGEST_LABEL: Final = 63
"""Characters of a label's value, a limit of Kubernetes."""
NAME_PATTERN: Final = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"


def revision_name(service: str, revision: str) -> str:
    """Return the name of a revision's workload, ConfigMap and headless Service: at most 40 + 1 + 8 characters."""
    return f"{service}-{revision}"


def longest_of_groups(replicas: int) -> int:
    """Return the maximum length of a service's name if a replica spans nodes.

    Each group has a StatefulSet NAME-REVISION-INDEX for its workers. Kubernetes labels their pods with its name and a
    hash of up to 10 digits.
    """
    last = str(max(replicas - 1, 0))
    return _LONGEST_LABEL - len("-01234567-") - len(last) - len("-0123456789")


def state_name(service: str) -> str:
    """Return the name of the ConfigMap with the operator's saved state of a service."""
    return f"{service}-state"


def fetch_name(service: str, digest: str) -> str:
    """Return the name of the Job that downloads or inspects a model: at most 40 + 7 + 8 characters."""
    return f"{service}-fetch-{digest}"


def prefetch_name(service: str, digest: str) -> str:
    """Return the name of the Job that pulls images: at most 40 + 10 + 8 characters, and 3 for a pod's index."""
    return f"{service}-prefetch-{digest}"


def adapters_name(service: str) -> str:
    """Return the name of the ConfigMap that lists a service's LoRA adapters for its running engines."""
    return f"{service}-adapters"


def activation_name(service: str) -> str:
    """Name of the activation Lease, which the router renews while requests wait for a first replica."""
    return f"{service}-activation"


def workers_name(service: str) -> str:
    """Return the name of the objects that protect a service's workers. No service's name has a dot, so it is unique."""
    return f"{service}.workers"


def fetch_policy_name(service: str) -> str:
    """Return the name of the NetworkPolicy of a service's downloads. No service's name has a dot, so it is unique."""
    return f"{service}.fetch"


def build_name(build: str) -> str:
    """Return the name of the Job, ConfigMap and other children of a ModelBuild: at most 40 + 6 characters.

    No service's name has a dot, so it is unique.
    """
    return f"{build}.build"


def picker_name(service: str) -> str:
    """Return the name of a service's endpoint picker for an inference gateway."""
    return f"{service}-epp"


def router_labels() -> dict[str, str]:
    """Return the labels of a namespace's router and its objects, which no single service owns."""
    return {
        MANAGED_BY_LABEL: OPERATOR,
        NAME_LABEL: "slipstream",
        COMPONENT_LABEL: ROUTER_COMPONENT,
    }


def router_selector() -> dict[str, str]:
    """Return the labels that select exactly the router's pods in their namespace."""
    return {NAME_LABEL: "slipstream", COMPONENT_LABEL: ROUTER_COMPONENT}


def is_valid_service_name(name: str) -> bool:
    """Whether the names of children that are built from this name are valid DNS labels."""
    return re.fullmatch(NAME_PATTERN, name) is not None and not name.startswith("slipstream-")


def build_labels(build: str) -> dict[str, str]:
    """Return the labels of the children of a ModelBuild and of its pods."""
    return {
        MANAGED_BY_LABEL: OPERATOR,
        NAME_LABEL: "slipstream",
        COMPONENT_LABEL: BUILD_COMPONENT,
        BUILD_LABEL: build,
    }


def child_labels(service: str, *, revision: str | None = None, component: str) -> dict[str, str]:
    """Return the labels of a child. Labels of the InferenceService are not copied."""
    labels = {
        MANAGED_BY_LABEL: OPERATOR,
        NAME_LABEL: "slipstream",
        COMPONENT_LABEL: component,
        SERVICE_LABEL: service,
    }
    if revision is not None:
        labels[REVISION_LABEL] = revision
    return labels

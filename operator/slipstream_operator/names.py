"""Every name that must mean the same everywhere: the group, labels, field managers, conditions, reasons."""

import re
from typing import Final

GROUP: Final = "slipstream.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
INFERENCE_SERVICE: Final = "InferenceService"
SERVING_PROFILE: Final = "ServingProfile"

OPERATOR: Final = "slipstream-operator"
FIELD_MANAGER: Final = OPERATOR
LEASE: Final = OPERATOR

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
NAME_LABEL: Final = "app.kubernetes.io/name"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
SERVICE_LABEL: Final = f"{GROUP}/service"
REVISION_LABEL: Final = f"{GROUP}/revision"
MANAGED_BY_SELECTOR: Final = f"{MANAGED_BY_LABEL}={OPERATOR}"
APPLIED_ANNOTATION: Final = f"{GROUP}/applied"

ENGINE_CONTAINER: Final = "engine"


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


class Reason:
    """Reasons shared by conditions, Events and logs."""

    ACCEPTED: Final = "Accepted"
    INVALID_SPEC: Final = "InvalidSpec"
    NO_PROFILE: Final = "NoProfile"
    UNKNOWN_ACCELERATOR: Final = "UnknownAccelerator"
    UNKNOWN_TIER: Final = "UnknownTier"
    SOURCE_NOT_ALLOWED: Final = "SourceNotAllowed"
    REMOTE_CODE_NOT_ALLOWED: Final = "RemoteCodeNotAllowed"
    LIMIT_EXCEEDED: Final = "LimitExceeded"
    UNSUPPORTED: Final = "Unsupported"
    IMAGE_MISSING: Final = "ImageMissing"
    NAME_TAKEN: Final = "NameTaken"
    NAME_CONFLICT: Final = "NameConflict"
    REJECTED: Final = "Rejected"

    CREATE_FAILED: Final = "CreateFailed"
    ENGINES_READY: Final = "EnginesReady"
    STARTING: Final = "Starting"
    PENDING: Final = "Pending"
    UNSCHEDULABLE: Final = "Unschedulable"
    ENGINE_FAILED: Final = "EngineFailed"
    CONFIG_ERROR: Final = "ContainerConfigError"
    IMAGE_PULL: Final = "ImagePullFailed"
    STOPPED: Final = "Stopped"
    ROLLING_OUT: Final = "RollingOut"

    LOADED: Final = "Loaded"
    NOT_LOADED: Final = "NotLoaded"

    MET: Final = "Met"
    MISSED: Final = "Missed"
    INFEASIBLE: Final = "Infeasible"
    NO_TRAFFIC: Final = "NoTraffic"
    NO_METRICS: Final = "NoMetrics"
    NO_OBJECTIVES: Final = "NoObjectives"

    SCALING: Final = "FollowingLoad"
    HOLDING: Final = "Holding"
    FIXED: Final = "FixedReplicas"
    PAUSED: Final = "Paused"
    RECOMMENDING: Final = "Recommending"

    SCALED_UP: Final = "ScaledUp"
    SCALED_DOWN: Final = "ScaledDown"
    REVISION_CREATED: Final = "RevisionCreated"
    REVISION_ACTIVATED: Final = "RevisionActivated"
    REVISION_DELETED: Final = "RevisionDeleted"
    SPECULATION_DISABLED: Final = "SpeculationDisabled"
    SPECULATION_LOSES: Final = "SpeculationLoses"
    DRIFT_REPAIRED: Final = "DriftRepaired"


NAME_PATTERN: Final = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"


def revision_name(service: str, revision: str) -> str:
    """Name of a revision's Deployment, ConfigMap and headless Service: at most 40 + 1 + 8 characters."""
    return f"{service}-{revision}"


def state_name(service: str) -> str:
    """Name of the ConfigMap that holds what the operator learned about a service."""
    return f"{service}-state"


def adapters_name(service: str) -> str:
    """Name of the ConfigMap that lists a service's LoRA adapters for its running engines."""
    return f"{service}-adapters"


def is_valid_service_name(name: str) -> bool:
    """Whether children's names built from it stay valid DNS labels."""
    return re.fullmatch(NAME_PATTERN, name) is not None and not name.startswith("slipstream-")


def child_labels(service: str, *, revision: str | None = None, component: str) -> dict[str, str]:
    """Labels of a child: an allow-list, never the user's own."""
    labels = {
        MANAGED_BY_LABEL: OPERATOR,
        NAME_LABEL: "slipstream",
        COMPONENT_LABEL: component,
        SERVICE_LABEL: service,
    }
    if revision is not None:
        labels[REVISION_LABEL] = revision
    return labels

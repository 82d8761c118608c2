"""The API server refuses what can't work, in words that name the field, the value and the remedy."""

from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused
from tests.support.specs import changed


def mounted(path: str, **more: str) -> dict[str, Any]:
    """A template with a volume at the path."""
    return {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": path, **more}],
    }


REFUSED = [
    ("metadata.name", "Upper", "Upper"),
    ("metadata.name", "a" * 41, "at most 40"),
    ("metadata.name", "with.dot", "Put a longer name, or a name with dots, into spec.model.name."),
    ("metadata.name", "slipstream-chat", "which is reserved for the operator. Use another name."),
    (
        "spec.model.uri",
        "http://host/model",
        '"http://host/model" is not a model source. Use hf://org/name[@revision]',
    ),
    ("spec.model.uri", "file:///models/../etc", "is not a model source"),
    ("spec.model.uri", "build://Upper", "or build://name for a ModelBuild of the same namespace."),
    ("spec.model.uri", "build://", "is not a model source"),
    (
        "spec.model.uri",
        "build://team-b/small",
        '"build://team-b/small" is in another namespace, and the claim and the Secrets of a build belong to',
    ),
    (
        "spec.speculation",
        {"draft": "build://team-b/small", "tokens": 4},
        "Publish the build to s3:// or oci://, and use that uri.",
    ),
    (
        "spec.model.adapters",
        [{"name": "a", "uri": "build://team-b/small"}],
        "is in another namespace",
    ),
    ("spec.model.maxLength", 8, "should be greater than or equal to 16"),
    ("spec.cache", {"model": {}}, "needs exactly one of claim and hostPath"),
    (
        "spec.cache",
        {"model": {"claim": {"name": "c"}, "hostPath": {"path": "/a"}}},
        "needs exactly one of claim and hostPath",
    ),
    ("spec.cache", {"model": {"hostPath": {"path": "a/b"}}}, '"a/b" is not an absolute path'),
    (
        "spec.speculation.disableBelowAcceptance",
        "0.3",
        '"0.3" is not a percentage. Use a value such as 30% or 99.9%.',
    ),
    (
        "spec.speculation.disableBelowGain",
        "1.05",
        '"1.05" is not a percentage. Use a value such as 30% or 99.9%.',
    ),
    (
        "spec.slo.ttft.p95",
        "fast",
        '"fast" is not a duration. Use a value such as 500ms, 2s or 1h30m.',
    ),
    ("spec.slo.ttft.p95", "0ms", '"0ms" must be more than zero'),
    (
        "spec.slo.ttft.p95",
        "50ms",
        "p50 (100ms) is more than p95 (50ms). Raise p95 or lower p50.",
    ),
    ("spec.slo.ttft", {}, "needs at least one of p50, p90, p95 and p99"),
    ("spec.slo", {}, "needs at least one of tier, ttft, tpot, e2e and throughput"),
    ("spec.slo.throughput", {"outputTokensPerSecond": 0}, "greater than or equal to 1"),
    ("spec.scaling.maxReplicas", 0, "should be greater than or equal to 1"),
    (
        "spec.scaling",
        {"minReplicas": 3, "maxReplicas": 2},
        "maxReplicas (2) is less than minReplicas (3)",
    ),
    ("spec.scaling.minReplicas", 0, "minReplicas: 0 and idleAfter need each other. Set both"),
    ("spec.scaling.idleAfter", "5m", "minReplicas: 0 and idleAfter need each other. Set both"),
    ("spec.routing", {"mode": "Gateway"}, "gateway and mode: Gateway need each other"),
    ("spec.routing", {"gateway": {"name": "a"}}, "gateway and mode: Gateway need each other"),
    (
        "spec.routing",
        {"mode": "Direct", "strategy": "LeastLoad"},
        "strategy (LeastLoad) needs mode: Router",
    ),
    (
        "spec.routing",
        {"mode": "Direct", "cors": {"allowOrigins": ["*"]}},
        "cors needs mode: Router",
    ),
    ("spec.routing", {"prefixScope": "Service"}, "prefixScope (Service) needs apiKeys"),
    *(
        ("spec.routing", {"cors": {"allowOrigins": [origin]}}, "is no origin that a browser sends")
        for origin in (
            "chat.example.com",
            "https://chat.example.com/",
            "https://Chat.example.com",
            "https://chat.example.com:443",
            "http://chat.example.com:80",
            "https://a.*.example.com",
        )
    ),
    ("spec.routing", {"cors": {"allowOrigins": []}}, "should have at least 1 items"),
    ("spec.cache", {"responses": {"ttl": "soon"}}, '"soon" is not a duration'),
    ("spec.cache", {"responses": {"ttl": "1m", "size": "0"}}, "is not a quantity above zero"),
    ("spec.replicas", 2, "replicas (2) can't be set together with scaling"),
    ("spec.speculation", {"tokens": 4}, "needs draft or method. Set draft (a draft model)"),
    (
        "spec.speculation",
        {"draft": "file:///models/draft", "method": "ngram"},
        "method ngram uses no draft model. Leave out draft or method.",
    ),
    (
        "spec.speculation",
        {"method": "eagle3"},
        "method eagle3 needs draft. Set draft to the source",
    ),
    (
        "spec.speculation",
        {"method": "ngram", "draftQuantization": "fp8"},
        "draftQuantization needs draft. Leave out draftQuantization, or set draft.",
    ),
    ("spec.speculation.method", "eagle", 'supported values: "ngram", "suffix", "eagle3", "mtp"'),
    (
        "spec.model.adapters",
        [{"name": "a", "uri": "hf://o/a"}, {"name": "a", "uri": "hf://o/b"}],
        'duplicate entries for key [name="a"]',
    ),
    (
        "spec.model.adapters",
        [{"name": "a b", "uri": "hf://o/a"}],
        '"a b" is not a valid name. Use letters',
    ),
    ("spec.model.adapters", [{"name": "a", "uri": "a"}], '"a" is not a model source'),
    ("spec.model.maxAdapterRank", 64, "maxAdapterRank needs adapters. List the adapters"),
    ("spec.model.chatTemplateFrom", {"name": "t"}, "Required value"),
    (
        "spec.model",
        {"uri": "hf://a/b", "chatTemplate": "x", "chatTemplateFrom": {"name": "t", "key": "k"}},
        "chatTemplateFrom can't work because chatTemplate sets the template, too",
    ),
    (
        "spec.model.adapters",
        [{"name": "a", "uri": "hf://a/b", "revision": "1 #2"}],
        '"1 #2" is not a valid revision. Use letters, digits, ., _ and -.',
    ),
    ("spec.parallelism.tensor", 0, "should be greater than or equal to 1"),
    ("spec.attention.slidingWindow", 1, "should be greater than or equal to 16"),
    ("spec.quantization.method", "int3", 'supported values: "none", "auto", "fp8"'),
    ("spec.simulator", {"alpha": "7ms"}, "simulator needs runtime: simulator"),
    ("spec.runtime", "simulator", "model can't be used with runtime: simulator"),
    ("spec.model", None, "model is required. Set model.uri"),
    ("spec.resources.limits.memory", "lots", '"lots" is not a quantity above zero'),
    ("spec.resources.limits.cpu", 0, '"0" is not a quantity above zero'),
    ("spec.engineArgs", {f"a{n}": n for n in range(65)}, "must have at most 64 items"),
    ("spec.accelerator.count", 0, "should be greater than or equal to 1"),
    ("spec.limits.maxOutputTokens", 0, "should be greater than or equal to 1"),
    ("spec.limits.maxPromptTokens", 0, "should be greater than or equal to 1"),
    ("spec.limits.timeout", "soon", '"soon" is not a duration. Use a value such as 500ms, 2s'),
    ("spec.limits.concurrency", 0, "should be greater than or equal to 1"),
    ("spec.limits.queue", -1, "should be greater than or equal to 0"),
    (
        "spec.output",
        {"schema": "{}", "regex": "a"},
        "can't have more than one of schema, regex and grammar. Keep one",
    ),
    (
        "spec.output",
        {"regex": "a", "grammar": 'root ::= "a"'},
        "can't have more than one of schema, regex and grammar. Keep one",
    ),
    ("spec.output", {"enforce": True}, "needs at least one of schema, regex, grammar and stop"),
    ("spec.output.stop", [], "should have at least 1 items"),
    ("spec.output.stop", ["a"] * 17, "must have at most 16 items"),
    ("spec.routing.mode", "Anywhere", 'supported values: "Router", "Gateway", "Direct"'),
    ("spec.routing.apiKeys", {}, "Required value"),
    (
        "spec.template.volumes",
        [{"name": "cache", "emptyDir": {}}],
        '"cache" is the name of a volume of the operator. Use another name.',
    ),
    (
        "spec.template.volumes",
        [{"name": "claim-0", "emptyDir": {}}],
        '"claim-0" is the name of a volume of the operator. Use another name.',
    ),
    ("spec.template.volumes", [{"name": "data"}], 'volume "data" needs exactly one of configMap'),
    (
        "spec.template.volumes",
        [{"name": "data", "emptyDir": {}, "secret": {"secretName": "s"}}],
        'volume "data" needs exactly one of configMap',
    ),
    (
        "spec.template.volumes",
        [{"name": "data", "projected": {"sources": [{}]}}],
        "needs exactly one of configMap, secret, serviceAccountToken",
    ),
    ("spec.template.volumes", [{"name": "h", "hostPath": {"path": "/"}}], "hostPath"),
    (
        "spec.template.volumeMounts",
        [{"name": "data", "mountPath": "/mnt/data"}],
        "Add a volume with this name, or correct the name.",
    ),
    (
        "spec.template.initContainers",
        [{"name": "engine", "image": "tools:1"}],
        '"engine" is a name that the operator uses. Use another name.',
    ),
    (
        "spec.template.initContainers",
        [{"name": "a", "image": "b", "volumeMounts": [{"name": "c", "mountPath": "/mnt/c"}]}],
        "Add a volume with this name, or correct the name.",
    ),
    ("spec.template.env", [{"name": "TMPDIR", "value": "/x"}], "are set by the operator"),
    ("spec.template.env", [{"name": "LWS_GROUP_SIZE", "value": "1"}], "are set by the operator"),
    (
        "spec.template.labels",
        {"leaderworkerset.sigs.k8s.io/group-index": "0"},
        '"leaderworkerset.sigs.k8s.io/group-index" is set by the operator. Leave it out.',
    ),
    (
        "spec.template.annotations",
        {"container.apparmor.security.beta.kubernetes.io/engine": "unconfined"},
        '"container.apparmor.security.beta.kubernetes.io/engine" is set by the operator',
    ),
    (
        "spec.template.labels",
        {"mine": "1", "slipstream.dev/service": "a"},
        '"slipstream.dev/service" is set by the operator. Leave it out.',
    ),
    (
        "spec.template.annotations",
        {"prometheus.io/port": "1"},
        '"prometheus.io/port" is set by the operator. Leave it out.',
    ),
    (
        "spec.template.topologySpreadConstraints",
        [
            {
                "maxSkew": 1,
                "topologyKey": "a",
                "whenUnsatisfiable": "ScheduleAnyway",
                "minDomains": 2,
            }
        ],
        "minDomains needs whenUnsatisfiable: DoNotSchedule",
    ),
    ("spec.template.supplementalGroups", [0], "should be greater than or equal to 1"),
    (
        "spec.rollout",
        {"steps": ["0%"]},
        '"0%" is not a step. Use a whole percentage from 1% to 50%',
    ),
    ("spec.rollout", {"steps": ["75%"]}, '"75%" is not a step'),
    ("spec.rollout", {"steps": ["5"]}, '"5" is not a step'),
    ("spec.rollout", {"steps": ["2.5%"]}, '"2.5%" is not a step'),
    ("spec.rollout", {"steps": ["9%", "50%", "10%"]}, "the steps must increase"),
    ("spec.rollout", {"steps": ["10%", "10%"]}, "the steps must increase"),
    ("spec.rollout", {"steps": []}, "should have at least 1 items"),
    ("spec.rollout", {"surge": 0}, "surge needs steps, in which revisions are compared"),
    ("spec.rollout", {"pause": "1m"}, "pause needs steps"),
    (
        "spec.rollout",
        {"steps": ["5%"], "strategy": "Recreate"},
        "steps can't work with strategy: Recreate, which stops the old engines first",
    ),
    (
        "spec.rollout",
        {"steps": ["5%"], "pause": "2d"},
        '"2d" is not a duration',
    ),
    (
        "spec.rollout",
        {"steps": ["5%"], "pause": "30h"},
        '"30h" is out of range. Use a duration from 1s to 24h',
    ),
    (
        "spec.rollout",
        {"steps": ["5%"], "analysis": {"slo": False, "errors": False}},
        "because nothing would be compared",
    ),
    (
        "spec.rollout",
        {"steps": ["5%"], "analysis": {"minRequests": 5}},
        "should be greater than or equal to 30",
    ),
    ("spec.times.start", "5s", '"5s" is out of range. Use a duration from 10s to 24h'),
    ("spec.times.drain", "2h", '"2h" is out of range. Use a duration from 1s to 1h'),
    ("spec.times.hold", "soon", '"soon" is not a duration'),
    ("spec.times.idle", "500ms", '"500ms" is out of range. Use a duration from 1s to 24h'),
    ("spec.times.body", "2h", '"2h" is out of range. Use a duration from 1s to 1h'),
    ("spec.template", mounted("/dev/shm"), '"/dev/shm" overlaps a path that the engine uses'),
    ("spec.template", mounted("/etc/slipstream"), "overlaps a path that the engine uses"),
    ("spec.template", mounted("/tmp/x"), '"/tmp/x" overlaps a path that the engine uses'),
    ("spec.template", mounted("/var"), '"/var" overlaps a path that the engine uses'),
    ("spec.template", mounted("/mnt/../etc"), "is not an absolute path"),
    ("spec.template", mounted("mnt/data"), "is not an absolute path"),
    ("spec.template", mounted("/mnt/d", subPath="../x"), "is not a relative path"),
]


@pytest.mark.parametrize(
    ("field", "value", "message"), REFUSED, ids=[f"{field}={value}" for field, value, _ in REFUSED]
)
def test_what_cannot_work_is_refused(
    kube: Kube, namespace: str, field: str, value: Any, message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(changed(field, value, namespace))
    assert message in refusal.value.message
    assert field.rsplit(".", 1)[0].removesuffix(".maxReplicas") in refusal.value.message


def test_quantities_are_stored_as_numbers_or_text(kube: Kube, namespace: str) -> None:
    resources = {"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"memory": 17179869184}}
    stored = kube.apply(changed("spec.resources", resources, namespace))
    assert stored["spec"]["resources"] == resources


@pytest.mark.parametrize("timeout", ["0.5s", "1m30s", ".5s", "1500us", "1h2m3.5s"])
def test_durations_are_stored_as_go_writes_them(kube: Kube, namespace: str, timeout: str) -> None:
    stored = kube.apply(changed("spec.limits.timeout", timeout, namespace))
    assert stored["spec"]["limits"]["timeout"] == timeout


@pytest.mark.parametrize(
    "part",
    [
        {"limits": {"queue": 1}},
        {"output": {"stop": ["a"]}},
        {"limits": {"queue": 1}, "output": {"stop": ["a"]}},
    ],
    ids=lambda part: next(iter(part)),
)
def test_a_simulator_keeps_no_limits_so_it_takes_none(
    kube: Kube, namespace: str, part: dict[str, Any]
) -> None:
    manifest = changed("spec.model", None, namespace)
    manifest["spec"] |= {"runtime": "simulator", **part}
    with pytest.raises(Refused, match="limits and output can't be used with runtime"):
        kube.apply(manifest)


PREFETCHED = {"cache": {"prefetch": True}}


@pytest.mark.parametrize(
    "uri", ["hf://org/model", "hf://gpt2", "s3://bucket/model", "file:///models/target"]
)
def test_only_images_are_pulled_ahead(kube: Kube, namespace: str, uri: str) -> None:
    manifest = changed("spec.model.uri", uri, namespace)
    manifest["spec"] |= PREFETCHED
    with pytest.raises(Refused) as refusal:
        kube.apply(manifest)
    assert "cache.prefetch: true can't work because" in refusal.value.message
    assert "Package the model as an image" in refusal.value.message


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": "oci://registry.local/m:1"}},
        {"speculation": {"draft": "oci://registry.local/d:1", "tokens": 4}},
        {"model": {"uri": "build://published-as-an-image"}},
    ],
)
def test_an_image_of_the_model_or_of_its_draft_is_pulled_ahead(
    kube: Kube, namespace: str, spec: dict[str, Any]
) -> None:
    manifest = changed("metadata.name", "pulled", namespace)
    manifest["spec"] |= PREFETCHED | spec
    assert kube.apply(manifest)["spec"]["cache"]["prefetch"] is True

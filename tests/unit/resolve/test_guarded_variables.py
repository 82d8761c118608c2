"""Variables that load code or redirect connections need the profile."""

from typing import Any

import pytest

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given


def resolved(name: str, *, init: bool = False, **profile: Any) -> Any:
    template: dict[str, Any] = {"env": [{"name": name, "value": "x"}]}
    if init:
        template = {"initContainers": [{"name": "a", "image": "b", **template}]}
    return given.resolved(
        {"model": given.MODEL, "template": template}, profiles=[given.profile(**profile)]
    )


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONWARNINGS", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHASHSEED",
        "BROWSER", "BASH_ENV", "PATH", "GCONV_PATH", "HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "GIT_SSH_COMMAND", "OPENSSL_CONF", "VLLM_PLUGINS", "CC",
        "CUDA_INJECTION64_PATH", "NCCL_NET_PLUGIN", "OTEL_EXPORTER_OTLP_ENDPOINT", "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_LOGGING_CONFIG_PATH", "TORCH_EXTENSIONS_DIR", "KUBERNETES_SERVICE_HOST",
    ],
)  # fmt: skip
def test_it_is_refused_with_what_to_add_to_the_profile(name: str) -> None:
    with pytest.raises(
        PermanentError, match=rf'^spec\.template\.env: "{name}".*add env\.{name} to'
    ) as e:
        resolved(name)
    assert e.value.reason == Reason.NOT_ALLOWED


@pytest.mark.parametrize(
    "name",
    ["HF_HUB_OFFLINE", "VLLM_LOGGING_LEVEL", "SSL_CERT_FILE", "NCCL_DEBUG", "TZ", "MY_SETTING"],
)
def test_other_variables_need_no_permission(name: str) -> None:
    resolved(name)


@pytest.mark.parametrize("entry", ["env.HTTPS_PROXY", "env.*_PROXY"])
def test_the_profile_allows_names_and_patterns(entry: str) -> None:
    resolved("HTTPS_PROXY", template={"allow": [entry]})
    with pytest.raises(PermanentError):
        resolved("LD_PRELOAD", template={"allow": [entry]})


def test_init_containers_have_the_same_rule() -> None:
    with pytest.raises(PermanentError) as refused:
        resolved("LD_PRELOAD", init=True)
    assert refused.value.message.startswith(
        'spec.template.initContainers[a].env: "LD_PRELOAD" loads'
    )
    resolved("LD_PRELOAD", init=True, template={"allow": ["env.LD_*"]})
    resolved("TZ", init=True)

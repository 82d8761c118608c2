"""Variables that load code, redirect connections or reach devices need the profile."""

import ast
import fnmatch
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from slipstream_operator.core import guarded_variables
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
        "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "HABANA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
        "VLLM_NCCL_SO_PATH", "VLLM_CUDART_SO_PATH", "VLLM_MODEL_REDIRECT_PATH", "VLLM_USAGE_STATS_SERVER",
        "OMP_TOOL_LIBRARIES", "UCX_MODULE_DIR", "FI_PROVIDER_PATH", "DG_JIT_NVCC_COMPILER", "XDG_CACHE_HOME",
        "NUMBA_CACHE_DIR", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "GCE_METADATA_HOST", "RAY_ADDRESS",
        "LMCACHE_CONFIG_FILE", "VLLM_LOGGING_CONFIG_PATH", "TORCH_EXTENSIONS_DIR", "KUBERNETES_SERVICE_HOST",
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
    [
        "HF_HUB_OFFLINE",
        "VLLM_LOGGING_LEVEL",
        "SSL_CERT_FILE",
        "NCCL_DEBUG",
        "NCCL_IB_HCA",
        "TZ",
        "MY_SETTING",
        "VLLM_USE_DEEP_GEMM",
        "OMP_NUM_THREADS",
        "AWS_REGION",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
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


HARMLESS = {
    "VLLM_BUILD_COMMIT", "VLLM_BUILD_PIPELINE", "VLLM_BUILD_URL", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_DISABLED_KERNELS",
    "VLLM_FLASHINFER_AUTOTUNE_SKIP_OPS", "VLLM_GC_DEBUG", "VLLM_HUMMING_INPUT_QUANT_CONFIG",
    "VLLM_HUMMING_ONLINE_QUANT_CONFIG", "VLLM_IMAGE_TAG", "VLLM_LOGGING_COLOR", "VLLM_LOGGING_LEVEL",
    "VLLM_LOGGING_PREFIX", "VLLM_LOGGING_STREAM", "VLLM_MAIN_CUDA_VERSION", "VLLM_PATTERN_MATCH_DEBUG",
    "VLLM_PP_LAYER_PARTITION", "VLLM_SYSTEM_START_DATE", "VLLM_USAGE_SOURCE", "VLLM_VIDEO_LOADER_BACKEND",
}  # fmt: skip
"""Levels, numbers, names of kernels, and texts in logs."""


def test_every_text_variable_of_the_pinned_vllm_is_judged() -> None:
    """A text can name a file, a module or a server. Read in vLLM's source what a new variable names."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "envs.py").read_text())
    (typed,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    texts = {
        ast.unparse(node.target)
        for node in typed.body
        if isinstance(node, ast.AnnAssign) and "str" in ast.unparse(node.annotation)
    }
    judged = {
        name
        for name in texts
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in guarded_variables.PATTERNS)
    }
    assert {name for name in texts if name.startswith("VLLM_")} - judged == HARMLESS

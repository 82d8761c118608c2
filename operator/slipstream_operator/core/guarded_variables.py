"""Environment variables that the ServingProfile must allow."""

from typing import Final

PATTERNS: Final = (
    # of the loader, of shells and of Python
    "LD_*", "GCONV_PATH", "GLIBC_TUNABLES", "MALLOC_*", "BASH_ENV", "ENV", "PATH", "BROWSER", "PYTHON*", "VIRTUAL_ENV",
    # of libraries that load code or compiled code, or run compilers
    "CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH", "NCCL_*PLUGIN*", "NCCL_CONF_FILE", "OPENSSL_CONF",
    "OPENSSL_MODULES", "ORT_*", "TORCH_*", "TORCHINDUCTOR_*", "TRITON_*", "FLASHINFER_*", "CC", "CXX", "CPP", "NVCC",
    "CUDA_HOME", "CUDA_PATH", "CUDA_CACHE_PATH", "TRANSFORMERS_*", "HF_MODULES_CACHE", "XDG_*", "NUMBA_*", "CUPY_*",
    "TVM_*", "TILELANG_*", "CUTE_DSL_*", "DG_*", "OMP_TOOL*", "UCX_MODULE*", "NIXL_PLUGIN*", "FI_PROVIDER_PATH",
    "OMPI_*", "PMIX_*",
    # of vLLM
    "VLLM_PLUGINS", "VLLM_*_PLUGIN*", "VLLM_ALLOW_*", "VLLM_SERVER_DEV_MODE", "VLLM_*_CACHE*", "VLLM_TARGET_DEVICE",
    "VLLM_*_PATH", "VLLM_*_FOLDER", "VLLM_*_DIR", "VLLM_*_ROOT", "VLLM_RPC_*", "VLLM_*_HOST", "VLLM_*_IP",
    "VLLM_*_IPS", "VLLM_*_SERVER", "VLLM_*_PORT", "VLLM_PORT", "VLLM_RAY_*", "VLLM_LORA_RESOLVER_*",
    "VLLM_MEDIA_CONNECTOR", "VLLM_API_KEY", "VLLM_*_MCP_*", "VLLM_NIC_*", "VLLM_GPU_NIC_*",
    "VLLM_*_SHM_*", "RAY_*", "LMCACHE_*", "MOONCAKE_*",
    # of clients that send secrets to the address
    "HF_ENDPOINT", "HF_INFERENCE_ENDPOINT", "HUGGINGFACE_*", "MODELSCOPE_*", "VLLM_USE_MODELSCOPE", "AWS_*ENDPOINT*",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONTAINER_*", "*_ENDPOINT_URL*", "*_PROXY",
    "STORAGE_EMULATOR_HOST", "GCE_METADATA_*", "NETRC", "GIT_*", "SSH_*", "OTEL_*", "KUBERNETES_*", "KUBECONFIG",
    # of container runtimes, which give a container the devices and driver libraries that it names
    "NVIDIA_*", "*_VISIBLE_DEVICES", "*_VISIBLE_CHIPS",
)  # fmt: skip
"""Patterns, in upper case, of variables that make programs load code, send requests elsewhere or reach devices. Secrets
of the namespace could reach a stranger by them."""

# syntax=docker/dockerfile:1
# Images: docker build --target TARGET . Targets: operator, router, runtime (vLLM on GPUs), runtime-cpu (vLLM on CPU),
# runtime-onnx and runtime-onnx-cuda (ONNX Runtime), builder (steps of ModelBuilds, on CPU and GPUs).

# A digest names exactly one image, a tag any. `docs/operations.md` shows how to pin it.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim
# torch.compile needs a C++ compiler on CPUs. `--build-arg CPU_COMPILER=` leaves it out, if no service sets cache.compile.
ARG CPU_COMPILER=g++

FROM ${PYTHON_IMAGE} AS python-3.11

FROM python-3.11 AS build-3.11
COPY requirements/uv.txt /build/
RUN pip install --no-cache-dir --require-hashes -r /build/uv.txt && uv venv /opt/slipstream/venv
ENV VIRTUAL_ENV=/opt/slipstream/venv UV_NO_CACHE=1

# vLLM and its libraries compile kernels for GPUs at run time, with nvcc, NVRTC and Triton, which need a host compiler.
FROM python-3.11 AS compiler
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 && rm -rf /var/lib/apt/lists/*

FROM python-3.11 AS cpu-compiler
ARG CPU_COMPILER
RUN apt-get update && apt-get install -y --no-install-recommends libnuma1 ${CPU_COMPILER} && rm -rf /var/lib/apt/lists/*

# Device plugins that mount the driver at /usr/local/nvidia, such as GKE's, expect the image to set the loader's path.
FROM python-3.11 AS gpu
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM compiler AS gpu-compiler
# NVRTC searches the loader's path for its own parts when Humming compiles.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64:/opt/slipstream/venv/cuda/lib64 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_HOME=/opt/slipstream/venv/cuda

FROM build-3.11 AS operator-packages
COPY requirements/operator.txt /build/
RUN uv pip sync --require-hashes --compile-bytecode /build/operator.txt

FROM build-3.11 AS runtime-cpu-packages
COPY requirements/runtime-cpu.txt /build/
RUN uv pip sync --require-hashes --compile-bytecode /build/runtime-cpu.txt

FROM build-3.11 AS runtime-onnx-packages
COPY requirements/runtime-onnx.txt /build/
RUN uv pip sync --require-hashes --compile-bytecode /build/runtime-onnx.txt

FROM build-3.11 AS runtime-onnx-cuda-packages
COPY requirements/runtime-onnx-cuda.txt /build/
RUN uv pip sync --require-hashes --compile-bytecode /build/runtime-onnx-cuda.txt

FROM build-3.11 AS router-packages
COPY requirements/router.txt /build/
RUN uv pip sync --require-hashes --compile-bytecode /build/router.txt

FROM python-3.11 AS operator
COPY --from=operator-packages /opt/slipstream/venv /opt/slipstream/venv
COPY operator/slipstream_operator /app/operator/slipstream_operator
COPY runtime/slipstream_runtime/__init__.py runtime/slipstream_runtime/contract.py runtime/slipstream_runtime/build_support.py /app/runtime/slipstream_runtime/
ENV PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/operator:/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_operator"]

FROM cpu-compiler AS runtime-cpu
COPY --from=runtime-cpu-packages /opt/slipstream/venv /opt/slipstream/venv
COPY runtime/slipstream_runtime /app/runtime/slipstream_runtime
ENV PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_runtime.engine"]

# The packages take 8 GB, so they are installed in place and not copied from another stage.
FROM gpu-compiler AS runtime
RUN --mount=type=bind,from=build-3.11,source=/usr/local/bin,target=/build/bin \
    --mount=type=bind,source=requirements,target=/build/requirements \
    --mount=type=bind,source=dev,target=/build/dev \
    export UV_NO_CACHE=1 VIRTUAL_ENV=/opt/slipstream/venv && \
    /build/bin/uv venv $VIRTUAL_ENV && \
    /build/bin/uv pip sync --require-hashes --compile-bytecode /build/requirements/runtime-cuda.txt && \
    python /build/dev/environments/toolkit.py $VIRTUAL_ENV
COPY runtime/slipstream_runtime /app/runtime/slipstream_runtime
ENV PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_runtime.engine"]

FROM python-3.11 AS runtime-onnx
COPY --from=runtime-onnx-packages /opt/slipstream/venv /opt/slipstream/venv
COPY runtime/slipstream_runtime /app/runtime/slipstream_runtime
ENV PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_runtime.onnx"]

FROM gpu AS runtime-onnx-cuda
COPY --from=runtime-onnx-cuda-packages /opt/slipstream/venv /opt/slipstream/venv
COPY runtime/slipstream_runtime /app/runtime/slipstream_runtime
ENV PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_runtime.onnx"]

FROM compiler AS builder
# The packages take 6 GB, so they are installed in place, too. Triton compiles kernels for GPUs with a host compiler.
RUN --mount=type=bind,from=build-3.11,source=/usr/local/bin,target=/build/bin \
    --mount=type=bind,source=requirements,target=/build/requirements \
    export UV_NO_CACHE=1 VIRTUAL_ENV=/opt/slipstream/venv && \
    /build/bin/uv venv $VIRTUAL_ENV && \
    /build/bin/uv pip sync --require-hashes --compile-bytecode /build/requirements/builder.txt
COPY runtime/slipstream_runtime /app/runtime/slipstream_runtime
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_runtime.build"]

FROM python-3.11 AS router
COPY --from=router-packages /opt/slipstream/venv /opt/slipstream/venv
COPY runtime/slipstream_runtime /app/runtime/slipstream_runtime
ENV PATH=/opt/slipstream/venv/bin:$PATH PYTHONPATH=/app/runtime PYTHONUNBUFFERED=1
RUN python -m compileall -q /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "slipstream_runtime.router"]

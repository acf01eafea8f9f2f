# syntax=docker/dockerfile:1
# Three images from one file: `docker build --target api|worker|worker-cuda .`; docs/deploying.md says what each has.
# Python 3.11, 3.12, 3.13 or 3.14: `--build-arg PYTHON_IMAGE=python:3.14-slim-bookworm`.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ---- what all share: the interpreter and a user that owns nothing
FROM ${PYTHON_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    RUN_DIR=/tmp/inferlane \
    MODEL_CACHE_DIR=/opt/models \
    WEIGHTS_DIR=/opt/weights \
    TORCH_HOME=/opt/torch \
    LOG_FORMAT=json
RUN groupadd --gid 10001 inferlane \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin inferlane
WORKDIR /app

# ---- virtual environments, each built where nothing of it but the result is kept; everything by the hash of its file, but
# for torch and its kin, whose files differ by platform and index
FROM base AS pip
RUN python -m venv /opt/venv
COPY requirements-base.txt requirements-api.txt requirements-worker.txt requirements-torch.txt constraints.txt ./
COPY locks/ locks/

FROM pip AS api-venv
RUN --mount=type=cache,target=/tmp/.cache/pip pip install --require-hashes --no-deps -r locks/api.txt \
    && python -m compileall -q /opt/venv

FROM pip AS worker-venv
RUN --mount=type=cache,target=/tmp/.cache/pip pip install --require-hashes --no-deps -r locks/worker.txt \
    && python -m compileall -q /opt/venv

# Which torch this is depends on the index: an index of CPU-only builds makes this stage small, and it is thrown away.
FROM pip AS export-venv
ARG TORCH_CPU_INDEX=""
RUN --mount=type=cache,target=/tmp/.cache/pip pip install --require-hashes --no-deps -r locks/torch.txt \
    && PIP_EXTRA_INDEX_URL="${TORCH_CPU_INDEX}" pip install -r requirements-torch.txt

# The wheels of the package index bring their CUDA libraries along; the host brings the driver.
FROM pip AS cuda-venv
RUN --mount=type=cache,target=/tmp/.cache/pip pip install --require-hashes --no-deps -r locks/torch.txt \
    && pip install -r requirements-torch.txt \
    && python -m compileall -q /opt/venv

# ---- the models: weights are fetched and graphs exported here, so that a worker needs neither torch nor the internet
FROM export-venv AS models
ARG MODELS="mobilenet,resnet18,efficientnet,squeezenet,efficientnet_lite0"
COPY common/ common/
COPY worker_models/ worker_models/
COPY deploy/weights/ /opt/weights/
RUN mkdir -p /opt/models /opt/torch && MODELS="${MODELS}" WEIGHTS_TIMEOUT=600 python -m worker_models prepare

# ---- API and dashboard: no model runtime
FROM base AS api
COPY --from=api-venv /opt/venv /opt/venv
COPY celeryconfig.py ./
COPY common/ common/
COPY worker_models/ worker_models/
COPY tasks/ tasks/
COPY api/ api/
COPY inferlane/ inferlane/
COPY dashboard/ dashboard/
ENV API_HOST=0.0.0.0 \
    DASHBOARD_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000 8050
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('API_PORT') or 8000}/livez\", timeout=4)"]
CMD ["python", "-m", "api"]

# ---- worker code, the same for every kind of worker
FROM base AS worker-code
COPY celeryconfig.py ./
COPY common/ common/
COPY worker_models/ worker_models/
COPY tasks/ tasks/
COPY scripts/__init__.py scripts/alive.py scripts/flower.py scripts/
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "scripts.alive"]
CMD ["celery", "-A", "tasks", "worker", "--model", "efficientnet_lite0", "-n", "efficientnet_lite0@%h", "-P", "threads"]

# ---- worker on a CPU, and Flower: onnxruntime and the exported graphs
FROM worker-code AS worker
ENV RUNTIME=onnxruntime
COPY --from=worker-venv /opt/venv /opt/venv
COPY --from=models /opt/weights /opt/weights
COPY --from=models /opt/models /opt/models

# ---- worker on CUDA: torch and the weights; without a device it falls back to onnxruntime and the graphs
FROM worker-code AS worker-cuda
ENV RUNTIME=auto \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda-venv /opt/venv /opt/venv
COPY --from=models /opt/weights /opt/weights
COPY --from=models /opt/models /opt/models
COPY --from=models /opt/torch /opt/torch

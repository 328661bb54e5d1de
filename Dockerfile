# The service, without torch. It reads an exported model from /model:
#     docker build -t mask-service .
#     docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/outputs/default/onnx:/model:ro" mask-service
# Training, on CPUs, or on a GPU by another base:
#     docker build --target train -t mask-train .
#     docker build --target train -t mask-train --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS train
# libgl1 and libglib are what the wheel of opencv-python lacks. The CUDA image comes without Python.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && if ! command -v python3; then apt-get install -y --no-install-recommends python3 python3-venv; fi \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml requirements.lock ./
COPY scripts scripts
# An index with the small torch for CPUs, if given: --build-arg TORCH_INDEX_URL=...
ARG TORCH_INDEX_URL=
RUN PIP_NO_CACHE_DIR=1 python3 scripts/install.py train report
COPY . .
# Results lie in these folders: mount volumes there that user 10001 may write to.
RUN useradd --uid 10001 --create-home app \
    && mkdir outputs crop_images && chown app . outputs crop_images
USER 10001
ENTRYPOINT ["python3", "run_all.py"]

FROM python:3.12-slim-bookworm AS service
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml requirements.lock ./
COPY scripts scripts
RUN PIP_NO_CACHE_DIR=1 python scripts/install.py predict http \
    && useradd --uid 10001 --no-create-home app
COPY core core
COPY storage storage
COPY evaluation evaluation
COPY preprocessing preprocessing
COPY serving serving
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "serving.http", "--host", "0.0.0.0", "--onnx", "/model"]

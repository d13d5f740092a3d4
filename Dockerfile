# The server. On a CPU:
#     docker build -t scalecrafter .
#     docker run -p 8000:8000 -v scalecrafter:/data -e SCALECRAFTER_API_KEYS=a-key-of-16-characters-or-more scalecrafter
# On an NVIDIA GPU (with the NVIDIA Container Toolkit; these wheels of PyTorch bring CUDA along):
#     docker build -t scalecrafter:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#     docker run --gpus all -p 8000:8000 -v scalecrafter:/data -e SCALECRAFTER_API_KEYS=... scalecrafter:cuda --dtype bf16
# With the page: add --page. Other models: --model sdxl=/models/sdxl, and -v /where/they/are:/models.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=server,ui,heic
COPY constraints.txt /tmp/constraints.txt
# PyTorch from its own index, and then all else from PyPI.
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" "$(grep '^torch==' /tmp/constraints.txt)"
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /tmp/wheels/scalecrafter-*.whl)[${EXTRAS}]" \
    && useradd --create-home --uid 1000 scalecrafter \
    && install --directory --owner scalecrafter /data
USER 1000
ENV PYTHONUNBUFFERED=1 HF_HOME=/data/huggingface
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
# Listening on a network needs API keys (SCALECRAFTER_API_KEYS) or --allow-anyone.
ENTRYPOINT ["scalecrafter", "serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data"]

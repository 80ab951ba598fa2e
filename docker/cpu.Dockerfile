# Acclimate for machines without a GPU. Build it in the root of the repository:
#     docker build --file docker/cpu.Dockerfile --tag acclimate:cpu .
FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Both come from PyTorch's index of CPU builds, without 4 GB of GPU libraries.
# hadolint ignore=DL3013
RUN pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.9" "torchvision>=0.24"

COPY pyproject.toml setup.py README.md LICENSE /src/
COPY src /src/src
RUN pip install /src && rm -rf /src

# Files in a mounted folder belong to who runs the container: docker run --user "$(id -u):$(id -g)".
RUN useradd --create-home --uid 1000 acclimate
USER 1000
ENV XDG_CACHE_HOME=/tmp/cache
WORKDIR /work

HEALTHCHECK --interval=5m --timeout=1m --start-period=10s \
    CMD ["acclimate", "--version"]
ENTRYPOINT ["acclimate"]
CMD ["--help"]

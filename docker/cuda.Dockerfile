# Acclimate for machines with an NVIDIA GPU and its container toolkit. Build it in the root of the
# repository:
#     docker build --file docker/cuda.Dockerfile --tag acclimate:cuda .
FROM pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_BREAK_SYSTEM_PACKAGES=1

COPY pyproject.toml setup.py README.md LICENSE /src/
COPY src /src/src
# The image's own torch and torchvision stay: the bounds of acclimate include them.
RUN pip install /src && rm -rf /src

# Some base images have a user with the number 1000 already.
RUN useradd --create-home --non-unique --uid 1000 acclimate
USER 1000
ENV XDG_CACHE_HOME=/tmp/cache
WORKDIR /work

# A driver that the container cannot reach is an unhealthy container.
HEALTHCHECK --interval=5m --timeout=1m --start-period=30s \
    CMD ["python3", "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
ENTRYPOINT ["acclimate"]
CMD ["--help"]

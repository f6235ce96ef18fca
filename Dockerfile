# One image for every service of Windlass; the container's command says which one it is (controlplane/container.py).
# Nothing of the machine that builds stays in it: an index of packages, its certificate and passwords come as secrets.
ARG BASE=python:3.11-slim
FROM ${BASE}

# The cage of uploaded programs; whether a container may use it is up to the host (docs/operations-compose.md).
RUN command -v bwrap >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*; }

# New volumes take owner and mode from these folders.
ARG USER_ID=10001
RUN groupadd --gid ${USER_ID} windlass \
    && useradd --uid ${USER_ID} --gid windlass --no-create-home --home-dir /data --shell /usr/sbin/nologin windlass \
    && install -d -m 0700 -o windlass -g windlass /data /data/gateway /workloads /secrets /passwords

# Without the tools of development. EXTRAS="[s3]", "[gcs]" or "[azure]" adds where blobs can be kept.
WORKDIR /opt/windlass
COPY pyproject.toml requirements.lock ./
ARG EXTRAS=""
RUN --mount=type=secret,id=pip.conf \
    --mount=type=secret,id=ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv .venv \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off -c requirements.lock ".${EXTRAS}"

COPY manage.py ./
COPY static static
COPY templates templates
COPY controlplane controlplane
COPY apps apps
COPY workers workers
RUN chmod -R a+rX manage.py static templates controlplane apps workers \
    && .venv/bin/python -m compileall -q controlplane apps workers

ENV PATH=/opt/windlass/.venv/bin:$PATH \
    DJANGO_SETTINGS_MODULE=controlplane.settings \
    PYTHONUNBUFFERED=1 \
    WINDLASS_VAR=/data
USER windlass
ENTRYPOINT ["python", "-m", "controlplane.container"]
CMD ["--help"]

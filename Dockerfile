# Two images from one file, needing BuildKit (the default since Docker 23):
#   docker build -t workernode .                                  gateway, management, nodes that ask a remote model
#   docker build -t workernode-local --target workernode-local .  the same with PyTorch, for models run on the node
# docker run -d --network host -e PULSAR_URL=pulsar://broker:6650 workernode          serves a gateway and a node
# docker run -d --network host -e PULSAR_URL=pulsar://broker:6650 workernode gateway  serves that role alone

FROM python:3.14-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app

# Wheels stay in the cache mount, outside the image; every one of them is checked against its pinned hash.
FROM base AS dependencies
COPY requirements/kubernetes.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv && pip install --require-hashes --requirement requirements/kubernetes.txt

FROM base AS dependencies-local
COPY requirements/local.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv && pip install --require-hashes --requirement requirements/local.txt

# The code, and how it is run: the same in both images. It belongs to root, so that a role cannot change it;
# data/ is where management keeps its SQLite ledger when DATABASE_URL names no other.
FROM base AS application
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="WorkerNode" \
      org.opencontainers.image.description="A fleet of model-serving worker nodes on Apache Pulsar, behind an OpenAI-compatible gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
RUN groupadd --gid 10001 workernode && \
    useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin workernode && \
    install --directory --owner=10001 --group=10001 /app/data
COPY wire/ wire/
COPY broker/ broker/
COPY process/ process/
COPY store/ store/
COPY gateway/ gateway/
COPY workernode/ workernode/
COPY management/ management/
COPY controller/ controller/
COPY dead_letters/ dead_letters/
COPY fleet/ fleet/
COPY LICENSE ./
USER 10001:10001
EXPOSE 8081 8082 8083
# It asks the roles that process 1 was told to run, at the addresses that the environment gives them.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "fleet.start.health"]
ENTRYPOINT ["python", "-m", "fleet"]
CMD ["container"]

FROM application AS workernode-local
COPY --from=dependencies-local /opt/venv /opt/venv

# Last, so that it is what `docker build .` makes.
FROM application AS workernode
COPY --from=dependencies /opt/venv /opt/venv

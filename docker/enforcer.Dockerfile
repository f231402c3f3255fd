# The enforcer of a reverse proxy. Build it from the repository's root:
#
#     docker build -f docker/enforcer.Dockerfile -t pinban/enforcer .
#
# It runs as root without root's rights: of all capabilities it needs NET_ADMIN and NET_RAW, and Docker gives added
# capabilities to root alone. It writes to /run only. It must share the network namespace of nginx.
FROM debian:bookworm-slim AS python
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python AS builder
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends python3-venv python3-dev gcc libc6-dev
WORKDIR /src
COPY requirements/build.lock requirements/enforcer.lock requirements/
RUN python3 -m venv /opt/pinban \
 && /opt/pinban/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && /opt/pinban/bin/pip install --no-cache-dir --require-hashes --no-build-isolation -r requirements/enforcer.lock
COPY pyproject.toml README.md ./
COPY nginx nginx
COPY shared shared
COPY enforcer enforcer
RUN /opt/pinban/bin/pip install --no-cache-dir --no-build-isolation --no-deps . \
 && rm /opt/pinban/bin/pinban /opt/pinban/bin/pinban-receiver \
 && /opt/pinban/bin/pip uninstall -q -y packaging wheel setuptools pip

FROM python
ARG VERSION=dev
LABEL org.opencontainers.image.title="pinban-enforcer" \
      org.opencontainers.image.description="Drops the addresses that pinban has banned in the kernel of a reverse proxy" \
      org.opencontainers.image.version="$VERSION"
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends iptables ipset nftables \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=builder /opt/pinban /opt/pinban
COPY docker/lost-network /usr/local/lib/lost-network
COPY docker/healthy-enforcer /usr/local/bin/healthy
ENV PATH="/opt/pinban/bin:$PATH" PYTHONUNBUFFERED=1
HEALTHCHECK --interval=3s --timeout=3s --retries=3 --start-period=20s CMD ["healthy"]
ENTRYPOINT ["pinban-enforcer", "--alive", "/run/pinban/alive"]

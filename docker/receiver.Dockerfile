# The receiver, and the operator's command. Build it from the repository's root:
#
#     docker build -f docker/receiver.Dockerfile -t pinban/receiver .
#
# Needs no root and no capability, and runs on a read-only file system.
FROM debian:bookworm-slim AS python
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python AS builder
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends python3-venv python3-dev gcc libc6-dev
WORKDIR /src
COPY requirements/build.lock requirements/receiver.lock requirements/
RUN python3 -m venv /opt/pinban \
 && /opt/pinban/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && /opt/pinban/bin/pip install --no-cache-dir --require-hashes --no-build-isolation -r requirements/receiver.lock
COPY pyproject.toml README.md ./
COPY nginx nginx
COPY shared shared
COPY receiver receiver
COPY pinban pinban
RUN /opt/pinban/bin/pip install --no-cache-dir --no-build-isolation --no-deps . \
 && rm /opt/pinban/bin/pinban-enforcer \
 && /opt/pinban/bin/pip uninstall -q -y packaging wheel setuptools pip

FROM python
ARG VERSION=dev
LABEL org.opencontainers.image.title="pinban-receiver" \
      org.opencontainers.image.description="Counts refused conference PINs from nginx's log and bans who guesses" \
      org.opencontainers.image.version="$VERSION"
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pinban
COPY --from=builder /opt/pinban /opt/pinban
COPY docker/healthy-receiver /usr/local/bin/healthy
ENV PATH="/opt/pinban/bin:$PATH" PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 5514/udp
HEALTHCHECK --interval=3s --timeout=3s --retries=3 --start-period=20s CMD ["healthy"]
ENTRYPOINT ["pinban-receiver"]

# The rest of the demonstration: a stand-in for a conference node, a guesser, and a bystander. Not for production.
FROM debian:bookworm-slim AS python
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM python
LABEL org.opencontainers.image.title="pinban-stand-in" \
      org.opencontainers.image.description="A conference node that is none, and those who call it"
WORKDIR /srv
COPY tests/__init__.py tests/
COPY tests/lab tests/lab
COPY tests/docker tests/docker
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10002:10002
ENTRYPOINT ["python3", "-m"]

# Redis for the demonstration: Debian's, with docker/redis.conf, which needs an ACL file at /run/secrets/users.acl.
FROM debian:bookworm-slim
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
LABEL org.opencontainers.image.title="pinban-redis" \
      org.opencontainers.image.description="Redis with an append-only file and pinban's users"
COPY docker/redis.conf /etc/redis/pinban.conf
USER redis
VOLUME /var/lib/redis
EXPOSE 6379
HEALTHCHECK --interval=3s --timeout=3s --retries=3 --start-period=20s \
    CMD ["sh", "-c", "redis-cli --no-auth-warning --user health --pass health ping | grep -qx PONG"]
ENTRYPOINT ["redis-server", "/etc/redis/pinban.conf"]

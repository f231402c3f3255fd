# A reverse proxy of the demonstration: Debian's nginx with the snippet that pinban ships.
FROM debian:bookworm-slim
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends nginx-light \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
LABEL org.opencontainers.image.title="pinban-nginx" \
      org.opencontainers.image.description="nginx that sends pinban's log lines to a receiver"
COPY nginx/pinban.conf /etc/nginx/pinban.conf
COPY docker/nginx.conf /etc/nginx/nginx.conf
COPY docker/start-nginx /usr/local/bin/start-nginx
COPY docker/lost-network /usr/local/lib/lost-network
COPY docker/healthy-nginx /usr/local/bin/healthy
USER www-data
EXPOSE 80
HEALTHCHECK --interval=3s --timeout=3s --retries=3 --start-period=20s CMD ["healthy"]
ENTRYPOINT ["start-nginx"]

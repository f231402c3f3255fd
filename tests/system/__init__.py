"""Tests of whole processes in the namespace lab. They need root, nginx, redis-server and iproute2."""

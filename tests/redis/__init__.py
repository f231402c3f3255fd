"""Scripts, threads and commands against a real redis-server on a unix socket."""

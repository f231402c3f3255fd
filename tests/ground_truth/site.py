"""One namespace with nginx, two nodes behind it and a socket for each log: started, read from, ended."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ground_truth.generator import SOURCES6
from tests.ground_truth.targets import ROOMS
from tests.lab.http1 import Connection
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.nginx import Nginx
from tests.lab.process import Process, wait_until
from tests.lab.tap import Tap

HERE = "127.0.0.1"

#: The first node answers with Content-Length, the second in chunks: body sizes of both kinds.
NODES = (8080, 8081)

PINBAN, PEXAPP = 5514, 5515

#: Where nginx says how many connections are open; its own is one of them.
STATUS = 83

#: One worker on one processor: what it sends arrives in order.
CONFIGURATION = """\
daemon off;
user root;
worker_processes 1;
worker_cpu_affinity auto;
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;

    include {directory}/pinban.conf;

    log_format key '$request_id $http_x_ground';
    log_format pexapp '$remote_addr - $remote_user [$time_local]  "$request" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" "$http_x_forwarded_for" "$upstream_status" "$upstream_response_time"';
    access_log syslog:server=127.0.0.1:5515,nohostname,tag=key key;
    access_log syslog:server=127.0.0.1:5515,nohostname,tag=pexapp pexapp;

    upstream node {{
        {node}
        keepalive 64;
    }}
    server {{
        listen 80;
        listen [::]:80;
        listen 81 http2;
        listen [::]:81 http2;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Request-ID $request_id;
        {server}
        location / {{
            proxy_pass http://node;
        }}
        location /api/client/v66/ {{
            deny all;
        }}
    }}
    server {{
        listen 127.0.0.1:83;
        access_log off;
        location / {{
            stub_status;
        }}
    }}
}}
"""


class Listener:
    """Takes every datagram in a thread until it is closed."""

    def __init__(self, port: int, namespace: Namespace) -> None:
        self.taken: list[bytes] = []
        self._tap = Tap((HERE, port), namespace)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"tap {port}")
        self._thread.start()

    def close(self) -> None:
        """Stop once nothing is left in the socket. Idempotent."""
        self._closing.set()
        self._thread.join()
        self._tap.close()

    def _listen(self) -> None:
        while True:
            closing = self._closing.is_set()
            try:
                self.taken.append(self._tap.raw(0.0 if closing else 0.05))
            except TimeoutError:
                continue
            except BlockingIOError:
                return


class Site:
    """Use as a context manager."""

    def __init__(self, server: str, *, delay_ms: float) -> None:
        """`server` is put into nginx's server block; `delay_ms` is how long a node takes for an answer."""
        self._stack = contextlib.ExitStack()
        self.namespace = Namespace(f"{unique_prefix()}-ground")
        self._directory = Path(tempfile.mkdtemp(prefix=f"{self.namespace.name}-"))
        self._records = [self._directory / f"{port}.jsonl" for port in NODES]
        self._nodes = [self._node(*where, delay_ms) for where in zip(NODES, self._records, strict=True)]
        self.nginx = Nginx(
            self.namespace,
            self._directory,
            receivers=[f"{HERE}:{PINBAN}"],
            node=" ".join(f"server {HERE}:{port};" for port in NODES),
            server=server,
            site=CONFIGURATION,
        )

    def __enter__(self) -> Site:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            error.add_note("\n".join([self.nginx.errors()[-3000:], *(node.tail() for node in self._nodes)]))
        self.close()

    def close(self) -> None:
        """End every process and thread, and remove the namespace. Tries all of it."""
        self._stack.close()

    def settle(self) -> None:
        """Return when every request is done, logged and read: nginx logs a request before it closes the connection."""
        wait_until(self._idle, "nginx has ended every request")
        for port in NODES:  # a node reads what was sent to it before it reads this
            self._get(port, "/_truth")
        self.pinban.close()
        self.pexapp.close()

    def records(self) -> list[dict[str, Any]]:
        """What the nodes saw, in their words."""
        return [json.loads(line) for file in self._records for line in file.read_text().splitlines()]

    def _start(self) -> None:
        self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._stack.callback(self.namespace.remove)
        self.namespace.create()
        self.namespace.configure(*(f"addr add {address}/128 dev lo nodad" for address in SOURCES6))
        self.pinban = self._listen(PINBAN)
        self.pexapp = self._listen(PEXAPP)
        for node, port in zip(self._nodes, NODES, strict=True):
            self._stack.callback(node.stop)
            node.start()
            node.await_ready(partial(self._answers, port))
        self._stack.callback(self.nginx.stop)
        self.nginx.start()
        self.nginx.await_ready()

    def _listen(self, port: int) -> Listener:
        listener = Listener(port, self.namespace)
        self._stack.callback(listener.close)
        return listener

    def _answers(self, port: int) -> bool:
        return bool(self._get(port, "/_truth"))

    def _idle(self) -> bool:
        return b"Active connections: 1 \n" in self._get(STATUS, "/")

    def _get(self, port: int, path: str) -> bytes:
        def ask() -> bytes:
            try:
                with Connection(HERE, port) as connection:
                    answer = connection.ask("GET", path)
            except OSError:
                return b""
            return answer.body if answer else b""

        return self.namespace.call(ask)

    def _node(self, port: int, records: Path, delay_ms: float) -> Process:
        argv = [sys.executable, "-m", "tests.lab.node", "--listen", f"{HERE}:{port}", "--records", str(records)]
        argv += ["--delay-ms", str(delay_ms), *(["--chunked"] if port == NODES[1] else [])]
        argv += [f"--pin={alias}={pin}" for alias, pin in ROOMS.items()]
        return Process(f"node{port}", argv, self._directory, self.namespace)

"""One namespace with nginx, two nodes behind it and a socket for each sort of log: started, read from, ended."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ground_truth.fronts import Front
from tests.ground_truth.generator import SOURCES6
from tests.ground_truth.targets import FULL, ROOMS, SSO
from tests.lab.http1 import Connection
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.nginx import Nginx
from tests.lab.process import Process, wait_until
from tests.lab.tap import Tap

HERE = "127.0.0.1"

#: The first node answers with Content-Length; the second in chunks, and compressed for whoever takes that.
NODES = (8080, 8081)

#: Where nobody listens.
DEAD = 8089

#: Where the lines of nginx/pinban.conf go, and those of the text formats.
PINBAN, TEXTS = 5514, 5515

#: Where nginx says how many connections are open; its own is one of them.
STATUS = 80

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

    log_format key '$request_id $server_port $http_x_ground';
    log_format pexapp '$remote_addr - $remote_user [$time_local]  "$request" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" "$http_x_forwarded_for" "$upstream_status" "$upstream_response_time"';

    # Pexip's appliance hides what follows these words, up to the next "&" or blank.
    map $request $hidden_code {{
        "~^(?<before_code>.*code=)[^& ]*(?<after_code>.*)$" "$before_code[FILTERED]$after_code";
        default $request;
    }}
    map $hidden_code $hidden_state {{
        "~^(?<before_state>.*state=)[^& ]*(?<after_state>.*)$" "$before_state[FILTERED]$after_state";
        default $hidden_code;
    }}
    map $hidden_state $hidden_token {{
        "~^(?<before_token>.*token=)[^& ]*(?<after_token>.*)$" "$before_token[FILTERED]$after_token";
        default $hidden_state;
    }}
    map $hidden_token $hidden_pin {{
        "~^(?<before_pin>.*pin=)[^& ]*(?<after_pin>.*)$" "$before_pin[FILTERED]$after_pin";
        default $hidden_token;
    }}
    map $hidden_pin $hidden {{
        "~^(?<before_data>.*data=)[^& ]*(?<after_data>.*)$" "$before_data[FILTERED]$after_data";
        default $hidden_pin;
    }}
    log_format appliance '$remote_addr - $remote_user [$time_local]  "$hidden" $status $body_bytes_sent '
        '"$http_referer" "$http_user_agent" "$upstream_addr" "$upstream_status" "$upstream_response_time"';

    access_log syslog:server=127.0.0.1:5515,nohostname,tag=key key;
    access_log syslog:server=127.0.0.1:5515,nohostname,tag=pexapp pexapp;
    access_log syslog:server=127.0.0.1:5515,nohostname,tag=appliance appliance;

    upstream node {{
        {node}
        keepalive 64;
    }}
    upstream shaky {{
        {node}
        server 127.0.0.1:8089 max_fails=0;
        keepalive 64;
    }}
{server}
    server {{
        listen 127.0.0.1:82;
        access_log off;
        location / {{
            return 200 "<!doctype html><title>Not now</title>";
        }}
    }}
    server {{
        listen 127.0.0.1:80;
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

    def __init__(self, fronts: Sequence[Front], *, delay_ms: float) -> None:
        """`delay_ms` is how long a node takes for an answer."""
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
            server="".join(front.block for front in fronts),
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
        self.texts.close()

    def records(self) -> list[dict[str, Any]]:
        """What the nodes saw, in their words."""
        return [json.loads(line) for file in self._records for line in file.read_text().splitlines()]

    def _start(self) -> None:
        self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._stack.callback(self.namespace.remove)
        self.namespace.create()
        self.namespace.configure(*(f"addr add {address}/128 dev lo nodad" for address in SOURCES6))
        self.pinban = self._listen(PINBAN)
        self.texts = self._listen(TEXTS)
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
        argv += ["--delay-ms", str(delay_ms), *(["--chunked", "--gzip"] if port == NODES[1] else [])]
        for kind, rooms in (("pin", ROOMS), ("sso", SSO), ("full", FULL)):
            argv += [f"--{kind}={alias}={pin}" for alias, pin in rooms.items()]
        return Process(f"node{port}", argv, self._directory, self.namespace)

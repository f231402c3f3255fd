"""nginx of a reverse proxy, with the snippet that pinban ships and a minimal site around it."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.lab.http1 import Connection
from tests.lab.netns import Namespace
from tests.lab.process import ROOT, LabError, Process

SNIPPET = ROOT / "nginx" / "pinban.conf"

#: The line of the snippet that an installer adapts.
TARGET_LINE = re.compile(r"^access_log syslog:server=127\.0\.0\.1:5514,.*;$", re.MULTILINE)

#: How many workers a site has.
WORKERS = re.compile(r"^worker_processes (\d+);$", re.MULTILINE)

SITE = """\
daemon off;
user root;
worker_processes 2;
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

    upstream node {{
        server {node};
        keepalive 64;
    }}
    server {{
        listen 80;
        listen [::]:80;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        {server}
        location /api/ {{
            proxy_pass http://node;
            proxy_ignore_client_abort on;
        }}
        location /webapp3/ {{
            proxy_pass http://node;
        }}
    }}
}}
"""


class Nginx:
    """Two workers on port 80 of a namespace; everything it writes goes into the given directory."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        *,
        receivers: Sequence[str] = ("10.77.0.1:5514",),
        node: str = "10.77.0.1:8080",
        server: str = "",
        site: str = SITE,
    ) -> None:
        """A receiver is address:port or unix:/path; server is more configuration for the server block.

        Another site is a template with the same fields; it must answer on port 80 of every address.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._namespace = namespace
        self._errors = directory / "error.log"
        (directory / "pinban.conf").write_text(snippet(receivers))
        configuration = directory / "nginx.conf"
        configuration.write_text(site.format(directory=directory, node=node, server=server))
        self._workers = sum(map(int, WORKERS.findall(site)))
        argv = ["nginx", "-p", str(directory), "-e", str(self._errors), "-c", str(configuration)]
        self.process = Process("nginx", argv, directory, namespace)

    def start(self) -> None:
        """Start it; it may not answer yet."""
        self.process.start()

    def await_ready(self) -> None:
        self.process.await_ready(lambda: self._has_workers() and self._namespace.call(_accepts))

    def _has_workers(self) -> bool:
        """Whether all workers run: the kernel accepts connections as soon as their parent listens."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return len(children.split()) == self._workers

    def reload(self) -> None:
        self.process.signal(signal.SIGHUP)

    def stop(self) -> None:
        self.process.stop()

    def errors(self) -> str:
        """The error log, which tells of every datagram that could not be sent."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""


def snippet(receivers: Sequence[str]) -> str:
    """The shipped snippet with one access_log line for each receiver, as an installer would write them."""
    shipped = SNIPPET.read_text()
    line = TARGET_LINE.search(shipped)
    if not line:
        raise LabError(f"{SNIPPET.name} has no access_log line to adapt")
    lines = "\n".join(line[0].replace("127.0.0.1:5514", receiver) for receiver in receivers)
    return shipped.replace(line[0], lines)


def _accepts() -> bool:
    try:
        Connection("127.0.0.1").close()
    except OSError:
        return False
    return True

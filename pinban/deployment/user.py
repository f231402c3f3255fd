"""The user that the history names for what was done by hand."""

from __future__ import annotations

import getpass
import os
import socket


def whoami() -> str:
    """The person behind sudo, or the user, on this host; in a container the user may have no name."""
    user = os.environ.get("SUDO_USER")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # the former until Python 3.12
            user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"

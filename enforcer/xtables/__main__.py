"""A program, not a library: makes or repairs chain, rules and jumps through iptc, or removes them. No sets.

    request (JSON, stdin) -> converge each family under the xtables lock -> reply (one JSON line, stdout)

It runs in a child process (`python -m enforcer.xtables`), because iptc replaces stdout by a pipe while it reads rules,
keeps its tables for the life of the process, and has been seen to crash. The request is
{"verb": "install" or "disarm", "chain", "set": {"4", "6"}, "chains": [...], "ports": name of the set of ports, or null
for all, "protocol", "action", "families": [4, 6]}; the reply {"mended": [...], "warnings": [...], "shapes": {"4", "6"},
of the tables as they were read back, in hexadecimal} or {"error": "..."}.
"""

from __future__ import annotations

import ctypes.util
import glob
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from enforcer.xtables.rules import Family, RefusedError


def prepare_import() -> None:
    """Tell iptc where its libraries are.

    Otherwise it runs ldconfig, gcc and ld at every import, as root, and imports setuptools, which takes longer than
    all the rest of this program; and a slim image has none of them.
    """
    folders = glob.glob("/usr/lib/*/xtables") + glob.glob("/usr/lib*/xtables") + glob.glob("/lib*/xtables")
    folder = os.environ.get("XTABLES_LIBDIR") or next(iter(folders), None)
    if folder is None:
        return
    os.environ["XTABLES_LIBDIR"] = folder

    def find_library(name: str) -> str | None:
        found = glob.glob(f"{os.path.dirname(folder)}/lib{glob.escape(name)}.so.*")
        return min(found, key=len, default=None)

    ctypes.util.find_library = find_library
    sys.modules["distutils"] = None  # type: ignore[assignment]  # iptc then uses sysconfig, which is enough


def serve(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the request asks for every family; returns the reply."""
    prepare_import()
    try:
        import iptc  # noqa: PLC0415 - it looks for its libraries at import
    except ImportError as error:
        return {"error": f"python-iptables does not load ({error}); install pinban[enforcer] and iptables"}
    mended: list[str] = []
    errors: list[str] = []
    warnings: list[str] = []
    shapes: dict[str, str] = {}
    for number in request["families"]:
        try:
            family = Family(iptc, number, request)
            mended += family.converge()
            errors += family.errors
            warnings += family.warnings
            shapes[str(number)] = family.shape.hex()
        except ValueError as error:  # how iptc reports that the set match does not know the set
            remedy = (
                "the enforcer makes a missing set at its next check; if the set exists, load xt_set (modprobe)"
                " or give CAP_NET_RAW"
            )
            return {"error": f"IPv{number} rules: {error}; {remedy}"}
        except (iptc.IPTCError, iptc.XTablesError, AttributeError) as error:
            remedy = "load the legacy tables (modprobe iptable_filter ip6table_filter), if this kernel has them"
            if "ermission denied" in str(error):
                remedy = "run as root or with CAP_NET_ADMIN and CAP_NET_RAW"
            return {"error": f"IPv{number} filter table: {error}; {remedy}"}
        except RefusedError as error:
            return {"error": str(error)}
    return {"error": errors[0]} if errors else {"mended": mended, "warnings": warnings, "shapes": shapes}


def main() -> None:
    """Answer the one request."""
    reply_to = os.dup(1)
    os.dup2(2, 1)  # iptc replaces fd 1, and what it prints must not be in the reply
    reply = serve(json.load(sys.stdin))
    os.write(reply_to, json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    main()

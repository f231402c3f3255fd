"""The program that edits the legacy tables through iptc, in a child process: request -> tables -> reply."""

from enforcer.xtables.shape import shape

__all__ = [
    "shape",
]

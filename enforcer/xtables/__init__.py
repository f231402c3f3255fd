"""The program that edits the legacy tables through iptc, in a child process: request -> tables -> reply."""

from enforcer.xtables.shape import shape_of

__all__ = [
    "shape_of",
]

"""Numbered probes through each RP's nginx: which ones came (seen), and what their absence means (lost)."""

from receiver.probes.lost import Route, faults, never_answered
from receiver.probes.seen import Beats, Watch, read_routes

__all__ = [
    "Beats",
    "Route",
    "Watch",
    "faults",
    "never_answered",
    "read_routes",
]

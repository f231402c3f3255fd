"""Numbered probes through each RP's nginx: which ones came (seen), and what is wrong when some are missing (lost)."""

from receiver.probes.lost import LogPath, faults, never_answered
from receiver.probes.seen import Probes, Watch, read_paths

__all__ = [
    "LogPath",
    "Probes",
    "Watch",
    "faults",
    "never_answered",
    "read_paths",
]

"""The commands, one file for each group. They parse words and print; what they do is elsewhere."""

from pinban.commands.live import acl, check, doctor, history, top, watch

__all__ = [
    "acl",
    "check",
    "doctor",
    "history",
    "top",
    "watch",
]

"""Old logs: what each line means, who would have been banned. Files -> lines -> events -> outcomes -> table, JSON."""

from pinban.replay.explain import explained, summary
from pinban.replay.run import run_replay

__all__ = [
    "explained",
    "run_replay",
    "summary",
]

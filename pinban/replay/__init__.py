"""Old logs: what each line means, who would have been banned. Files -> lines -> events -> outcomes -> table, JSON."""

from pinban.replay.explain import explained, summary
from pinban.replay.files import batches, distinct
from pinban.replay.lines import surely_other
from pinban.replay.run import run_replay

__all__ = [
    "batches",
    "distinct",
    "explained",
    "run_replay",
    "summary",
    "surely_other",
]

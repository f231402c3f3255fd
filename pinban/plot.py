"""The picture of a replay: for each findtime, over maxretry, how many addresses are banned and how many of them are
likely innocent. The only module that needs matplotlib, the extra `plot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pinban.replay_core import Limits, Outcome
from shared.durations import Milliseconds
from shared.errors import PinbanError

_BANNED, _INNOCENT, _QUIET, _HERE = "#33658a", "#d1495b", "#666666", "#fff3c4"

#: What matplotlib writes into a file by itself, and what would differ from day to day.
_METADATA = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def draw(path: Path, outcomes: Sequence[Outcome], now: Limits, about: str) -> None:
    """Draw the outcomes into a file, SVG or PNG by its name's ending; PinbanError when it cannot be written.

    `now` are the limits in force, which are marked; `about` says which log it is.
    """
    with rc_context(
        {
            "svg.hashsalt": "pinban",  # the same file for the same numbers: no random ids, and no date below
            "svg.fonttype": "none",  # text stays text
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
        }
    ):
        figure = _figure(outcomes, now, about)
        suffix = path.suffix.lower()
        try:
            figure.savefig(path, format=suffix[1:], metadata=_METADATA[suffix], dpi=110)
        except OSError as error:
            raise PinbanError(f"{path}: cannot be written ({error.strerror or error})") from error


def _figure(outcomes: Sequence[Outcome], now: Limits, about: str) -> Figure:
    findtimes = sorted({outcome.limits.findtime_ms for outcome in outcomes})
    figure = Figure(figsize=(max(2.4 * len(findtimes), 7.5), 5.6), layout="constrained")
    axes = figure.subplots(2, len(findtimes), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    for column, findtime_ms in enumerate(findtimes):
        row = sorted((o for o in outcomes if o.limits.findtime_ms == findtime_ms), key=lambda o: o.limits.maxretry)
        counts = [str(o.limits.maxretry) for o in row]
        here = next((i for i, o in enumerate(row) if o.limits == now), None)
        _panel(axes[0, column], counts, [o.addresses for o in row], _BANNED, here)
        _panel(axes[1, column], counts, [o.innocent for o in row], _INNOCENT, here)
        axes[0, column].set_title(f"findtime {Milliseconds(findtime_ms)}", fontweight="bold")
        axes[1, column].set_xlabel("maxretry")
    axes[0, 0].set_ylabel("addresses banned")
    axes[1, 0].set_ylabel("of these likely innocent")
    figure.suptitle(f"Who would have been banned?\n{about}")
    figure.legend(
        handles=[
            Patch(color=_BANNED, label="addresses banned"),
            Patch(color=_INNOCENT, label="of these likely innocent: they joined too"),
            Patch(facecolor=_HERE, edgecolor=_QUIET, label="limits in force now"),
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def _panel(axes: Axes, names: Sequence[str], values: Sequence[int], color: str, here: int | None) -> None:
    bars: BarContainer = axes.bar(names, values, color=color, width=0.7)
    axes.bar_label(bars, labels=[_short(value) for value in values], padding=2)
    if here is not None:
        axes.axvspan(here - 0.5, here + 0.5, color=_HERE, zorder=0)
    axes.set_ylim(0, max(axes.get_ylim()[1], max(values) * 1.15, 1))
    axes.tick_params(left=False, labelleft=False, bottom=False)


def _short(number: int) -> str:
    """At most five characters, to fit above a bar."""
    for limit, unit in ((1_000_000, "M"), (10_000, "k")):
        if number >= limit:
            return f"{number / (1_000_000 if unit == 'M' else 1_000):.3g}{unit}"
    return str(number)

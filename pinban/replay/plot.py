"""The picture of a replay: for each findtime and maxretry, how many addresses are banned, and how many of them are
likely innocent. The only module that needs matplotlib, the extra `plot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pinban.replay.count import Limits, Outcome
from shared.durations import Milliseconds
from shared.errors import PinbanError

_GUESSERS, _INNOCENT, _NOBODY, _HERE, _EDGE = "#33658a", "#d1495b", "#2e7d32", "#fff3c4", "#666666"

#: Width of a bar, as a part of the distance between two.
_WIDTH = 0.7

#: The distance between two bars, and for how many a panel is wide enough at least: a single bar does not fill it.
_BAR_INCHES, _FEWEST = 0.6, 4

#: What matplotlib writes into a file by itself and would differ from day to day; None leaves it out.
_METADATA = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def draw(path: Path, outcomes: Sequence[Outcome], now: Limits, about: str) -> None:
    """Draw the outcomes into a file, SVG or PNG by its name's ending; PinbanError when it cannot be written.

    `now` are the limits in force, which get a mark; `about` says which log it is.
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
    bars = max(len({outcome.limits.maxretry for outcome in outcomes}), _FEWEST)
    figure = Figure(figsize=(max(_BAR_INCHES * bars * len(findtimes), 8.5), 6), layout="constrained")
    axes = figure.subplots(2, len(findtimes), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    for (above, below), findtime_ms in zip(axes.T, findtimes, strict=True):
        row = sorted((o for o in outcomes if o.limits.findtime_ms == findtime_ms), key=lambda o: o.limits.maxretry)
        _banned(above, row)
        _innocent(below, row)
        for panel in (above, below):
            _mark(panel, row, now)
            middle = (len(row) - 1) / 2
            panel.set_xlim(middle - bars / 2 - 0.1, middle + bars / 2 + 0.1)
            panel.tick_params(left=False, labelleft=False, bottom=False)
        above.set_title(f"findtime {Milliseconds(findtime_ms)}", fontweight="bold")
        below.set_xlabel("maxretry")
    axes[0, 0].set_ylabel("addresses banned")
    axes[1, 0].set_ylabel("likely innocent alone")
    figure.suptitle(f"Who would have been banned?\n{about}")
    keys = [
        Patch(color=_INNOCENT, label="banned but likely innocent: joined too"),
        Patch(color=_GUESSERS, label="banned, all others"),
    ]
    if any(outcome.limits == now for outcome in outcomes):
        keys.append(Patch(facecolor=_HERE, edgecolor=_EDGE, label="limits in force now"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    return figure


def _banned(axes: Axes, row: Sequence[Outcome]) -> None:
    names = [str(o.limits.maxretry) for o in row]
    innocent = [o.innocent for o in row]
    axes.bar(names, innocent, color=_INNOCENT, width=_WIDTH)
    bars = axes.bar(names, [o.addresses - o.innocent for o in row], bottom=innocent, color=_GUESSERS, width=_WIDTH)
    axes.bar_label(bars, labels=[short(o.addresses) for o in row], padding=2)
    _leave_space(axes, max(o.addresses for o in row))


def _innocent(axes: Axes, row: Sequence[Outcome]) -> None:
    """The innocent again, on their own scale: nobody must overlook a few among thousands."""
    bars = axes.bar([str(o.limits.maxretry) for o in row], [o.innocent for o in row], color=_INNOCENT, width=_WIDTH)
    labels = axes.bar_label(bars, labels=[short(o.innocent) for o in row], padding=2, fontweight="bold")
    for label, outcome in zip(labels, row, strict=True):
        label.set_color(_INNOCENT if outcome.innocent else _NOBODY)
    _leave_space(axes, max(o.innocent for o in row))


def _leave_space(axes: Axes, highest: int) -> None:
    """Space for the numbers above the bars; all panels of a row share one scale."""
    axes.set_ylim(0, max(axes.get_ylim()[1], highest * 1.15, 1))


def _mark(axes: Axes, row: Sequence[Outcome], now: Limits) -> None:
    for i, outcome in enumerate(row):
        if outcome.limits == now:
            axes.axvspan(i - 0.5, i + 0.5, color=_HERE, zorder=0)


def short(number: int) -> str:
    """At most five characters, to fit above a bar: 9999, 10.5k, 123k, 1.2M."""
    if number < 10_000:
        return str(number)
    thousands = round(number / 1_000, 1 if number < 99_950 else None)
    return f"{thousands:g}k" if thousands < 1_000 else f"{number / 1_000_000:.1f}M"

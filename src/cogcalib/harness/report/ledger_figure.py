"""The knowledge ledger drawn: what is known pass by pass, and where confidence leaves accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cogcalib.drawing.canvas import FAINT, new_figure, styled
from cogcalib.knowledge.ledger_epochs import PassSummary

KNOWN, UNKNOWN, LOST = "#0072b2", "#d55e00", "#882255"


@styled
def ledger_figure(passes: Sequence[PassSummary], title: str) -> Figure:
    """Shares known, learnt and forgotten; accuracy and confidence of what was known at first.

    Args:
        passes: Every pass of one training, the first one first.
        title: Of the figure.
    """
    figure = new_figure(10.2, 3.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    left, middle, right = figure.subplots(1, 3)
    numbers = [each.number for each in passes]
    left.plot(numbers, [100 * each.known for each in passes], color=KNOWN, marker="o")
    left.set_ylim(0, 104)
    left.set_title("Known")
    left.set_ylabel("examples (%)")
    width = 0.38
    later = passes[1:]
    middle.bar(
        [each.number - width / 2 for each in later],
        [100 * each.learnt for each in later],
        width,
        color=KNOWN,
        label="learnt",
    )
    middle.bar(
        [each.number + width / 2 for each in later],
        [100 * each.forgotten for each in later],
        width,
        color=LOST,
        label="forgotten",
    )
    middle.set_title("Since the pass before")
    middle.set_ylabel("examples (%)")
    _legend_below(middle)
    for name, colour in (("known", KNOWN), ("unknown", UNKNOWN)):
        _curves(right, passes, name, colour)
    right.set_ylim(0, 104)
    right.set_title("Correct and confident")
    right.set_ylabel("mean over examples (%)")
    _legend_below(right)
    for axes in (left, middle, right):
        axes.set_xlabel("pass over the training data")
        axes.set_xticks(numbers)
    return figure


def _legend_below(axes: Axes) -> None:
    """Beside what is drawn, never over it."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1.0)


def _curves(axes: Axes, passes: Sequence[PassSummary], name: str, colour: str) -> None:
    """Accuracy, solid, and confidence, broken, of the examples that were `name` at first."""
    kept = [(each.number, each.at_first[name]) for each in passes]
    points = [(number, *pair) for number, pair in kept if pair is not None]
    if not points:
        return
    numbers, accuracy, confidence = zip(*points, strict=True)
    scaled = [100 * value for value in accuracy], [100 * value for value in confidence]
    axes.plot(numbers, scaled[0], color=colour, marker="o", label=f"{name} at first: accuracy")
    axes.plot(numbers, scaled[1], color=colour, marker="o", linestyle="--", label="confidence")
    axes.fill_between(numbers, *scaled, color=FAINT, alpha=0.2, linewidth=0)

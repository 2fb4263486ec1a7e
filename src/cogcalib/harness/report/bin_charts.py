"""Charts of confidence in bins: reliability diagram, and confidence of correct and wrong answers.

Each bin carries its number, so that the page's script can list the answers in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.drawing.svg_plot import FEW, Plot, Scale, percent_scale
from cogcalib.harness.report.charts import Chart
from cogcalib.harness.report.columns import percent
from cogcalib.metrics import ReliabilityCurve, ece_label, reliability_curve


def bin_panels(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    name: str,
    colour: str,
    definition: str,
    bins: int,
    binning: str,
) -> list[Chart]:
    """Reliability diagram and histogram of one method's answers.

    Args:
        confidence: Of each answer, fraction, [n].
        correct: Whether it is correct, [n].
        name: Of the method, as printed.
        colour: Its hex colour.
        definition: Which confidence it is.
        bins, binning: As in `cogcalib.metrics.reliability_curve`.
    """
    curve = reliability_curve(confidence, correct, bins=bins, binning=binning)
    confidences, corrects = np.asarray(confidence, float), np.asarray(correct, bool)
    summary = (
        f"{len(confidences):,} answers, accuracy {percent(float(corrects.mean()))} %, mean "
        f"confidence {percent(float(confidences.mean()))} %"
    )
    made = ece_label(definition, len(confidences), bins=bins, binning=binning)
    reliability = f"Reliability of {name}, {definition}"
    histogram = f"Confidence of {name}, {definition}"
    right, wrong = confidences[corrects], confidences[~corrects]
    return [
        Chart(
            reliability,
            _reliability(curve, colour).svg(reliability, summary),
            f"ECE {percent(curve.ece)} %, {made}",
        ),
        Chart(histogram, _histogram(curve, right, wrong, colour).svg(histogram, summary)),
    ]


def bins_of(confidence: ArrayLike, curve_edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence, closed on the right, 0 in the first, [n]."""
    return np.searchsorted(curve_edges[1:-1], np.asarray(confidence, float), side="left")


def _reliability(curve: ReliabilityCurve, colour: str) -> Plot:
    """Accuracy of each bin, its gap to the confidence outlined, and how many answers it holds."""
    plot = Plot(percent_scale("confidence (%)"), percent_scale("accuracy (%)"), height=290,
                below=96)  # fmt: skip
    most = int(curve.count.max())
    counts = Plot(Scale(0, 1, ()), Scale(0, most, ()), height=290, top=222, below=36)
    for k in np.flatnonzero(curve.count):
        edges = (float(curve.edges[k]), float(curve.edges[k + 1]))
        n, accuracy = int(curve.count[k]), float(curve.accuracy[k])
        sure = float(curve.confidence[k])
        few = " few" * (n < FEW)
        plot.bar(edges, (0, accuracy), f"fill{few}", colour)
        plot.bar(edges, (min(accuracy, sure), max(accuracy, sure)), "gap")
        counts.bar(edges, (0, n), "fill", colour)
        title = (
            f"confidence {percent(edges[0])} to {percent(edges[1])} %: {n:,} answers, "
            f"{percent(accuracy)} % correct, mean confidence {percent(sure)} %"
        )
        plot.bar(edges, (0, 1), "hit", title=title, attributes=f'data-bin="{k}"')
    plot.line([(0, 0), (1, 1)], "diagonal")
    plot.overlay(counts)
    plot.text(plot.left - 5, 236, f"{most:,}", "end", "tick")
    plot.text(plot.left - 5, 257, "0", "end", "tick")
    return plot


def _histogram(
    curve: ReliabilityCurve, right: NDArray[np.float64], wrong: NDArray[np.float64], colour: str
) -> Plot:
    """Correct answers upwards, wrong ones downwards; each side adds up to 100 %."""
    ticks = [(-1.0, "100"), (-0.5, "50"), (0.0, "0"), (0.5, "50"), (1.0, "100")]
    plot = Plot(
        percent_scale("confidence (%)"), Scale(-1, 1, ticks, "wrong | correct (%)"), height=220
    )
    of_right = np.rint(np.nan_to_num(curve.accuracy) * curve.count)
    for k in np.flatnonzero(curve.count):
        edges = (float(curve.edges[k]), float(curve.edges[k + 1]))
        up, down = int(of_right[k]), int(curve.count[k] - of_right[k])
        plot.bar(edges, (0, up / max(1, len(right))), "fill", colour)
        plot.bar(edges, (-down / max(1, len(wrong)), 0), "wrong")
        title = f"confidence {percent(edges[0])} to {percent(edges[1])} %: {up:,} correct, "
        plot.bar(edges, (-1, 1), "hit", title=f"{title}{down:,} wrong",
                 attributes=f'data-bin="{k}"')  # fmt: skip
    for y, side, values in ((22, "correct", right), (34, "wrong", wrong)):
        if len(values):
            text = f"{len(values):,} {side}, mean {percent(float(values.mean()))} %"
            plot.text(plot.left + 6, y, text)
    return plot

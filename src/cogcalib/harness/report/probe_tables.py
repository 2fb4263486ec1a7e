"""The findings of a probe as tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from scipy.special import ndtri

from cogcalib.harness.report.columns import percent
from cogcalib.harness.report.page_parts import Grid
from cogcalib.knowledge import CATEGORIES, Knowledge, Probed, detect, estimate_threshold
from cogcalib.knowledge.detectors import DETECTORS, scores_of
from cogcalib.metrics import SMALL_N
from cogcalib.records import Threshold
from cogcalib.tasks.catalog import group_name

LABELS = {
    "HighlyKnown": CATEGORIES[:1],
    "HighlyKnown or MaybeKnown": CATEGORIES[:2],
}
"""What detectors are held against: name -> categories that count as known; the last is drawn."""


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share, fractions.

    With p = hits / n and z the normal quantile of the level,

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    It stays within 0 and 1 and has a width where the share is 0 or 1 (Wilson 1927; Brown, Cai and
    DasGupta 2001).

    Raises:
        ValueError: If `hits` is not among 0 to n, or n is 0.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"hits must be between 0 and n, and n positive, got {hits} of {n}")
    z = float(ndtri((1 + level) / 2))
    share, each = hits / n, z * z / n
    middle = share + each / 2
    half = z * float(np.sqrt(share * (1 - share) / n + each / (4 * n)))
    return max(0.0, (middle - half) / (1 + each)), min(1.0, (middle + half) / (1 + each))


def small_n(questions: int) -> str:
    """A warning where there are few questions; empty where there are enough."""
    if questions >= SMALL_N:
        return ""
    return f"{questions:,} questions, fewer than {SMALL_N}: mind the intervals"


def shares(rows: Sequence[Knowledge]) -> list[float]:
    """Share of each category, fractions, in the order of `CATEGORIES`."""
    return [sum(row.category == name for row in rows) / len(rows) for name in CATEGORIES]


def by_group(rows: Probed) -> dict[str, list[Knowledge]]:
    """Group -> its rows, the best known group first."""
    groups: dict[str, list[Knowledge]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    known = {group: fmean(row.p_greedy for row in members) for group, members in groups.items()}
    return {group: groups[group] for group in sorted(groups, key=lambda g: (-known[g], g))}


def by_named_group(rows: Probed) -> dict[str, list[Knowledge]]:
    """`by_group`, with names to read in place of identifiers where the task has them."""
    return {
        group_name(members[0].example.task, group): members
        for group, members in by_group(rows).items()
    }


def probe_threshold(rows: Probed) -> Threshold:
    """The cut on the NLL that best tells HighlyKnown and MaybeKnown from the rest."""
    known = [row.category in CATEGORIES[:2] for row in rows]
    return estimate_threshold([row.signals.nll for row in rows], known)


def category_grid(rows: Probed) -> Grid:
    """A line for each category: how many, its share, and what its probabilities are on average."""
    lines = []
    for name in CATEGORIES:
        members = [row for row in rows if row.category == name]
        means = [
            fmean(values) if values else None
            for values in (
                [row.p_greedy for row in members],
                [row.p_sampled for row in members],
                [row.signals.nll for row in members],
            )
        ]
        low, high = wilson(len(members), len(rows))
        share = f"{percent(len(members) / len(rows))} [{percent(low)}–{percent(high)}]"  # noqa: RUF001
        cells = [name, f"{len(members):,}", share]
        cells += ["–" if mean is None else percent(mean) for mean in means[:2]]  # noqa: RUF001
        cells.append("–" if means[2] is None else f"{means[2]:.2f}")  # noqa: RUF001
        lines.append([(cell, False) for cell in cells])
    headers = [
        "Category",
        "Questions",
        "Share % [95 %]",
        "P(greedy) %",
        "P(sampled) %",
        "NLL (nats)",
    ]
    return Grid(headers, lines)


def detector_grid(rows: Probed, *, resamples: int = 1000) -> Grid:
    """A line for each detector: its AUROC with the 95 % interval, against each of `LABELS`."""
    signals = [row.signals for row in rows]
    columns = [
        detect(signals, [row.category in known for row in rows], resamples=resamples)
        for known in LABELS.values()
    ]
    lines = []
    for name in columns[0]:
        cells = [name]
        for column in columns:
            found = column[name]
            cells.append(
                "–"  # noqa: RUF001
                if np.isnan(found.auroc)
                else f"{percent(found.auroc)} ({percent(found.low)}–{percent(found.high)})"  # noqa: RUF001
            )
        lines.append([(cell, False) for cell in cells])
    return Grid(["Detector", *(f"AUROC %, {label}" for label in LABELS)], lines)


def missing_detectors(rows: Probed) -> str:
    """A sentence on detectors that were not measured; empty where all were."""
    missing = [name for name in DETECTORS if name not in scores_of([row.signals for row in rows])]
    if not missing:
        return ""
    return (
        f"Not measured: {', '.join(missing)}. The engine that the model ran in shows the most "
        "probable tokens and not the whole vocabulary."
    )


def group_grid(groups: Mapping[str, Sequence[Knowledge]]) -> Grid:
    """A line for each group: how many, the shares of the categories, the mean P(sampled)."""
    lines = [
        [
            (cell, False)
            for cell in (
                group,
                f"{len(members):,}",
                *(percent(share) for share in shares(members)),
                percent(fmean(row.p_sampled for row in members)),
            )
        ]
        for group, members in groups.items()
    ]
    return Grid(["Group", "Questions", *(f"{n} %" for n in CATEGORIES), "P(sampled) %"], lines)

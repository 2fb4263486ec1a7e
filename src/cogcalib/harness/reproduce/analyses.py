"""Pages of the tables that look into models instead of comparing methods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.canvas import new_figure, styled
from cogcalib.harness.report.style import colour
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.markdown import line
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.run_folder import RunFolder

Found = Mapping[str, Sequence[Any]]
"""Method -> what was found, by seed."""
GROUPS = ("known", "unknown")
WAYPOINTS = 4
"""Looks shown in a table of dynamics besides the first; the CSV and the figure hold all."""


def read_analysis(outcome: PlanOutcome, place: Place) -> dict[str, list[Any]]:
    """Method -> what its cells found, by seed, for the seeds that are finished."""
    kind = outcome.plan.table.renderer
    found: dict[str, list[Any]] = {}
    for method in outcome.resolved.get(place.path, {}).values():
        for seed in outcome.plan.seeds:
            path = RunFolder(place.path).analysis(kind, method, seed)
            if path.exists():
                content = json.loads(path.read_text(encoding="utf-8"))
                found.setdefault(method, []).append(content)
    return found


def detector_page(outcome: PlanOutcome) -> Iterator[str]:
    """Lines: a table per place."""
    for place in outcome.plan.shown():
        found = read_analysis(outcome, place)
        if not found:
            continue
        detectors = list(next(iter(found.values()))[0]["auroc"])
        yield f"## {place.model}: {place.trained_on}"
        yield ""
        heads = [f"AUROC {name} %" for name in detectors]
        fixed = ["threshold (nats)", "separation %", "right %", "known %"]
        yield line(["model", *fixed, *heads])
        yield line([":---", *["---:"] * (len(fixed) + len(heads))])
        for method, seeds in found.items():
            cells = [_spread([row["threshold"] for row in seeds], 1, 3)]
            for key in ("separation", "accuracy", "share_known"):
                cells.append(_spread([row[key] for row in seeds], 100, 1))
            for name in detectors:
                cells.append(_spread([row["auroc"][name]["auroc"] for row in seeds], 100, 1))
            yield line([label(method), *cells])
        yield ""
    yield (
        "Mean ± standard deviation over seeds. Known: what the model answers correctly by itself. "
        "The threshold on the NLL comes from the calibration split, with its separation (TPR + TNR "
        "- 1) there; right: how often it tells known from unknown on the test split; known: share "
        "of the test questions. AUROC of each detector on the test split."
    )


def dynamics_page(outcome: PlanOutcome) -> Iterator[str]:
    """Lines: a table per place, with the steps as columns."""
    for place in outcome.plan.shown():
        found = read_analysis(outcome, place)
        if not found:
            continue
        steps = sorted({row["step"] for seeds in found.values() for rows in seeds for row in rows})
        shown = [steps[round(i * (len(steps) - 1) / WAYPOINTS)] for i in range(WAYPOINTS + 1)]
        yield f"## {place.model}: {place.trained_on}"
        yield ""
        yield line(["", *(f"step {step}" for step in dict.fromkeys(shown))])
        yield line([":---", *["---:"] * len(dict.fromkeys(shown))])
        for method, seeds in found.items():
            for split, group in sorted({(r["split"], r["group"]) for r in seeds[0]}, reverse=True):
                cells = []
                for step in dict.fromkeys(shown):
                    accuracy = _at(seeds, split, group, step, "accuracy")
                    confidence = _at(seeds, split, group, step, "confidence")
                    cells.append(f"{100 * accuracy:.1f} / {100 * confidence:.1f}")
                yield line([f"{label(method)}, {split}, {group}", *cells])
        yield ""
    yield (
        "Accuracy % / mean confidence %, mean over seeds, on questions that the base model answers "
        "correctly (known) and on the others (unknown)."
    )


def analysis_rows(outcome: PlanOutcome) -> list[dict[str, Any]]:
    """Flat rows for the CSV."""
    rows = []
    for place in outcome.plan.shown():
        for method, seeds in read_analysis(outcome, place).items():
            where = {"model": place.model, "trained_on": place.trained_on, "method": method}
            for number, content in enumerate(seeds):
                for row in content if isinstance(content, list) else [content]:
                    flat = {k: v for k, v in row.items() if not isinstance(v, Mapping)}
                    flat |= {
                        f"auroc.{name}": each["auroc"]
                        for name, each in row.get("auroc", {}).items()
                    }
                    rows.append(where | {"number": number} | flat)
    return rows


@styled
def draw_dynamics(found: Found) -> Figure:
    """Accuracy (solid) and confidence (dashed) over the steps, by split and group."""
    figure = new_figure(9.0, 5.6)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes_of_split, split in zip(panels, ("train", "calibration"), strict=True):
        for axes, group in zip(axes_of_split, GROUPS, strict=True):
            for marker, (method, seeds) in zip(cycle("osD^v"), found.items()):
                _curves(axes, method, seeds, (split, group), marker)
            axes.set_title(f"{split}, {group} to the base model")
    figure.supxlabel("optimiser step", fontsize="medium")
    figure.supylabel("accuracy (solid), confidence (dashed), %", fontsize="medium")
    panels[0][0].legend()
    return figure


def _curves(
    axes: Axes, method: str, seeds: Sequence[Any], where: tuple[str, str], marker: str
) -> None:
    """Variants wear the same colour: markers tell them apart."""
    steps = sorted({r["step"] for r in seeds[0] if (r["split"], r["group"]) == where})
    for metric, style in (("accuracy", "-"), ("confidence", "--")):
        values = [100 * _at(seeds, *where, step, metric) for step in steps]
        name = label(method) if metric == "accuracy" else None
        axes.plot(steps, values, style, color=colour(method), label=name, marker=marker, ms=3)


@styled
def draw_detector(found: Found) -> Figure:
    """AUROC of each detector, a dot per method."""
    figure = new_figure(7.0, 1.0 + 0.3 * len(found))
    axes = figure.subplots()
    names = list(next(iter(found.values()))[0]["auroc"])
    for place, seeds in enumerate(found.values()):
        for number, name in enumerate(names):
            value = 100 * fmean(row["auroc"][name]["auroc"] for row in seeds)
            once = name if place == 0 else None
            # What is the table's subject, the first, lies on top of the others.
            order = 3 + len(names) - number
            axes.plot(
                value, place, "os^D"[number % 4], color=f"C{number}", label=once, zorder=order
            )
    axes.set_yticks(range(len(found)), [label(method) for method in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("AUROC on the test split (%)")
    axes.legend()
    return figure


def _at(seeds: Sequence[Any], split: str, group: str, step: int, metric: str) -> float:
    values = [
        row[metric]
        for rows in seeds
        for row in rows
        if (row["split"], row["group"], row["step"]) == (split, group, step)
    ]
    return fmean(values)


def _spread(values: Sequence[float], scale: int, digits: int) -> str:
    text = f"{scale * fmean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {scale * stdev(values):.{digits}f}"


def draw(outcome: PlanOutcome, place: Place, path: Path) -> bool:
    """Draw what was found at a place; False if there is nothing."""
    found = read_analysis(outcome, place)
    if not found:
        return False
    figure = (draw_dynamics if outcome.plan.table.renderer == "dynamics" else draw_detector)(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return True

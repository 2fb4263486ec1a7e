"""Tables that look into models instead of comparing methods: their figures and their pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cogcalib.artifacts import read_json
from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.markdown import line
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.reproduce.table_rows import seeds_note
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import InputError

Analysis = Sequence[Mapping[str, Any]]
"""What `analyse` gives."""
WAYPOINTS = 4
"""Looks shown in a table of dynamics besides the first; record and figure hold all."""


def analyse(outcome: PlanOutcome) -> list[dict[str, Any]]:
    """What the cells of a table found, over the seeds that are finished.

    Returns:
        Rows with ``model``, ``trained_on`` and ``method``. Of a detector: ``mean`` and, from two
        seeds on, ``deviation`` of its figures, those of `detection`, each detector's as
        ``auroc.NAME``. Of dynamics: ``split``, ``group``, ``step`` (all that were looked at), and
        the mean ``accuracy`` and ``confidence`` at each. Where some seeds are not finished,
        ``seeds``: how many are, and of how many. Other tables have none.
    """
    kind = outcome.plan.table.renderer
    if kind not in ("detector", "dynamics"):
        return []
    rows = []
    for place in outcome.plan.shown():
        for method, seeds in _found(outcome, place).items():
            where: dict[str, Any] = {
                "model": place.model,
                "trained_on": place.trained_on,
                "method": method,
            }
            if len(seeds) < len(outcome.plan.seeds):
                where["seeds"] = (len(seeds), len(outcome.plan.seeds))
            found = _detector(seeds) if kind == "detector" else _dynamics(seeds)
            rows += [where | row for row in found]
    return rows


def _found(outcome: PlanOutcome, place: Place) -> dict[str, list[Any]]:
    """Method -> what its cells found, by seed."""
    kind = outcome.plan.table.renderer
    found: dict[str, list[Any]] = {}
    for method in outcome.resolved.get(place.path, {}).values():
        for seed in outcome.plan.seeds:
            path = RunFolder(place.path).analysis(kind, method, seed)
            if path.exists():
                content = _read(path, kind)
                found.setdefault(method, []).append(content)
    return found


def _read(path: Path, kind: str) -> Any:
    """What one cell found.

    Raises:
        InputError: Naming the file, if it is damaged.
    """
    remedy = "remove it, and the same command makes it again"
    content: Any = read_json(path, list if kind == "dynamics" else dict, remedy)
    try:
        # Summed up alone, as it will be with others.
        list(_detector([content]) if kind == "detector" else _dynamics([content]))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: does not hold what {kind} finds; {remedy}") from error
    return content


def _detector(seeds: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    flat = [
        {name: value for name, value in each.items() if name != "auroc"}
        | {f"auroc.{name}": found["auroc"] for name, found in each["auroc"].items()}
        for each in seeds
    ]
    values = {name: [each[name] for each in flat] for name in flat[0]}
    row: dict[str, Any] = {"mean": {name: fmean(each) for name, each in values.items()}}
    if len(seeds) > 1:
        row["deviation"] = {name: stdev(each) for name, each in values.items()}
    yield row


def _dynamics(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    rows = [row for each in seeds for row in each]
    for split, group in sorted({(row["split"], row["group"]) for row in rows}, reverse=True):
        here = [row for row in rows if (row["split"], row["group"]) == (split, group)]
        steps = sorted({row["step"] for row in here})
        looks = [[row for row in here if row["step"] == step] for step in steps]
        yield {
            "split": split,
            "group": group,
            "step": steps,
            "accuracy": [fmean(row["accuracy"] for row in look) for look in looks],
            "confidence": [fmean(row["confidence"] for row in look) for look in looks],
        }


def by_place(analysis: Analysis) -> Iterator[tuple[tuple[str, str], list[Mapping[str, Any]]]]:
    """(model, task trained on) -> its rows."""
    for place, rows in groupby(analysis, lambda row: (row["model"], row["trained_on"])):
        yield place, list(rows)


def detector_page(analysis: Analysis) -> Iterator[str]:
    """Lines: a table per place."""
    for (model, task), rows in by_place(analysis):
        detectors = [name for name in rows[0]["mean"] if name.startswith("auroc.")]
        yield f"## {model}: {task}"
        yield ""
        heads = [f"AUROC {name.partition('.')[2]} %" for name in detectors]
        fixed = ["threshold (nats)", "separation %", "correct %", "known %"]
        yield line(["model", *fixed, *heads])
        yield line([":---", *["---:"] * (len(fixed) + len(heads))])
        for row in rows:
            cells = [_spread(row, "threshold", 1, 3)]
            for name in ("separation", "accuracy", "share_known", *detectors):
                cells.append(_spread(row, name, 100, 1))
            yield line([_label(row), *cells])
        yield ""
    yield (
        "Mean ± standard deviation over seeds. Known: what the model answers correctly by itself. "
        "The threshold on the NLL and its separation (TPR + TNR - 1) come from the calibration "
        "split. Correct: how often the threshold tells known from unknown on the test split; "
        "known: share of the test questions. AUROC of each detector on the test split."
    )


def dynamics_page(analysis: Analysis) -> Iterator[str]:
    """Lines: a table per place, with the steps as columns."""
    for (model, task), rows in by_place(analysis):
        last = len(rows[0]["step"]) - 1
        shown = list(dict.fromkeys(round(i * last / WAYPOINTS) for i in range(WAYPOINTS + 1)))
        yield f"## {model}: {task}"
        yield ""
        yield line(["", *(f"step {rows[0]['step'][at]}" for at in shown)])
        yield line([":---", *["---:"] * len(shown)])
        for row in rows:
            cells = [
                f"{100 * row['accuracy'][at]:.1f} / {100 * row['confidence'][at]:.1f}"
                for at in shown
            ]
            yield line([f"{_label(row)}, {row['split']}, {row['group']}", *cells])
        yield ""
    yield (
        "Accuracy % / mean confidence %, mean over seeds, on questions that the base model answers "
        "correctly (known) and on the others (unknown)."
    )


def _label(row: Mapping[str, Any]) -> str:
    return f"{label(row['method'])}{seeds_note(*row['seeds']) if 'seeds' in row else ''}"


def _spread(row: Mapping[str, Any], name: str, scale: int, digits: int) -> str:
    text = f"{scale * row['mean'][name]:.{digits}f}"
    if "deviation" not in row:
        return text
    return f"{text} ± {scale * row['deviation'][name]:.{digits}f}"

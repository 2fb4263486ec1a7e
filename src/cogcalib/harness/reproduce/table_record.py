"""The record of a table: compact JSON of its means and of the differences that pages cite.

Fractions and nats, rounded to `DIGITS` decimals. Its keys: docs/reproduce.md. The page beside it
has all the rest: other tasks of variants, deviations out of domain, every tested difference.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cogcalib.harness.config import Rule
from cogcalib.harness.report.resampled import difference
from cogcalib.harness.reproduce.analyses import analyse
from cogcalib.harness.reproduce.cell import device
from cogcalib.harness.reproduce.cell_record import code_of_cells
from cogcalib.harness.reproduce.claims import claims
from cogcalib.harness.reproduce.definitions import Table
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.markdown import best_rows, metrics_shown
from cogcalib.harness.reproduce.measured_rates import measured_rates
from cogcalib.harness.reproduce.plan import Plan, folder_name
from cogcalib.harness.reproduce.table_rows import RowGroup, TableRow, across_variants
from cogcalib.harness.reproduce.task_means import task_means
from cogcalib.harness.reproduce.transfer import transfers
from cogcalib.harness.reproduce.verdicts import verdict_of
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.selection import ACCURACY_FLOOR
from cogcalib.harness.tuning import GRID
from cogcalib.modeling import fingerprint
from cogcalib.provenance import code_state, hardware, versions
from cogcalib.scoring.metrics_row import WANTED

DIGITS = 5
"""Decimals kept: a hundredth of the last digit that a page prints in percent."""
DEFINITION = {
    "name",
    "title",
    "question",
    "renderer",
    "variants",
    "drawn_against",
    "endpoint",
    "cited",
}
"""What is kept of a table's definition; the rest follows from its name and the commit."""


def table_record(
    outcome: PlanOutcome, groups: Sequence[RowGroup], command: str, rule: Rule
) -> dict[str, Any]:
    """All that is kept of a table as data.

    Args:
        outcome: What was run.
        groups: Its rows.
        command: The command line that says so.
        rule: By which alphas were chosen.
    """
    plan = outcome.plan
    record = {
        "table": plan.table.model_dump(mode="json", include=DEFINITION),
        "preset": plan.preset.model_dump(mode="json"),
        "command": command,
        "seeds": list(plan.seeds),
        "tuning": {
            "rule": rule,
            "grid": GRID,
            "accuracy_floor": ACCURACY_FLOOR,
            "seeds": plan.tune_seeds,
            "choices": {
                folder_name(path): {each.method: each.chosen for each in choices}
                for path, choices in outcome.choices.items()
            },
        },
        "models": {
            path if revision is None else f"{path}@{revision}": fingerprint(path, revision)
            for path, revision in dict.fromkeys(
                (place.config.model.path, place.config.model.revision) for place in plan.places
            )
        },
        "data": _data_hashes(outcome),
        "code": code_state(),
        "code_of_cells": cells_by_commit(outcome),
        "versions": versions(),
        "hardware": hardware(device()),
        "measured": _measured(outcome.plan),
        "results": list(_results(groups, plan.table, plan.seeds)),
        "means": [
            each.to_json() for rows in task_means(groups) * plan.table.means for each in rows
        ],
        "transfer": [each.to_json() for each in transfers(plan.table, groups)],
        "claims": [each.to_json() for each in claims(plan.table, groups)],
        "across": [
            {
                "model": first.place.model,
                "trained_on": first.place.trained_on,
                "task": first.task,
                "pairs": [_pair(first, names, rows) for names, rows in pairs],
            }
            for first, pairs in across_variants(plan.table, groups)
            if first.in_domain
        ],
        "analysis": analyse(outcome),
        "failures": [failure.cell.label for failure in outcome.failures],
        "left_out": [*outcome.left_out, *outcome.refused],
    }
    rounded: dict[str, Any] = round_figures(record)
    return rounded


def _measured(plan: Plan) -> dict[str, Any]:
    """Preset -> what `--check` measured of it, of those that it was run on."""
    folders = {place.model: place.path.parent for place in plan.places}
    found = {model: measured_rates(folder) for model, folder in folders.items()}
    return {model: asdict(rates) for model, rates in found.items() if rates}


def cells_by_commit(outcome: PlanOutcome) -> dict[str, int]:
    """Commit -> cells that it computed, of every run folder the table rests on."""
    counts = [code_of_cells(place.path) for place in outcome.plan.places]
    return dict(sum(counts, Counter[str]()).most_common())


def to_text(record: Mapping[str, Any]) -> str:
    """The record as JSON without spaces, a line for each row and each pair of rows."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    # Inside a string quotation marks are escaped, so that this stands at the start of a row alone.
    return text.replace('{"row', '\n{"row') + "\n"


def round_figures(content: Any) -> Any:
    """Every number of `content` to `DIGITS` decimals, but none but zero to zero."""
    if isinstance(content, float) and math.isfinite(content):
        short = round(content, DIGITS) or float(f"{content:.1g}")
        # Rounded again to what pages print, a half would come out as another figure.
        return short if f"{short:.3f}" == f"{content:.3f}" else round(content, DIGITS + 3)
    if isinstance(content, Mapping):
        return {key: round_figures(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [round_figures(value) for value in content]
    return content


def _data_hashes(outcome: PlanOutcome) -> dict[str, str]:
    """Run folder -> hash of the manifest of its splits, which holds a hash of each."""
    found = {}
    for place in outcome.plan.places:
        manifest = RunFolder(place.path).manifest
        if manifest.exists():
            found[folder_name(place.path)] = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return found


def _results(groups: Sequence[RowGroup], table: Table, seeds: Sequence[int]) -> Iterator[Any]:
    """Every group of a table of methods, of the others those in domain."""
    for group in groups:
        if group.in_domain or table.renderer == "methods":
            yield {
                "model": group.place.model,
                "trained_on": group.place.trained_on,
                "variant": group.place.variant,
                "task": group.task,
                "in_domain": group.in_domain,
                "n": group.n,
                "rows": [_row(group, row, table, seeds) for row in group.rows],
                "best": best_rows(group),
                "pairs": [
                    _pair(group, (one.name, other.name), (one, other))
                    for one, other in group.pairs(table.pairs)
                ],
            }


def _row(group: RowGroup, row: TableRow, table: Table, seeds: Sequence[int]) -> dict[str, Any]:
    metrics = [name for name in metrics_shown(group) if name in row.values]
    # A page shows two definitions of confidence; a verdict rests on all of them.
    unshown = [name for name in row.values if name.startswith("ece.") and name not in metrics]
    means = [*metrics, *unshown, *["confidence"] * (table.renderer != "methods")]
    found: dict[str, Any] = {"row": row.name, "method": row.method}
    if list(row.seeds) != list(seeds):
        found["seeds"] = row.seeds
    found["mean"] = {name: row.mean(name) for name in means}
    if group.in_domain:
        if len(row.seeds) > 1:
            found["deviation"] = {name: row.deviation(name) for name in metrics}
        found["cost"] = asdict(row.cost)
        errors = [name.removeprefix("ece.") for name in metrics if name.startswith("ece.")]
        found["floor"] = {name: row.floor(name) for name in errors}
        found["answered"] = {
            name: [row.mean(name), row.mean(f"{name}.threshold")] for name in WANTED
        }
        found["risk"] = row.risks()
        found["known"] = [row.mean("known_first_epoch"), row.mean("known_last_epoch")]
        verdict = verdict_of(group, row, "sft")
        if verdict is not None:
            found["failing"] = verdict.failing
    against = {
        other.name: _difference(group, row, other)
        for number, name in enumerate(table.against)
        if (other := group.find(name))
        and other is not row
        # What was chosen against all, in domain everything against the first.
        and (row.chosen or (group.in_domain and number == 0))
    }
    return found | ({"against": against} if against and table.renderer == "methods" else {})


def _pair(group: RowGroup, names: Sequence[str], rows: tuple[TableRow, TableRow]) -> dict[str, Any]:
    return {"rows": list(names), "difference": _difference(group, *rows)}


def _difference(group: RowGroup, one: TableRow, other: TableRow) -> dict[str, list[float]]:
    """Metric -> difference of two rows and the ends of its interval, where both have it."""
    found = {}
    errors = [name for name in metrics_shown(group) if name.startswith("ece.")]
    for metric in ("accuracy", *errors, "nll"):
        if metric in one.resampled.draws and metric in other.resampled.draws:
            each = difference(one.resampled, other.resampled, metric)
            found[metric] = [each.difference, each.low, each.high]
    return found

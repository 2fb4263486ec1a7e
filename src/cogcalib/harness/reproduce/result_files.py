"""The files of a table: Markdown, CSV, record, figures."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogcalib.harness.config import Rule
from cogcalib.harness.config.methods import label, split_posthoc
from cogcalib.harness.reproduce.analyses import analysis_rows, detector_page, dynamics_page
from cogcalib.harness.reproduce.cell import code_of_cells, device
from cogcalib.harness.reproduce.compare import difference
from cogcalib.harness.reproduce.definitions import Table
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.figures import draw_analyses, draw_tables
from cogcalib.harness.reproduce.markdown import methods_page, variants_page
from cogcalib.harness.reproduce.plan import Plan, folder_name
from cogcalib.harness.reproduce.table_rows import RowGroup, TableRow, across_variants, collect
from cogcalib.harness.selection import ACCURACY_FLOOR, RULES
from cogcalib.harness.tuning import GRID
from cogcalib.metrics import PairedDifference
from cogcalib.modeling import fingerprint
from cogcalib.provenance import code_state, hardware, versions
from cogcalib.records import InputError, write_json, write_text


def write_results(outcome: PlanOutcome, output: Path, command: str, rule: Rule) -> list[Path]:
    """Write all that came of a table.

    Args:
        outcome: What was run.
        output: Folder; files are named ``<table>-<model>``.
        command: The command line that says so.
        rule: By which alphas were chosen.

    Returns:
        The files.
    """
    plan = outcome.plan
    stem = _stem(plan, output)
    groups = collect(outcome)
    # First of all: what is written next changes the checkout that it names.
    record = _record(outcome, groups, command, rule)
    analysed = plan.table.renderer in ("detector", "dynamics")
    figures = draw_analyses(outcome, stem) if analysed else draw_tables(outcome, groups, stem)
    table = _flat_csv(analysis_rows(outcome)) if analysed else _csv(groups)
    return [
        write_text(_named(stem, "md"), _markdown(outcome, groups, figures, command, rule)),
        write_text(_named(stem, "csv"), table),
        write_json(_named(stem, "json"), record),
        *figures,
    ]


def check_output(plan: Plan, output: Path, rule: Rule) -> None:
    """Refuse to put a table in the place of one that holds more, or something else.

    Raises:
        InputError: If the record there has rows or seeds that the plan does not, or another rule.
    """
    path = _named(_stem(plan, output), "json")
    if not path.exists():
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    planned = {name for place in plan.shown() for name in (*place.methods, *place.best)}
    rows = {row["row"] for group in held.get("results", ()) for row in group["rows"]}
    # Post-hoc rows of what was chosen are not listed by themselves.
    lost = sorted(row for row in rows if not {row, split_posthoc(row)[0]} & planned)
    lost += [f"seed {seed}" for seed in held.get("seeds", ()) if seed not in plan.seeds]
    other = held.get("tuning", {}).get("rule", rule)
    if other != rule:
        raise InputError(
            f"{path} holds a table chosen by the rule {other}, not {rule}: name another "
            "--output, or remove it"
        )
    if lost:
        raise InputError(
            f"{path} holds {', '.join(lost)}, which this would drop: name another --output, or "
            "remove it"
        )


def _stem(plan: Plan, output: Path) -> Path:
    return output / f"{plan.table.name}-{plan.preset.name.rpartition('/')[2]}"


def _named(stem: Path, kind: str) -> Path:
    # Not with_suffix: Qwen2.5-7B has a dot of its own.
    return stem.with_name(f"{stem.name}.{kind}")


def _markdown(
    outcome: PlanOutcome,
    groups: Sequence[RowGroup],
    figures: Sequence[Path],
    command: str,
    rule: Rule,
) -> str:
    table = outcome.plan.table
    lines = [f"# {table.title}: {outcome.plan.preset.name}", "", table.question, ""]
    states = [f"{code[:7]} ({cells:,})" for code, cells in _code_of_cells(outcome).items()]
    lines += [f"`{command}`; cells by commit: {', '.join(states) or 'none'}", ""]
    lines += {
        "methods": lambda: methods_page(table, groups),
        "variants": lambda: variants_page(table, groups),
        "detector": lambda: detector_page(outcome),
        "dynamics": lambda: dynamics_page(outcome),
    }[table.renderer]()
    lines += [*(["", table.note] if table.note else []), ""]
    ends = [
        f"{folder_name(path)}: {', '.join(label(each.chosen) for each in choices if each.at_end)}"
        for path, choices in outcome.choices.items()
        if any(each.at_end for each in choices)
    ]
    if outcome.choices:
        lines += [f"Strengths were chosen by {RULES[rule]}.", ""]
    if ends:
        lines += [
            f"Chosen at an end of the grid, so that a strength beyond it might be better: "
            f"{'; '.join(ends)}.",
            "",
        ]
    lines += [f"![{figure.stem}]({figure.name})" for figure in figures]
    absent = [
        f"{folder_name(place.path)}: {', '.join(place.inapplicable)}, for multiple choice only"
        for place in outcome.plan.shown()
        if place.inapplicable
    ]
    absent += [*outcome.left_out, *(f"{each.cell.label} failed" for each in outcome.failures)]
    if absent:
        lines += ["", "Not there:", "", *(f"- {reason}" for reason in absent)]
    return "\n".join(lines).rstrip() + "\n"


def _csv(groups: Sequence[RowGroup]) -> str:
    """One line per row, test and seed."""
    metrics = dict.fromkeys(m for group in groups for row in group.rows for m in row.values)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["model", "trained_on", "variant", "row", "method", "task", "n", "seed"]
    writer.writerow([*heads, *metrics])
    for group in groups:
        place = group.place
        for row in group.rows:
            for index, seed in enumerate(row.seeds):
                found = [row.values[m][index] if m in row.values else "" for m in metrics]
                where = [place.model, place.trained_on, place.variant]
                writer.writerow([*where, row.name, row.method, group.task, group.n, seed, *found])
    return text.getvalue()


def _flat_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(heads), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _record(
    outcome: PlanOutcome, groups: Sequence[RowGroup], command: str, rule: Rule
) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "table": plan.table.model_dump(mode="json"),
        "preset": plan.preset.model_dump(mode="json"),
        "command": command,
        "seeds": plan.seeds,
        "tuning": {
            "rule": rule,
            "grid": GRID,
            "accuracy_floor": ACCURACY_FLOOR,
            "seeds": plan.tune_seeds,
            "choices": {folder_name(p): [asdict(c) for c in v] for p, v in outcome.choices.items()},
            "trials": {folder_name(p): [asdict(t) for t in v] for p, v in outcome.trials.items()},
        },
        "configurations": {
            folder_name(place.path): place.config.model_dump(mode="json") for place in plan.places
        },
        "models": {
            path: fingerprint(path)
            for path in dict.fromkeys(place.config.model.path for place in plan.places)
        },
        "code": code_state(),
        "code_of_cells": _code_of_cells(outcome),
        "versions": versions(),
        "hardware": hardware(device()),
        "results": [_group(group, plan.table) for group in groups],
        "across": [
            {
                "model": first.place.model,
                "trained_on": first.place.trained_on,
                "task": first.task,
                "pairs": [_pair(names, rows) for names, rows in pairs],
            }
            for first, pairs in across_variants(plan.table, groups)
        ],
        "failures": [failure.cell.label for failure in outcome.failures],
        "left_out": outcome.left_out,
    }


def _code_of_cells(outcome: PlanOutcome) -> dict[str, int]:
    """Commit -> cells that it computed, of every run folder the table rests on."""
    counts = [code_of_cells(place.path) for place in outcome.plan.places]
    return dict(sum(counts, Counter[str]()).most_common())


def _group(group: RowGroup, table: Table) -> dict[str, Any]:
    return {
        "model": group.place.model,
        "trained_on": group.place.trained_on,
        "variant": group.place.variant,
        "task": group.task,
        "in_domain": group.in_domain,
        "n": group.n,
        "rows": [_row(group, row, table.against) for row in group.rows],
        "pairs": [
            _pair((one.name, other.name), (one, other)) for one, other in group.pairs(table.pairs)
        ],
    }


def _pair(names: tuple[str, str], rows: tuple[TableRow, TableRow]) -> dict[str, Any]:
    return {"rows": list(names), "difference": _difference(*rows)}


def _row(group: RowGroup, row: TableRow, against: Sequence[str]) -> dict[str, Any]:
    others = [other for name in against if (other := group.find(name)) and other is not row]
    return {
        "row": row.name,
        "method": row.method,
        "seeds": row.seeds,
        "mean": {metric: row.mean(metric) for metric in row.values},
        "deviation": {metric: row.deviation(metric) for metric in row.values},
        "cost": asdict(row.cost),
        "against": {other.name: _difference(row, other) for other in others},
    }


def _difference(one: TableRow, other: TableRow) -> dict[str, Any]:
    """Metric -> the difference of two rows, where both have it."""
    return {
        metric: _as_json(difference(one.resampled, other.resampled, metric))
        for metric in one.resampled.draws
        if metric in other.resampled.draws
    }


def _as_json(found: PairedDifference) -> dict[str, Any]:
    return {
        "value": found.difference,
        "low": found.low,
        "high": found.high,
        "significant": found.significant,
    }

"""The content of the report page, section by section; the template lays it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from cogcalib.harness.config.methods import Method, canonical_order, label
from cogcalib.harness.report.charts import (
    CATEGORIES,
    probe_panels,
    threshold_panels,
    training_panels,
)
from cogcalib.harness.report.columns import CONFIDENCE, percent, title
from cogcalib.harness.report.headline import headline
from cogcalib.harness.report.mistakes import confident_mistakes
from cogcalib.harness.report.page_data import page_data, risk_curves
from cogcalib.harness.report.page_parts import (
    Grid,
    Page,
    bin_readings,
    legend,
    page_definitions,
    task_part,
)
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.style import looks
from cogcalib.harness.report.summary import TaskSummary, group_rows
from cogcalib.records import Prediction


def page_content(run: Run) -> Page:
    """Compute the whole page of a run.

    Raises:
        ValueError: If nothing was scored on a test split, or a predictions file is malformed.
    """
    tasks = group_rows(run.rows, in_domain=run.trained_on)
    main = tasks[0]
    names = sorted({row.method for task in tasks for row in task.methods}, key=canonical_order)
    look = looks([*names, *(name for name, _ in run.logs)])
    definitions = page_definitions(tasks)
    answers, note = _answers(run, main)
    curves = risk_curves(answers, main) if len(answers) == len(main.methods) else None
    compared, mistakes = confident_mistakes(run, main)
    histories, logs = _by_method(run.thresholds), _by_method(run.logs)
    return Page(
        name=run.name,
        findings=headline(run, main),
        facts=_facts(run, main),
        definitions=[(name, CONFIDENCE.get(name, name)) for name in definitions],
        tasks=[
            task_part(task, definitions, look, curves if task is main else None) for task in tasks
        ],
        legend=legend(names, look),
        figure_note=note,
        bins=main.bins,
        methods=[(label(each), Method.read(each).description) for each in names],
        bin_panels=bin_readings(answers, main, definitions, look),
        data=page_data(answers, run.examples if answers else {}, main),
        mistakes=mistakes,
        mistake_methods=compared,
        thresholds=threshold_panels(histories, look),
        training=training_panels(logs, look) if logs else [],
        training_legend=legend({*histories, *logs}, look),
        probe=probe_panels(run.probe) if run.probe else [],
        probe_table=_probe_table(run),
        probed_before=run.config.get("probe") is not None,
        data_table=_data(run),
        asked=_tasks(run),
        config=run.config_text,
        record=_record(run),
    )


def _facts(run: Run, main: TaskSummary) -> list[tuple[str, str]]:
    seeds = sorted({row["seed"] for row in run.rows if row["seed"] is not None})
    told = f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else "none"
    facts = [
        ("trained on", main.task),
        ("test questions", f"{main.n:,}"),
        ("seeds", told),
        ("confidence", f"{main.primary}: {CONFIDENCE.get(main.primary, main.primary)}"),
    ]
    commit = (run.record.get("code") or {}).get("commit")
    if commit:
        dirty = ", with local changes" if run.record["code"].get("dirty") else ""
        facts.append(("commit", f"{str(commit)[:10]}{dirty}"))
    return facts


def _answers(run: Run, task: TaskSummary) -> tuple[dict[str, list[Prediction]], str]:
    """Method -> predictions of its first seed, where the run kept them; and what they are."""
    kept = {
        row.method: row.seeds[0]
        for row in task.methods
        if row.seeds[0] is not None
        and run.predictions_path(row.method, row.seeds[0], task.task).is_file()
    }
    answers = {name: run.predictions(name, seed, task.task) for name, seed in kept.items()}
    shown = ", ".join(str(seed) for seed in sorted(set(kept.values())))
    note = f"{title(task)}, seed {shown}"
    if task.several_seeds:
        note += " (the tables average over the seeds)"
    return answers, note


def _by_method(series: Mapping[tuple[str, int], tuple[Any, ...]]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for (method, _), rows in series.items():
        grouped.setdefault(method, []).append(rows)
    return grouped


def _probe_table(run: Run) -> Grid | None:
    if not run.probe:
        return None
    rows = []
    for category in CATEGORIES:
        records = [record for record in run.probe if record.category == category]
        if records:
            cells = [
                category,
                f"{len(records):,}",
                percent(len(records) / len(run.probe)),
                percent(fmean(record.share_right for record in records)),
                percent(fmean(record.p_gold for record in records)),
                f"{fmean(record.nll for record in records):.2f}",
            ]
            rows.append([(cell, False) for cell in cells])
    headers = ["Category", "Examples", "Share %", "Correct renderings %", "P(gold) %", "NLL (nats)"]
    return Grid(headers, rows)


def _data(run: Run) -> Grid | None:
    """Splits with their size and hash, from the record; more columns from the manifest."""
    entries = {
        name: {**_mapping(run.manifest.get(name)), **_mapping(entry)}
        for name, entry in _mapping(run.record.get("data")).items()
    }
    if not entries:
        return None
    scalars = (str, int, float, bool)
    extra = {k for e in entries.values() for k, v in e.items() if isinstance(v, scalars)}
    keys = sorted(extra - {"n", "sha256"})
    rows = [
        [
            (text, False)
            for text in (
                name,
                str(entry.get("sha256", "")),
                *(str(entry.get(key, "")) for key in keys),
                f"{entry['n']:,}" if isinstance(entry.get("n"), int) else "",
            )
        ]
        for name, entry in entries.items()
    ]
    return Grid(["Split", "SHA-256", *keys, "Examples"], rows, text_columns=2 + len(keys))


def _tasks(run: Run) -> Grid | None:
    """What was done to each task before anything was asked, from the record."""
    rows = []
    for name, task in _mapping(run.record.get("tasks")).items():
        entry = _mapping(task)
        dropped = ", ".join(
            f"{each['split']} {each['rows']} (in {each['found_in']})"
            for each in entry.get("dropped", ())
        )
        cells = [
            name,
            str(entry.get("version", "")),
            str(entry.get("prompt", "")),
            dropped or "none",
            _by_split(entry.get("equal_options")),
            _by_split(entry.get("shortened")),
            _labels(entry.get("labels")),
        ]
        rows.append([(cell, False) for cell in cells])
    headers = ["Task", "Version", "Prompt", "Repeats dropped", "Equal options"]
    headers += ["Passages shortened", "Option labels"]
    return Grid(headers, rows, text_columns=len(headers)) if rows else None


def _by_split(counts: Any) -> str:
    shown = [f"{split} {number:,}" for split, number in _mapping(counts).items() if number]
    return ", ".join(shown) or "none"


def _labels(audit: Any) -> str:
    """The audit of the option labels in a few words."""
    found = _mapping(audit)
    if not found:
        return "no options"
    tokens = " ".join("".join(each["tokens"]) for each in found["labels"])
    parts = [
        tokens,
        "single tokens" if found["single"] else "several tokens",
        "distinct" if found["distinct"] else "not distinct",
    ]
    if not found["steady"]:
        parts.append("other tokens behind other prompts")
    return ", ".join(parts)


def _record(run: Run) -> list[tuple[str, Grid]]:
    """The parts of the record that are not shown elsewhere, as two-column tables."""
    parts = []
    for key in ("code", "versions", "hardware", "timings"):
        entries = _mapping(run.record.get(key))
        if entries:
            unit = " (seconds)" if key == "timings" else ""
            rows = [[(str(k), False), (_plain(v), False)] for k, v in entries.items()]
            parts.append((f"{key.capitalize()}{unit}", Grid(["", ""], rows, text_columns=2)))
    return parts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""The page of a comparison: the report's, with the paired differences on it."""

from __future__ import annotations

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.columns import CONFIDENCE, as_percent, title
from cogcalib.harness.report.comparison import Comparison
from cogcalib.harness.report.differences import Pair, difference_rows
from cogcalib.harness.report.page_data import page_data, risk_curves
from cogcalib.harness.report.page_parts import (
    Grid,
    Page,
    bin_readings,
    legend,
    page_definitions,
    task_part,
)
from cogcalib.harness.report.style import looks
from cogcalib.harness.report.summary import TaskSummary, group_rows
from cogcalib.harness.report.verdict_words import PAIRED, judged
from cogcalib.metrics import ece_label
from cogcalib.scoring.metrics_row import BINS


def comparison_page(comparison: Comparison) -> Page:
    """The content of the page."""
    rows = comparison.rows
    splits = dict.fromkeys(str(row["split"]) for row in rows)
    home = comparison.trained_on
    tasks = [task for split in splits for task in group_rows(rows, split=split, in_domain=home)]
    compared = {(pair.task, pair.split) for pair in comparison.pairs}
    main = next(
        (task for task in tasks if (task.task, task.split) in compared or not compared), tasks[0]
    )
    answers = {
        entry.title: list(next(iter(entry.answers.values())))
        for entry in comparison.entries
        if (entry.task, entry.split) == (main.task, main.split)
    }
    names = list(dict.fromkeys(row.method for task in tasks for row in task.methods))
    look, definitions = looks(names), page_definitions(tasks)
    curves = risk_curves(answers, main)
    several = ", first seed (the tables average over the seeds)" if main.several_seeds else ""
    compared_with = ("compared with", comparison.sources[0])
    return Page(
        name=" and ".join(comparison.sources),
        findings=[*_findings(comparison, main), *(f"{note}." for note in comparison.notes)],
        facts=[
            *([compared_with] if comparison.pairs else []),
            ("questions", f"{main.n:,}"),
        ],
        definitions=[(name, CONFIDENCE.get(name, name)) for name in definitions],
        tasks=[
            task_part(task, definitions, look, curves if task is main else None) for task in tasks
        ],
        legend=legend(names, look),
        figure_note=f"{title(main)}{several}",
        bins=main.bins,
        methods=[],
        bin_panels=bin_readings(answers, main, definitions, look),
        data=page_data(answers, comparison.examples, main),
        differences=[_differences(task, comparison.pairs) for task in tasks]
        if comparison.pairs
        else [],
    )


def _findings(comparison: Comparison, main: TaskSummary) -> list[str]:
    """A verdict a pair on the main task, and what it rests on."""
    if not comparison.pairs:
        return [
            f"{label(row.method)}: ECE {as_percent(main.ece(row.method))} % at accuracy "
            f"{as_percent(row.accuracy)} %, {main.ece_label}."
            for row in main.methods
        ]
    shown = [
        pair for pair in comparison.pairs if (pair.task, pair.split) == (main.task, main.split)
    ]
    sentences = [pair.sentence for pair in shown]
    return [*sentences, judged(shown[0].verdict) if len(shown) == 1 else PAIRED]


def _differences(task: TaskSummary, pairs: tuple[Pair, ...]) -> Grid:
    shown = [pair for pair in pairs if (pair.task, pair.split) == (task.task, task.split)]
    # The models in every row: sorted, a row stands alone.
    rows = [
        [(f"{label(pair.one)} - {label(pair.other)}", False), *((text, False) for text in row)]
        for pair in shown
        for row in difference_rows(pair)
    ]
    labels = dict.fromkeys(ece_label(pair.definition, pair.n, bins=BINS) for pair in shown)
    return Grid(
        ["Models", "Metric", "Difference", "Interval", "p"],
        rows,
        title=title(task),
        note=f"ECE: {'; '.join(labels)}. Paired bootstrap over the same questions, and over the "
        "seeds where there are several, 95 %; exploratory: of the many p some are small by chance.",
        text_columns=2,
    )

"""Every metric of each model with its interval, a line a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.columns import (
    CONFIDENCE,
    MISSING,
    as_number,
    as_percent,
    floor_text,
    percent,
)
from cogcalib.harness.report.summary import Statistic
from cogcalib.metrics import SMALL_N, ece_label
from cogcalib.scoring.metrics_row import WANTED

ABREAST = 4
"""Models beside each other in one table, so that it fits a terminal."""

Row = Mapping[str, Any]


def detail_tables(rows: Sequence[Row], *, split: str) -> list[Table]:
    """All metrics of freshly summed-up predictions; per task, and for every `ABREAST` models, one.

    Every figure but the NLL is of the model's own primary confidence definition, which is named.

    Args:
        rows: What `cogcalib.scoring.summarize` returned (fractions; shown in percent).
        split: The split to show.
    """
    shown = [row for row in rows if row["split"] == split]
    tables = []
    for task in dict.fromkeys(row["task"] for row in shown):
        of_task = [row for row in shown if row["task"] == task]
        tables += [
            _table(task, split, of_task[start : start + ABREAST])
            for start in range(0, len(of_task), ABREAST)
        ]
    return tables


def _table(task: str, split: str, rows: Sequence[Row]) -> Table:
    table = plain_table(f"{task} · {split} · all metrics", _caption(rows))
    table.add_column("Metric")
    columns = [[label(str(row["method"])), *_cells(row)] for row in rows]
    for header, *_ in columns:
        table.add_column(Text(header), justify="right")
    names = ["Confidence", "n", *(name(rows[0]) for name, _ in METRICS)]
    for line in zip(names, *(column[1:] for column in columns), strict=True):
        table.add_row(*map(Text, line))
    return table


def plain_table(title: str, caption: str) -> Table:
    """An empty table in the style of the others."""
    return Table(
        title=Text(title, style="bold"),
        caption=Text(caption, style="dim"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )


def _cells(row: Row) -> Iterator[str]:
    yield _primary(row)
    yield f"{row['n']:,}" + (" (small)" if row["small_n"] else "")
    for _, cell in METRICS:
        yield cell(row)


def _caption(rows: Sequence[Row]) -> str:
    sentences = []
    for name, metric in (("Equal-mass ECE", "ece_mass"), ("MCE", "mce")):
        labels = dict.fromkeys(
            ece_label(_primary(row), row["n"], bins=made["bins"], binning=made["binning"])
            for row in rows
            for made in [row[metric][_primary(row)]]
        )
        sentences.append(f"{name}: {'; '.join(labels)}.")
    used = [name for name in dict.fromkeys(map(_primary, rows)) if name in CONFIDENCE]
    sentences += [f"{name}: {CONFIDENCE[name]}." for name in used]
    sentences.append(
        "NLL in nats. [low–high]: 95 % bootstrap interval."  # noqa: RUF001
    )
    if any(row["small_n"] for row in rows):
        least = min(row["n"] for row in rows)
        sentences.append(
            f"Small sample (n = {least:,} < {SMALL_N}): calibration errors are biased upwards and "
            "mostly noise."
        )
    return " ".join(sentences)


def _primary(row: Row) -> str:
    """The definition that metrics of a single one are of."""
    (definition,) = row["mce"]
    return str(definition)


def _estimate(metric: str, row: Row) -> Statistic:
    made = row[metric][_primary(row)]
    return _statistic(made["value"], (made["low"], made["high"]))


def _statistic(value: float | None, interval: Sequence[float | None] | None) -> Statistic:
    low, high = interval or (None, None)
    return Statistic(() if value is None else (value,), low, high)


def _percent(metric: str) -> Callable[[Row], str]:
    return lambda row: as_percent(_estimate(metric, row))


def _number(metric: str) -> Callable[[Row], str]:
    return lambda row: as_number(_estimate(metric, row), 3, interval=True)


def _threshold(metric: str) -> Callable[[Row], str]:
    return lambda row: percent(row[metric][_primary(row)]["threshold"])


def _ece(row: Row) -> str:
    made = row["ece"][_primary(row)]
    return as_percent(_statistic(made["value"], (made["low"], made["high"])))


def _floor(row: Row) -> str:
    return floor_text(row["ece"][_primary(row)]["floor"])


def _plain(metric: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        statistic = _statistic(row[metric], row["intervals"][metric])
        return as_number(statistic, 3, interval=True)

    return cell


def _own_nll(row: Row) -> str:
    return MISSING if Method.read(row["method"]).maps_confidence else _plain("nll")(row)


def _auroc(row: Row) -> str:
    primary = _primary(row)
    statistic = _statistic(row["auroc"][primary], row["intervals"]["auroc"][primary])
    return as_number(statistic, 3, interval=True)


def _answered(row: Row) -> str:
    """How many answers are that sure; a row written before they were counted has none."""
    count = row["selective_accuracy"][_primary(row)].get("answered")
    return MISSING if count is None else f"{count:,}"


def _named(text: str, metric: str, setting: str) -> Callable[[Row], str]:
    return lambda row: text.format(row[metric][_primary(row)][setting])


METRICS: tuple[tuple[Callable[[Row], str], Callable[[Row], str]], ...] = (
    (lambda _: "NLL", _own_nll),
    (lambda _: "Brier", _plain("brier")),
    (lambda _: "ECE %", _ece),
    (lambda _: "  noise floor %", _floor),
    (lambda _: "Equal-mass ECE %", _percent("ece_mass")),
    (lambda _: "MCE %", _percent("mce")),
    (lambda _: "Smooth ECE %", _percent("smooth_ece")),
    (lambda _: "AUROC", _auroc),
    (lambda _: "AURC", _number("aurc")),
    *(
        each
        for name in WANTED
        for each in (
            (_named("Answered % at accuracy {:.0%}", name, "accuracy"), _percent(name)),
            (lambda _: "  from confidence %", _threshold(name)),
        )
    ),
    (
        _named("Accuracy % at confidence {:g}", "selective_accuracy", "threshold"),
        _percent("selective_accuracy"),
    ),
    (lambda _: "  from answers", _answered),
)
"""For each metric its name, which may depend on how it was made, and its figure with interval."""

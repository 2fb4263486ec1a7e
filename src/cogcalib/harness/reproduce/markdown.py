"""A table of methods as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cogcalib.harness.config.methods import label, split_posthoc
from cogcalib.harness.report.columns import (
    MISSING,
    coverage_text,
    floor_text,
    is_gated,
    known_text,
    reading_aids,
)
from cogcalib.harness.report.resampled import BINS, RESAMPLES, difference
from cogcalib.harness.reproduce.definitions import Table
from cogcalib.harness.reproduce.table_rows import (
    RANKING,
    MethodCost,
    RowGroup,
    TableRow,
    across_variants,
)
from cogcalib.harness.reproduce.verdicts import trust_text, verdict_lines
from cogcalib.metrics import SMALL_N, PairedDifference
from cogcalib.scoring import ranked
from cogcalib.scoring.metrics_row import COVERAGES, WANTED

PERCENT = ("accuracy", "confidence", "ece")
_ALPHA_CHOSEN = (
    " An alpha after @ was chosen on the calibration split, by a training for each of the grid, "
    "which is not in its cost."
)


def methods_page(table: Table, groups: Sequence[RowGroup]) -> Iterator[str]:
    """Lines: for each group the methods, then the differences question by question."""
    for group in groups:
        yield f"## {group.title}"
        yield ""
        yield from _methods(group)
        yield ""
        yield from _use([group])
        yield ""
        yield from verdict_lines(group)
        yield from _differences(table, group)
    yield from _across(table, groups)
    yield from _caption(groups)


def variants_page(table: Table, groups: Sequence[RowGroup]) -> Iterator[str]:
    """Lines: for each task tested on, all variants and models under each other."""
    for task in dict.fromkeys((group.place.task, group.task) for group in groups):
        here = [group for group in groups if (group.place.task, group.task) == task]
        first = here[0]
        domain = "in domain" if first.in_domain else "out of domain"
        yield f"## {first.task}, {domain}, n = {first.n:,}"
        yield ""
        metrics = _with_floors(["accuracy", "confidence", *metrics_shown(first)[1:]])
        heads = [head(metric, first) for metric in metrics]
        heads.insert(2, "confidence - accuracy")
        yield line([*_PLACE, "method", *heads])
        yield line([":---"] * 3 + ["---:"] * len(heads))
        for group in here:
            for row in group.shown():
                cells = [_cell(row, metric) for metric in metrics]
                cells.insert(2, _gap(row))
                yield line([*_place(group), row_label(row), *cells])
        yield ""
        yield from _use(here, variants=True)
        yield ""
        for group in here:
            if sentences := list(verdict_lines(group)):
                yield f"{group.place.model}, {group.place.variant}. {sentences[0]}"
                yield ""
        for group in here:
            lines = list(_differences(table, group))
            if lines:
                yield from [f"{group.place.model}, {group.place.variant}.", "", *lines]
    yield from _across(table, groups)
    for name, variant in table.variants.items():
        if variant.about:
            yield f"- {name}: {variant.about}"
    yield ""
    yield from _caption(groups)


def _gap(row: TableRow) -> str:
    confidence, accuracy = row.mean("confidence"), row.mean("accuracy")
    if confidence is None or accuracy is None:
        return MISSING
    return f"{100 * (confidence - accuracy):+.1f}"


def _methods(group: RowGroup) -> Iterator[str]:
    metrics = _with_floors(metrics_shown(group))
    heads = [head(metric, group) for metric in metrics]
    yield line(["method", *heads])
    yield line([":---", *["---:"] * len(heads)])
    best = best_rows(group)
    for row in group.shown():
        cells = []
        for metric in metrics:
            text = _cell(row, metric)
            cells.append(f"**{text}**" if row.name == best.get(metric) else text)
        yield line([row_label(row), *cells])


def _use(groups: Sequence[RowGroup], *, variants: bool = False) -> Iterator[str]:
    """What a method is good for, and its price: that is the same wherever it is tested."""
    heads = [*_answered_heads(), *(f"wrong % of the surest {each:.0%}" for each in SURE)]
    if groups[0].in_domain:
        heads += ["known %", "training", "passes", "extra parameters"]
    lead = [*_PLACE * variants, "method"]
    yield line([*lead, *heads, "trustworthy against SFT"])
    yield line([":---"] * len(lead) + ["---:"] * len(heads) + [":---"])
    for group in groups:
        for row in group.shown():
            cells = [*_answered(row), *(_percent(row.mean(f"risk.{each:g}")) for each in SURE)]
            if group.in_domain:
                cells += [_known(row), *_cost(row.cost)]
            where = _place(group) * variants
            yield line([*where, row_label(row), *cells, trust_text(group, row)])


_PLACE = ("model", "variant")


def _place(group: RowGroup) -> tuple[str, str]:
    return group.place.model, group.place.variant


SURE = COVERAGES[1:-1:2]
"""Points of the risk-coverage curve that a page shows; the record has them all."""


def _answered_heads() -> list[str]:
    return [f"answered % at {each:.0%} accuracy (from confidence %)" for each in WANTED.values()]


def _answered(row: TableRow) -> list[str]:
    return [coverage_text(row.mean(name), row.mean(f"{name}.threshold")) for name in WANTED]


def _known(row: TableRow) -> str:
    return known_text(row.method, row.mean("known_first_epoch"), row.mean("known_last_epoch"))


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"


def metrics_shown(group: RowGroup) -> list[str]:
    """Metrics of a table; of its confidence definitions the first two."""
    found = ranked(
        metric.removeprefix("ece.")
        for row in group.rows
        for metric in row.values
        if metric.startswith("ece.")
    )
    return ["accuracy", *(f"ece.{name}" for name in found[:2]), "nll", "brier", "aurc"]


def _with_floors(metrics: Sequence[str]) -> list[str]:
    """Columns: behind each ECE its noise floor."""
    columns: list[str] = []
    for metric in metrics:
        kind, _, definition = metric.partition(".")
        columns += [metric, f"floor.{definition}"] if kind == "ece" else [metric]
    return columns


def head(metric: str, group: RowGroup | None = None) -> str:
    """How a metric's column is headed; of an ECE of a group also how it was computed."""
    kind, _, definition = metric.partition(".")
    if kind == "ece":
        made = f" ({BINS} bins, width, n = {group.n:,})" if group else ""
        return f"ECE {definition} %{made}"
    names = {
        "floor": "floor %",
        "accuracy": "accuracy %",
        "confidence": "confidence %",
        "nll": "NLL",
        "brier": "Brier",
        "aurc": "AURC",
    }
    return names[kind]


def _cell(row: TableRow, metric: str) -> str:
    kind, _, definition = metric.partition(".")
    if kind == "floor":
        return floor_text(row.floor(definition))
    mean, deviation = row.mean(metric), row.deviation(metric)
    if mean is None:
        return MISSING
    scale, digits = _scale(metric)
    text = f"{scale * mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {scale * deviation:.{digits}f}"


def _scale(metric: str) -> tuple[int, int]:
    return (100, 1) if metric.partition(".")[0] in PERCENT else (1, 3)


def _cost(cost: MethodCost) -> list[str]:
    training = MISSING if cost.training is None else f"{cost.training:.2f}"
    extra = MISSING if cost.extra_parameters is None else f"{cost.extra_parameters:,}"
    return [training, str(cost.passes), extra]


def best_rows(group: RowGroup) -> dict[str, str]:
    """Metric -> the row that is bold in its column; metrics without such a row are left out."""
    found = {metric: _best(group, metric) for metric in metrics_shown(group)}
    return {metric: row.name for metric, row in found.items() if row is not None}


def _best(group: RowGroup, metric: str) -> TableRow | None:
    """The best row of a column, if it differs significantly from every row with other values.

    A model that has forgotten how to answer can be calibrated perfectly: it is no rival. Nor is one
    of two ECEs within their noise floors better.
    """
    rows = [row for row in group.shown() if metric in row.resampled.values]
    if metric != "accuracy":
        rows = [row for row in rows if not _less_accurate(row, group.find("sft"))]
    if metric in ("brier", "aurc"):  # of another confidence it is another metric
        rows = [row for row in rows if f"ece.{group.primary}" in row.values]
    sign = -1 if metric == "accuracy" else 1
    if not rows:
        return None
    first = min(rows, key=lambda row: sign * row.resampled.mean(metric))
    if first.within_floor(metric) and sum(row.within_floor(metric) for row in rows) > 1:
        return None
    rivals = [row for row in rows if row.values[metric] != first.values[metric]]
    beaten = (difference(first.resampled, row.resampled, metric).significant for row in rivals)
    return first if rivals and all(beaten) else None


def _less_accurate(row: TableRow, other: TableRow | None) -> bool:
    return other is not None and difference(row.resampled, other.resampled, "accuracy").high < 0


def _differences(table: Table, group: RowGroup) -> Iterator[str]:
    for against in table.against:
        other = group.find(against)
        rows = [row for row in group.shown() if other and row is not other]
        if other is not None and rows:
            yield f"Against {label(against)}, question by question:"
            yield ""
            yield from _compared(group, [(row_label(row), row, other) for row in rows])
            yield ""
    pairs = group.pairs(table.pairs)
    if pairs:
        yield "Pairs, question by question:"
        yield ""
        named = [(f"{row_label(one)} - {row_label(two)}", one, two) for one, two in pairs]
        yield from _compared(group, named)
        yield ""


def _across(table: Table, groups: Sequence[RowGroup]) -> Iterator[str]:
    for first, pairs in across_variants(table, groups):
        yield f"## {first.place.model}: {first.task}, variants compared question by question"
        yield ""
        yield from _compared(first, [(" - ".join(names), *rows) for names, rows in pairs])
        yield ""


def _compared(group: RowGroup, named: Sequence[tuple[str, TableRow, TableRow]]) -> Iterator[str]:
    metrics = [metric for metric in metrics_shown(group) if metric not in ("brier", "aurc")]
    heads = [head(metric) for metric in metrics]
    yield line(["", *(f"Δ {head}" for head in heads)])
    yield line([":---", *["---:"] * len(heads)])
    for name, one, other in named:
        yield line([name, *(_difference(one, other, metric) for metric in metrics)])


def _difference(one: TableRow, other: TableRow, metric: str) -> str:
    if metric not in one.resampled.draws or metric not in other.resampled.draws:
        return MISSING
    return difference_text(difference(one.resampled, other.resampled, metric), metric)


def difference_text(found: PairedDifference, metric: str, *, starred: bool = True) -> str:
    """``-8.3 [-10.1, -6.2] *``, the star where the interval excludes zero."""
    scale, digits = _scale(metric)
    low, high = (f"{scale * value:+.{digits}f}" for value in (found.low, found.high))
    mark = " *" if starred and found.significant else ""
    return f"{scale * found.difference:+.{digits}f} [{low}, {high}]{mark}"


def row_label(row: TableRow) -> str:
    """The method's label; a row says which it is if it was chosen, and which seeds it lacks."""
    name = f"{label(row.method)}{row.seeds_note}"
    return f"{split_posthoc(row.name)[0]}, chosen: {name}" if row.chosen else name


def _caption(groups: Sequence[RowGroup]) -> Iterator[str]:
    seeds = max((len(row.seeds) for group in groups for row in group.rows), default=0)
    if seeds == 1:
        yield "One seed: stars and bold figures say nothing of other trainings."
        yield ""
    if small := sorted({group.task for group in groups if group.n < SMALL_N}):
        yield f"Fewer than {SMALL_N} questions, so that an ECE is mostly noise: {', '.join(small)}."
        yield ""
    rows = [row for group in groups for row in group.rows]
    searched = any(group.place.tuned_at for group in groups)
    aids = reading_aids(
        floor=True,
        coverage=True,
        gated=any(is_gated(row.method) for row in rows),
    )
    yield (
        f"Mean ± standard deviation over {seeds} seed{'s' * (seeds != 1)}. Bold: best of its "
        "column and significantly better than every other, of the methods whose accuracy is not "
        f"significantly lower than SFT's. {' '.join(aids)} Surest: the most confident share of the "
        "answers; the curve is in the record. Trustworthy against SFT: ECE falls under every "
        "definition of confidence, Brier score, NLL and AURC do not get worse, accuracy is equal. "
        f"Δ: difference with its 95 % interval from {RESAMPLES:,} paired resamples ({RANKING} for "
        "AURC) of the questions and of the seeds, each with whatever it draws: training, and the "
        "calibration split where the seed draws that too; * where it excludes zero. Stars are "
        "exploratory: not adjusted for their number, some of many are chance. Brier and AURC are "
        "those of the first confidence definition that the method has. Training: time as a "
        "multiple of SFT's, processor time on a CPU; passes: per question; extra parameters: kept "
        f"beside one fine-tuned model.{_ALPHA_CHOSEN if searched else ''}"
    )


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"

"""Means of a table over its out-of-domain tasks, and comparisons of them with the tasks drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.columns import MISSING
from cogcalib.harness.report.resampled import BINS
from cogcalib.harness.reproduce.definitions import Table
from cogcalib.harness.reproduce.markdown import difference_text, head, line, metrics_shown
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.reproduce.table_rows import RowGroup
from cogcalib.harness.reproduce.task_means import MeanRow, mean_row, mean_table
from cogcalib.metrics import (
    PairedDifference,
    differences_beyond_rounding,
    drawn_tasks_bootstrap,
    holm,
)

LEAST = 200
"""Questions of a task that counts: of fewer an ECE is noise, and as one of few tasks it would be
a large share of the mean."""
Differences = Mapping[str, tuple[PairedDifference, int]]
"""Metric -> difference of two rows over the tasks drawn, and on how many the first is better."""


@dataclass
class TransferClaim:
    """Two rows named beforehand.

    Attributes:
        one, other: The rows.
        found: Metric of the endpoint -> difference.
        adjusted: Metric -> p-value, adjusted for all such claims of the table by this metric.
    """

    one: str
    other: str
    found: Differences
    adjusted: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Transfer:
    """The rows of one place over the tasks that it was not trained on.

    Attributes:
        place: Where they were trained.
        tasks: The tasks, by their own names.
        small: Tasks left out, with fewer than `LEAST` questions.
        rows: Row -> its means.
        against: Row -> its differences to the row that the table compares with.
        claims: The cited comparisons.
    """

    place: Place
    tasks: tuple[str, ...]
    small: tuple[str, ...]
    rows: Mapping[str, MeanRow]
    against: Mapping[str, Differences]
    claims: Sequence[TransferClaim]

    def label_of(self, name: str) -> str:
        """A row's label, and which seeds it lacks."""
        return f"{label(name)}{self.rows[name].seeds_note}"

    def to_json(self) -> dict[str, Any]:
        """As the record keeps it: a difference is [value, low, high]."""
        place = self.place
        return {
            "model": place.model,
            "trained_on": place.trained_on,
            "variant": place.variant,
            "tasks": self.tasks,
            "small": self.small,
            "rows": [
                {key: value for key, value in row.to_json().items() if key != "tasks"}
                | {"against": _json(self.against.get(name, {}))}
                | {"better": {k: each[1] for k, each in self.against.get(name, {}).items()}}
                for name, row in self.rows.items()
            ],
            "claims": [
                {
                    "rows": [each.one, each.other],
                    "difference": {
                        name: [*value, each.adjusted[name]]
                        for name, value in _json(each.found).items()
                    },
                }
                for each in self.claims
            ],
        }


def transfers(table: Table, groups: Sequence[RowGroup]) -> list[Transfer]:
    """The means of each place out of domain; none unless the table asks for them."""
    if table.drawn_against is None:
        return []
    places: dict[tuple[str, str, str], list[RowGroup]] = {}
    for group in groups:
        if not group.in_domain:
            place = group.place
            places.setdefault((place.model, place.task, place.variant), []).append(group)
    found = [_transfer(table, here) for here in places.values()]
    claims = [claim for each in found for claim in each.claims]
    for metric in table.endpoint:
        held = [each for each in claims if metric in each.found]
        p_values = holm([each.found[metric][0].p_value for each in held])
        for claim, p_value in zip(held, p_values, strict=True):
            claim.adjusted[metric] = p_value
    return found


def _transfer(table: Table, groups: Sequence[RowGroup]) -> Transfer:
    small = tuple(group.task for group in groups if group.n < LEAST)
    # Where all are small, all are shown: a trial, of which nobody will cite a figure.
    used = [group for group in groups if group.n >= LEAST] or list(groups)
    names = dict.fromkeys(row.name for group in used for row in group.shown())
    whole = [name for name in names if all(group.find(name) for group in used)]
    against = str(table.drawn_against)
    metrics = _compared(used)
    claims = [
        TransferClaim(one, other, {k: v for k, v in found.items() if _has_p(v)})
        for one, other in table.cited
        if {one, other} <= set(whole) and (found := differences(used, one, other, table.endpoint))
    ]
    return Transfer(
        groups[0].place,
        tuple(group.task for group in used),
        tuple(name for name in small if len(small) < len(groups)),
        {name: mean_row(name, used) for name in whole},
        {
            name: differences(used, name, against, metrics)
            for name in whole
            if name != against and against in whole
        },
        claims,
    )


def differences(
    groups: Sequence[RowGroup], one: str, other: str, metrics: Sequence[str]
) -> dict[str, tuple[PairedDifference, int]]:
    """`one` minus `other` over the tasks drawn, in the metrics that both have on every task."""
    pairs = [(a.resampled, b.resampled) for group in groups for a, b in group.pairs([(one, other)])]
    seeds = [seed for seed in pairs[0][0].seeds if seed in pairs[0][1].seeds]
    found = {}
    for metric in metrics if seeds else ():
        if not all(metric in each.draws for pair in pairs for each in pair):
            continue
        gaps, draws = [], []
        for a, b in pairs:
            at, by = ([each.seeds.index(seed) for seed in seeds] for each in (a, b))
            gaps.append(differences_beyond_rounding(a.values[metric][at], b.values[metric][by]))
            draws.append(differences_beyond_rounding(a.draws[metric][at], b.draws[metric][by]))
        sign = -1 if metric == "accuracy" else 1
        better = sum(bool(sign * gap.mean() < 0) for gap in gaps)
        found[metric] = drawn_tasks_bootstrap(gaps, draws), better
    return found


def transfer_page(table: Table, found: Sequence[Transfer]) -> Iterator[str]:
    """Lines: for each place the means, then the differences; last the cited comparisons."""
    if not found:
        return
    for each in found:
        model, n = each.place.model, len(each.tasks)
        yield f"## {model}: mean over {n} out-of-domain tasks, trained on {each.place.trained_on}"
        yield ""
        small = f"; left out, under {LEAST} questions: {', '.join(each.small)}" * bool(each.small)
        yield f"{', '.join(each.tasks)}{small}."
        yield ""
        yield from mean_table(list(each.rows.values()))
        yield ""
        yield from _against(table, each)
    yield from _claims(table, found)
    yield (
        "Δ: difference of the means over tasks, with its 95 % interval from 10,000 resamples of "
        "the tasks, of the questions within each drawn task and of the seeds, the same for both "
        f"rows; * where it excludes zero. ECE: {BINS} bins of equal width. Tasks count alike, "
        "whatever their number of questions. Tasks about the same facts are not independent, which "
        "makes the intervals too narrow. Below SFT's: 1 - mean ECE / mean ECE of SFT."
    )
    yield ""


def _against(table: Table, found: Transfer) -> Iterator[str]:
    metrics = list(next(iter(found.against.values()), {}))
    if not metrics:
        return
    yield f"Against {label(str(table.drawn_against))}, tasks drawn, and on how many it is better:"
    yield ""
    yield line(["method", *(f"Δ {head(metric)} | better on" for metric in metrics)])
    yield line([":---", *["---: | ---:"] * len(metrics)])
    for name, each in found.against.items():
        cells = [_cells(each, metric, len(found.tasks)) for metric in metrics]
        yield line([found.label_of(name), *cells])
    yield ""


def _claims(table: Table, found: Sequence[Transfer]) -> Iterator[str]:
    number = sum(len(each.claims) for each in found)
    if not number:
        return
    first, *others = (head(metric) for metric in table.endpoint)
    yield "## Comparisons settled beforehand"
    yield ""
    yield (
        f"Primary endpoint: {first}{''.join(f', then {each}' for each in others)}, mean over the "
        f"tasks, tasks drawn. p: Holm's, over the {number} comparisons of this table by the same "
        "metric. Every other difference on this page, starred or not, is exploratory."
    )
    yield ""
    yield line(["", "on", *(f"Δ {head(metric)} | better on | p" for metric in table.endpoint)])
    yield line([":---", ":---", *["---: | ---: | ---:"] * len(table.endpoint)])
    for each in found:
        for claim in each.claims:
            names = f"{each.label_of(claim.one)} - {each.label_of(claim.other)}"
            cells = [_claim_cells(claim, metric, len(each.tasks)) for metric in table.endpoint]
            yield line([names, f"{each.place.model}, {len(each.tasks)} tasks", *cells])
    yield ""


def _claim_cells(claim: TransferClaim, metric: str, tasks: int) -> str:
    p_value = f"{claim.adjusted[metric]:.3f}" if metric in claim.adjusted else MISSING
    bold = claim.adjusted.get(metric, 1.0) < 0.05
    return f"{_cells(claim.found, metric, tasks)} | {f'**{p_value}**' if bold else p_value}"


def _cells(found: Differences, metric: str, tasks: int) -> str:
    if metric not in found:
        return f"{MISSING} | {MISSING}"
    difference, better = found[metric]
    return f"{difference_text(difference, metric)} | {better} of {tasks}"


def _compared(groups: Sequence[RowGroup]) -> list[str]:
    """Metrics of the differences: of the definitions the primary one."""
    primary = f"ece.{groups[0].primary}"
    shown = metrics_shown(groups[0])
    return [name for name in shown if not name.startswith("ece.") or name == primary]


def _has_p(found: tuple[PairedDifference, int]) -> bool:
    """Whether there is a difference at all: a likelihood of zero for both has none."""
    return found[0].p_value == found[0].p_value


def _json(found: Differences) -> dict[str, list[float]]:
    return {k: [each.difference, each.low, each.high] for k, (each, _) in found.items()}

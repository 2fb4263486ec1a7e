"""Two models' predictions of the same questions: paired differences with interval and p-value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.detail import plain_table
from cogcalib.harness.report.predictions import PredictionGroup
from cogcalib.harness.report.resampled import is_equal
from cogcalib.harness.report.verdict import Verdict
from cogcalib.harness.report.verdict_words import too_few, trust
from cogcalib.metrics import (
    PairedDifference,
    ece_label,
    enough_resamples,
    mean,
    paired_bootstrap,
    paired_bootstraps,
    standard_metrics,
)
from cogcalib.records import Prediction
from cogcalib.scoring import MULTIPLE_CHOICE, OPEN_ENDED, ranked
from cogcalib.scoring.metrics_row import BINS

SHOWN = {
    "accuracy": "Accuracy, points",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE, points",
    "aurc": "AURC",
}
"""Metrics that are compared, and how they are headed; a point is a hundredth."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the same questions of one task's split.

    Attributes:
        task, split, n: What both answered, and how many questions.
        definition: Confidence definition of the Brier score, the ECE and the AURC.
        one, other: What their rows are called.
        differences: Of `one` minus `other`, named as in a `Verdict`, with the ECE under every
            confidence definition that both have; fractions, the NLL in nats.
        mapped: Whether a map of the confidence was fitted to one of them, which leaves its NLL.
    """

    task: str
    split: str
    n: int
    definition: str
    one: str
    other: str
    differences: Mapping[str, PairedDifference]
    mapped: bool = False

    @property
    def metrics(self) -> dict[str, PairedDifference]:
        """Those that tables show, see `SHOWN`: the ECE is that of `definition`."""
        named = {name: f"ece.{self.definition}" if name == "ece" else name for name in SHOWN}
        return {name: self.own[key] for name, key in named.items() if key in self.own}

    @property
    def own(self) -> dict[str, PairedDifference]:
        """The differences without an NLL that is not theirs."""
        shared = self.differences.items()
        return {name: each for name, each in shared if not (self.mapped and name == "nll")}

    @property
    def verdict(self) -> Verdict:
        """Whether `one` is to be trusted more than `other`."""
        return Verdict(self.one, self.other, self.own)

    @property
    def sentence(self) -> str:
        """The verdict in words, with the task and its split."""
        names = f"{label(self.one)} and {label(self.other)}"
        equal = f"every figure of {names} is equal."
        told = equal if self.verdict.equal else trust(self.verdict)
        return " ".join(filter(None, (f"On {self.task} ({self.split}): {told}", too_few(self.n))))

    def to_json(self) -> dict[str, Any]:
        """Metric -> difference, interval and p-value; null where undefined.

        ``ece`` is that of the first definition; each has one, such as ``ece.vocab``, besides.
        """
        return {
            name: {key: None if math.isnan(v) else v for key, v in asdict(each).items()}
            for name, each in (self.metrics | self.own).items()
        }


def paired_predictions(
    groups: Sequence[PredictionGroup], *, resamples: int = 1000
) -> tuple[list[Pair], list[str]]:
    """Every model against the first that answered the same task's split, by paired bootstrap.

    Args:
        groups: In the order given by the user: the first is what others are compared with.
        resamples: Bootstrap resamples of the questions.

    Returns:
        The pairs; and, for those that cannot be compared, a sentence that says why.
    """
    pairs, notes = [], []
    first: dict[tuple[str, str], PredictionGroup] = {}
    for group in groups:
        key = (group.predictions[0].task, group.predictions[0].split)
        base = first.setdefault(key, group)
        if base is group:
            continue
        names = f"{label(group.method)} and {label(base.method)}"
        asked = [{row.id: row.answer for row in each.predictions} for each in (group, base)]
        if asked[0] != asked[1]:
            notes.append(f"{names} are not compared on {key[0]}: they answer different questions")
        elif not shared_definitions(group, base):
            notes.append(f"{names} are not compared on {key[0]}: they share no confidence")
        else:
            pairs.append(paired_groups(group, base, resamples=resamples))
    return pairs, notes


def shared_definitions(*groups: PredictionGroup) -> list[str]:
    """Confidence definitions of all, the primary one first; none unless that is one of ours."""
    shared = ranked(set.intersection(*(set(each.predictions[0].confidence) for each in groups)))
    return shared if shared and shared[0] in (*MULTIPLE_CHOICE, *OPEN_ENDED) else []


def paired_groups(one: PredictionGroup, other: PredictionGroup, *, resamples: int = 1000) -> Pair:
    """`one` minus `other`, which answer the same questions, by paired bootstrap.

    Of very many questions fewer resamples are taken, see `cogcalib.metrics.enough_resamples`.

    Raises:
        ValueError: If they share no confidence definition.
    """
    definitions = shared_definitions(one, other)
    if not definitions:
        raise ValueError(f"{one.method} and {other.method} share no confidence")
    by_id = {row.id: row for row in other.predictions}
    aligned = [by_id[row.id] for row in one.predictions]
    resamples = enough_resamples(len(aligned), resamples)
    standard = standard_metrics(bins=BINS)
    found: dict[str, PairedDifference] = {}
    for name in definitions:
        # Everything but the ECE is of the primary confidence alone.
        wanted = ("accuracy", "brier", "aurc", "ece") if name == definitions[0] else ("ece",)
        arrays = [_arrays(rows, name) for rows in (one.predictions, aligned)]
        metrics = {f"ece.{name}" if key == "ece" else key: standard[key] for key in wanted}
        found |= paired_bootstraps(metrics, *arrays, resamples=resamples)
    nll = [[[row.nll for row in rows]] for rows in (one.predictions, aligned)]
    found["nll"] = paired_bootstrap(mean, *nll, resamples=resamples)
    first, names = one.predictions[0], (one.method, other.method)
    mapped = any(Method.read(name).maps_confidence for name in names)
    return Pair(first.task, first.split, len(aligned), definitions[0], *names, found, mapped)


def difference_rows(pair: Pair) -> list[tuple[str, str, str, str]]:
    """Metric, difference, interval and p-value of a pair, as text; or only ``equal``."""
    rows = []
    for name, each in pair.metrics.items():
        title = SHOWN[name]
        if is_equal(each):
            rows.append((title, "equal", "", ""))
            continue
        show = partial(_signed, points=name in ("accuracy", "ece"))
        p = "" if math.isnan(each.p_value) else f"{each.p_value:.3f}"
        rows.append((title, show(each.difference), f"{show(each.low)} to {show(each.high)}", p))
    return rows


def difference_tables(pairs: Sequence[Pair], *, split: str) -> list[Table]:
    """A table a task: difference, interval and p-value of every metric compared."""
    shown = [pair for pair in pairs if pair.split == split]
    return [
        _table(task, [pair for pair in shown if pair.task == task])
        for task in dict.fromkeys(pair.task for pair in shown)
    ]


def _table(task: str, pairs: Sequence[Pair]) -> Table:
    labels = dict.fromkeys(ece_label(pair.definition, pair.n, bins=BINS) for pair in pairs)
    table = plain_table(
        f"{task} · {pairs[0].split} · paired differences",
        f"ECE: {'; '.join(labels)}. Paired bootstrap over the same questions, 95 %; "
        "exploratory: of the many p some are small by chance.",
    )
    table.add_column("Models")
    table.add_column("Metric")
    for header in ("Difference", "Interval", "p"):
        table.add_column(header, justify="right")
    for pair in pairs:
        models = f"{label(pair.one)} - {label(pair.other)}"
        for row in difference_rows(pair):
            table.add_row(*map(Text, (models, *row)))
            models = ""
    return table


def _signed(value: float, *, points: bool) -> str:
    if math.isnan(value):
        return "undefined"
    # Adding zero turns a rounded -0.0 into 0.0, as the verdict has it.
    return f"{round(100 * value, 1) + 0.0:+.1f}" if points else f"{round(value, 3) + 0.0:+.3f}"


def _arrays(rows: Sequence[Prediction], definition: str) -> tuple[NDArray[Any], ...]:
    """Confidence and correctness, each [n]."""
    return (
        np.array([row.confidence[definition] for row in rows], dtype=np.float64),
        np.array([row.correct for row in rows], dtype=bool),
    )

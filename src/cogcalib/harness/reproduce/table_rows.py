"""From the predictions of finished cells to the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from cogcalib.artifacts import read_record
from cogcalib.baselines import Cost
from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import BY_BASE, split_posthoc
from cogcalib.harness.remedies import again
from cogcalib.harness.report.resampled import Resampled, resample
from cogcalib.harness.reproduce.cell_record import read_cost
from cogcalib.harness.reproduce.definitions import DEFAULT, Table
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.kept_rows import read_rows
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.run_folder import RunFolder, read_posthoc_map
from cogcalib.harness.stages import member_seeds, open_folder
from cogcalib.records import Prediction
from cogcalib.scoring import primary_definition, ranked
from cogcalib.scoring.metrics_row import COVERAGES, WANTED

RANKING = 500
"""Resamples for the AURC: with 4,000 questions they take a fifteenth of a second a method."""


@dataclass(frozen=True)
class RowGroup:
    """Rows that stand in one table: a model trained on a task under a variant, tested somewhere.

    Attributes:
        place: Where they were trained.
        task: What they are tested on.
        in_domain: Whether that is what they were trained on.
        n: Questions.
        primary: Confidence definition named first.
        rows: In the order of the table.
    """

    place: Place
    task: str
    in_domain: bool
    n: int
    primary: str
    rows: tuple[TableRow, ...]

    @property
    def title(self) -> str:
        """``atlas, atlas/capital (trained on atlas/country), variant, n = 195``."""
        trained = self.place.trained_on
        domain = "in domain" if self.in_domain else f"out of domain (trained on {trained})"
        variant = "" if self.place.variant == DEFAULT else f", {self.place.variant}"
        return f"{self.place.model}{variant}: {self.task}, {domain}, n = {self.n:,}"

    @property
    def short_title(self) -> str:
        """``atlas, full: atlas/country``."""
        variant = "" if self.place.variant == DEFAULT else f", {self.place.variant}"
        return f"{self.place.model}{variant}: {self.task}"

    def shown(self) -> list[TableRow]:
        """The rows of different methods: what was chosen stands there already."""
        first: dict[str, TableRow] = {}
        for row in self.rows:
            first.setdefault(row.method, row)
        return list(first.values())

    def find(self, name: str) -> TableRow | None:
        """The row of that name, if it is there."""
        return next((row for row in self.rows if row.name == name), None)

    def pairs(self, names: Sequence[tuple[str, str]]) -> list[tuple[TableRow, TableRow]]:
        """The rows to compare with each other, where both are there."""
        found = [(self.find(one), self.find(other)) for one, other in names]
        return [(one, other) for one, other in found if one and other]


@dataclass(frozen=True)
class TableRow:
    """One row: a method on a task, a value per seed.

    Attributes:
        name: As listed, such as ``cols``.
        method: As trained and predicted, such as ``cols@0.1``.
        seeds: Seeds with predictions.
        values: Metric -> value by seed; fractions, ``nll`` in nats.
        resampled: The metrics that are compared on resamples of the questions.
        cost: What it costs.
        chosen: Whether it was chosen among others on the calibration split.
        missing: Seeds of the plan that it has no predictions of.
    """

    name: str
    method: str
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    resampled: Resampled
    cost: MethodCost
    chosen: bool
    missing: int = 0

    @property
    def seeds_note(self) -> str:
        """What stands behind its name: `seeds_note` of its seeds."""
        return seeds_note(len(self.seeds), len(self.seeds) + self.missing)

    def mean(self, metric: str) -> float | None:
        """Mean over seeds; None where the metric is not defined."""
        return fmean(self.values[metric]) if metric in self.values else None

    def floor(self, definition: str) -> tuple[float, float] | None:
        """Where the ECE of a perfectly calibrated model with the same confidences falls."""
        low, high = (self.mean(f"floor.{end}.{definition}") for end in ("low", "high"))
        return None if low is None or high is None else (low, high)

    def within_floor(self, metric: str) -> bool:
        """Whether an ECE, ``ece.options``, is what chance alone gives a calibrated model."""
        value, floor = self.mean(metric), self.floor(metric.removeprefix("ece."))
        return value is not None and floor is not None and value <= floor[1]

    def risks(self) -> list[float]:
        """Error rate of the most confident `COVERAGES` of the answers; empty if unknown."""
        found = [self.mean(f"risk.{coverage:g}") for coverage in COVERAGES]
        return [each for each in found if each is not None]

    def deviation(self, metric: str) -> float | None:
        """Standard deviation over seeds; None for one seed."""
        values = self.values.get(metric, ())
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class MethodCost:
    """What a method costs.

    Attributes:
        training: Training time as a multiple of SFT's; None if it was not timed, 0 for none.
        passes: Forward passes per question, those of the base model counted.
        extra_parameters: Numbers kept beside one fine-tuned model; None if nobody counted.
    """

    training: float | None
    passes: int = 1
    extra_parameters: int | None = 0


def seeds_note(done: int, planned: int) -> str:
    """`` (1 of 2 seeds)``, to be put behind a row's name; empty where none is missing."""
    return f" ({done} of {planned} seeds)" if done < planned else ""


def collect(outcome: PlanOutcome) -> list[RowGroup]:
    """Every group of a table; a row stands in it if it has predictions of any seed."""
    groups: list[RowGroup] = []
    for place in outcome.plan.shown():
        if place.path not in outcome.resolved:
            continue
        folder = open_folder(place.config, place.path, resume=True)
        groups += _groups(place, folder, outcome.resolved[place.path], outcome.plan.seeds)
    return groups


def across_variants(
    table: Table, groups: Sequence[RowGroup]
) -> Iterator[tuple[RowGroup, list[tuple[tuple[str, str], tuple[TableRow, TableRow]]]]]:
    """What a table compares over variants, ``fixed:cols`` with ``cols``, where both are there.

    A name without a variant stands for the table's first one.

    Yields:
        For each model and task: its first group, and the names and rows of every pair.
    """
    wanted = [names for names in table.pairs if any(":" in name for name in names)]
    first = next(iter(table.variants))
    places: dict[tuple[str, str, str], dict[str, RowGroup]] = {}
    for group in groups:
        place = (group.place.model, group.place.task, group.task)
        places.setdefault(place, {})[group.place.variant] = group
    for here in places.values():
        pairs = []
        for names in wanted:
            parts = [name.rpartition(":") for name in names]
            found = [here.get(variant or first) for variant, _, _ in parts]
            one, other = (
                each and each.find(name) for each, (_, _, name) in zip(found, parts, strict=True)
            )
            if one and other:
                pairs.append((names, (one, other)))
        if pairs:
            yield next(iter(here.values())), pairs


def _groups(
    place: Place, folder: RunFolder, resolved: Mapping[str, str], seeds: Sequence[int]
) -> Iterator[RowGroup]:
    sft = _seconds(folder, "sft", seeds)
    for task in place.tested_on:
        rows, size, primary = [], 0, ""
        for name, method in resolved.items():
            done = [seed for seed in seeds if folder.predictions(method, seed).is_dir()]
            if not done:
                continue
            runs = [_predictions(folder, method, seed, task) for seed in done]
            values = [_values(folder, method, seed, task) for seed in done]
            resampled = resample(dict(zip(done, runs, strict=True)), ranking=RANKING)
            if Method.parse(method).maps_confidence:
                resampled = resampled.without("nll")
                values = [{k: v for k, v in row.items() if k != "nll"} for row in values]
            size, primary = len(runs[0]), primary or primary_definition(runs[0])
            rows.append(
                TableRow(
                    name,
                    method,
                    tuple(done),
                    _by_metric(values),
                    resampled,
                    _cost(place, folder, method, done, sft),
                    split_posthoc(name)[0] in place.best,
                    len(seeds) - len(done),
                )
            )
        if rows:
            yield RowGroup(place, task, task == place.trained_on, size, primary, tuple(rows))


def _predictions(folder: RunFolder, method: str, seed: int, task: str) -> list[Prediction]:
    return folder.read_prediction_file(folder.predictions_file(method, seed, task))


def _values(folder: RunFolder, method: str, seed: int, task: str) -> dict[str, float]:
    (row,) = (
        row
        for row in read_rows(folder, method, seed)
        if row["task"] == task and row["split"] == "test"
    )
    values = {name: row[name] for name in ("accuracy", "nll", "brier")}
    for name, found in row["ece"].items():
        values[f"ece.{name}"] = found["value"]
        values[f"floor.low.{name}"], values[f"floor.high.{name}"] = found["floor"]
    values["confidence"] = row["confidence"][ranked(row["confidence"])[0]]
    for name in ("aurc", *WANTED):
        (found,) = row[name].values()
        values[name] = found["value"]
        values[f"{name}.threshold"] = found.get("threshold")
    (curve,) = row["risk_coverage"].values()
    for coverage, error in zip(curve["coverage"], curve["error"], strict=True):
        values[f"risk.{coverage:g}"] = error
    for name in ("known_first_epoch", "known_last_epoch"):
        values[name] = row[name]
    return {name: value for name, value in values.items() if value is not None}


def _by_metric(values: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Metric -> value of every seed that has one."""
    names = dict.fromkeys(name for each in values for name in each)
    return {name: tuple(each[name] for each in values if name in each) for name in names}


def _cost(
    place: Place, folder: RunFolder, method: str, seeds: Sequence[int], sft: float | None
) -> MethodCost:
    parsed = Method.parse(method)
    fitted = _map_size(folder.posthoc_maps(method, seeds[0])) if parsed.posthoc else 0
    if parsed.trained == "base":
        return MethodCost(0.0, extra_parameters=fitted)
    own = _seconds(folder, parsed.trained, seeds)
    if own is not None:
        own *= len(member_seeds(place.config, parsed, 0))
    # A map by the base model asks it the same questions.
    asked = int(parsed.posthoc in BY_BASE)
    if not parsed.baseline:
        training = own / sft if own is not None and sft else None
        return MethodCost(training, 1 + asked, fitted)
    # Its own where it was asked anew, else that of the predictions it maps.
    counted = _baseline_cost(folder.cost(method, seeds[0]))
    counted = counted or _baseline_cost(folder.cost(parsed.before_posthoc.name, seeds[0]))
    if own is not None and counted:
        own += counted.fit_seconds
    return MethodCost(
        own / sft if own is not None and sft else None,
        (counted.passes if counted else 1) + asked,
        counted.extra_parameters + fitted if counted else None,
    )


def _map_size(maps: Sequence[Path]) -> int:
    """Numbers that a post-hoc calibration keeps, of the largest of its maps."""
    return max((_numbers(read_posthoc_map(path)) for path in maps), default=0)


def _numbers(content: Any) -> int:
    if isinstance(content, Mapping):
        return sum(map(_numbers, content.values()))
    if isinstance(content, list):
        return sum(map(_numbers, content))
    return int(isinstance(content, (int, float)) and not isinstance(content, bool))


def _seconds(folder: RunFolder, method: str, seeds: Sequence[int]) -> float | None:
    """Median over seeds."""
    found = [read_cost(folder.training_cost(method, seed)) for seed in seeds]
    spent = [each.seconds for each in found if each]
    return median(spent) if spent else None


def _baseline_cost(path: Path) -> Cost | None:
    return read_record(path, Cost, again(path.parent)) if path.exists() else None

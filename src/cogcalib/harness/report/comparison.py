"""Finished runs and files of predictions, held against the first of them question by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.differences import (
    Pair,
    paired_groups,
    shared_definitions,
)
from cogcalib.harness.report.predictions import (
    PredictionGroup,
    distinct_names,
    read_groups,
    rows_of,
)
from cogcalib.harness.report.resampled import RESAMPLES, difference, resample
from cogcalib.harness.report.run_results import Run, load_run
from cogcalib.records import Example, Prediction
from cogcalib.suggest import did_you_mean, hint_first


@dataclass(frozen=True, slots=True)
class Entry:
    """One method's answers to one task's split.

    Attributes:
        source: Name of the run or file.
        method: Name of the method in the run; empty for a file, which holds one model.
        task, split: What was asked.
        answers: Seed -> predictions; of a file under None.
        rows: The rows of metrics that belong to them, named by `title`.
    """

    source: str
    method: str
    task: str
    split: str
    answers: Mapping[int | None, Sequence[Prediction]]
    rows: Sequence[Mapping[str, Any]]

    @property
    def title(self) -> str:
        """What its row is called."""
        return entry_title(self.source, self.method)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        sources: Names of the runs and files, in the order given.
        entries: Of all sources, those that were compared and those that were not.
        pairs: Differences to the first source.
        notes: Sentences on what could not be compared.
        trained_on: The task that all runs were trained on; empty if that is not one.
        examples: Id -> question, where a run keeps it.
    """

    sources: tuple[str, ...]
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    trained_on: str = ""
    examples: Mapping[str, Example] = field(default_factory=dict)

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """The rows of metrics of all entries."""
        return [row for entry in self.entries for row in entry.rows]


def entry_title(source: str, method: str) -> str:
    """What a method of a run, or a file, is called beside others."""
    return f"{source}: {label(method)}" if method else source


def compare(
    paths: Sequence[Path],
    *,
    method: str | None = None,
    samples_split: str | None = None,
    samples_filter: str | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Hold runs and files against the first, on the questions that both answered.

    Methods of one name are compared; where the first has one method alone, all are compared with
    it. With one seed each the questions are resampled; with several, which both must share, the
    questions and the seeds (`cogcalib.metrics.clustered_paired_bootstrap`).

    Args:
        paths: Run folders, and files of predictions as in `read_groups`; at least two.
        method: The only method to look at in runs; all if None.
        samples_split, samples_filter: As in `read_groups`.
        resamples: Bootstrap resamples.

    Raises:
        FileNotFoundError: If something is not there.
        ValueError: If fewer than two are given or one comes twice, a run has no such method, or
            nothing can be compared, saying why.
    """
    if len(paths) < 2:
        raise ValueError(f"compare takes at least two runs or files, got {len(paths)}")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("runs and files to compare must be distinct, one comes more than once")
    folders = [path for path in paths if path.is_dir()]
    files = [path for path in paths if not path.is_dir()]
    if method is not None and not folders:
        raise ValueError("method is for runs, and none of the paths is one")
    for option, given in (("split", samples_split), ("filter", samples_filter)):
        if given is not None and not files:
            raise ValueError(f"{option} is for lm-evaluation-harness' samples, not for runs")
    entries: dict[Path, list[Entry]] = {}
    trained_on = set()
    examples: dict[str, Example] = {}
    for path, name in distinct_names(folders).items():
        run = load_run(path)
        entries[path] = list(_of_run(run, name, method))
        trained_on.add(run.trained_on or "")
        examples |= run.examples
    if files:
        groups = read_groups(files, samples_split=samples_split, samples_filter=samples_filter)
        for group, row in zip(groups, rows_of(groups), strict=True):
            entries.setdefault(group.path, []).append(_of_group(group, row))
    ordered = [entries[path] for path in paths]
    pairs, notes = _pairs(ordered, resamples)
    if not pairs:
        raise ValueError(notes[0] if notes else _nothing_shared(ordered))
    sources = tuple(dict.fromkeys(entry.source for found in ordered for entry in found))
    every = tuple(entry for found in ordered for entry in found)
    home = trained_on.pop() if len(trained_on) == 1 else ""
    return Comparison(sources, every, tuple(pairs), tuple(notes), home, examples)


def of_groups(
    groups: Sequence[PredictionGroup],
    rows: Sequence[Mapping[str, Any]],
    pairs: Sequence[Pair],
    notes: Sequence[str],
) -> Comparison:
    """Files of predictions as a comparison, of one alone without a pair."""
    entries = [_of_group(group, row) for group, row in zip(groups, rows, strict=True)]
    sources = tuple(dict.fromkeys(entry.source for entry in entries))
    return Comparison(sources, tuple(entries), tuple(pairs), tuple(notes))


def _of_run(run: Run, source: str, only: str | None) -> Iterator[Entry]:
    """What each method of a run answered on its test questions."""
    named: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in run.rows:
        if row["split"] == "test" and only in (None, row["method"]):
            named.setdefault((row["method"], row["task"], row["split"]), []).append(row)
    if not named:
        methods = sorted({str(row["method"]) for row in run.rows})
        if not only:
            raise ValueError(f"{run.folder.path}: nothing was scored on a test split")
        raise ValueError(
            hint_first(
                f"{run.folder.path}: no method {only!r} was scored on a test split",
                did_you_mean(only, methods),
                f"there are {', '.join(methods)}",
            )
        )
    for (method, task, split), rows in named.items():
        answers = {row["seed"]: run.predictions(method, row["seed"], task, split) for row in rows}
        titled = [
            {**row, "method": entry_title(source, method), **_own(method, row)} for row in rows
        ]
        yield Entry(source, method, task, split, answers, titled)


def _own(method: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The NLL, which is another method's where the confidence alone is mapped."""
    return {"nll": float("nan") if Method.read(method).maps_confidence else row["nll"]}


def _of_group(group: PredictionGroup, row: Mapping[str, Any]) -> Entry:
    first = group.predictions[0]
    return Entry(group.method, "", first.task, first.split, {None: group.predictions}, [row])


def _pairs(ordered: Sequence[Sequence[Entry]], resamples: int) -> tuple[list[Pair], list[str]]:
    pairs, notes = [], []
    for found in ordered[1:]:
        for entry in found:
            base = _counterpart(entry, ordered[0])
            if base is None:
                continue
            reason = _why_not(entry, base)
            if reason:
                notes.append(f"{entry.title} and {base.title} are not compared on {reason}")
            else:
                pairs.append(_pair(entry, base, resamples))
    return pairs, notes


def _counterpart(entry: Entry, first: Sequence[Entry]) -> Entry | None:
    """What an entry is compared with: the method of its name, or the only one there is."""
    asked = [each for each in first if (each.task, each.split) == (entry.task, entry.split)]
    named = [each for each in asked if each.method == entry.method]
    if len(named) == 1:
        return named[0]
    return asked[0] if len(asked) == 1 else None


def _why_not(entry: Entry, base: Entry) -> str:
    """The task and why two entries cannot be compared on it; empty if they can."""
    questions = [
        {frozenset((row.id, row.answer) for row in rows) for rows in each.answers.values()}
        for each in (entry, base)
    ]
    if len(questions[0] | questions[1]) > 1:
        return f"{entry.task}: they answer different questions"
    if not _shared(entry, base):
        return f"{entry.task}: they share no confidence"
    several = max(len(entry.answers), len(base.answers)) > 1
    if several and not entry.answers.keys() & base.answers.keys():
        return f"{entry.task}: they share no seed"
    return ""


def _first(entry: Entry) -> PredictionGroup:
    return PredictionGroup(Path(), entry.title, list(next(iter(entry.answers.values()))))


def _shared(entry: Entry, base: Entry) -> list[str]:
    """Confidence definitions that every seed of both has, as `shared_definitions`."""
    groups = [
        PredictionGroup(Path(), each.title, list(rows))
        for each in (entry, base)
        for rows in each.answers.values()
    ]
    return shared_definitions(*groups)


def _reading(rows: Sequence[Prediction], definitions: Sequence[str]) -> list[Prediction]:
    """Predictions with some confidences alone; the Brier score is of the first."""
    return [replace(row, confidence={d: row.confidence[d] for d in definitions}) for row in rows]


def _nothing_shared(ordered: Sequence[Sequence[Entry]]) -> str:
    """Why not a single pair was found."""
    first, others = ordered[0], [each for found in ordered[1:] for each in found]
    asked = sorted({f"{each.task} ({each.split})" for each in first})
    also = sorted({f"{each.task} ({each.split})" for each in others})
    if not set(asked) & set(also):
        return (
            f"nothing can be compared: {first[0].source} answers {', '.join(asked)}, the others "
            f"answer {', '.join(also)}"
        )
    methods = ", ".join(dict.fromkeys(each.title for each in (*first, *others)))
    return (
        "nothing can be compared: the runs share no method, and the first has several; --method "
        f"takes one of a run. There are {methods}"
    )


def _pair(entry: Entry, base: Entry, resamples: int) -> Pair:
    first, second = _first(entry), _first(base)
    mapped = any(Method.read(each.method).maps_confidence for each in (entry, base))
    if len(entry.answers) == len(base.answers) == 1:
        return replace(paired_groups(first, second, resamples=resamples), mapped=mapped)
    definitions = _shared(entry, base)
    seeds = [seed for seed in entry.answers if seed in base.answers]
    one, other = (
        resample(
            {seed or 0: _reading(each.answers[seed], definitions) for seed in seeds},
            resamples,
            ranking=resamples,
        )
        for each in (entry, base)
    )
    found = {metric: difference(one, other, metric) for metric in one.values}
    return Pair(
        entry.task,
        entry.split,
        len(first.predictions),
        definitions[0],
        entry.title,
        base.title,
        found,
        mapped,
    )

"""Anybody's predictions summed up, as rows that the tables show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogcalib.artifacts import read_json
from cogcalib.records import Prediction
from cogcalib.scoring import read_predictions, summarize
from cogcalib.scoring.lm_eval import is_samples, read_samples
from cogcalib.scoring.score_record import record_path

UNKNOWN_SPLIT = "unknown split"
"""Split of lm-evaluation-harness' samples, which keep no record of it, unless somebody says it."""


@dataclass(frozen=True, slots=True)
class PredictionGroup:
    """What becomes one row: the predictions of one model and run on a task's split.

    Attributes:
        path: The file they come from.
        method: What the row is called.
        predictions: At least one.
    """

    path: Path
    method: str
    predictions: list[Prediction]


def prediction_rows(
    paths: Sequence[Path], *, samples_split: str | None = None, resamples: int = 1000
) -> list[dict[str, Any]]:
    """A row as in ``metrics.json`` for every model, run, task and split in the files.

    Args:
        paths: As in `read_groups`, and so is the other argument.
        samples_split: The split that the harness' samples are of.
        resamples: Bootstrap resamples per interval.

    Raises:
        FileNotFoundError: As `read_groups`.
        ValueError: Likewise.
    """
    return rows_of(read_groups(paths, samples_split=samples_split), resamples=resamples)


def rows_of(groups: Sequence[PredictionGroup], *, resamples: int = 1000) -> list[dict[str, Any]]:
    """A row as in ``metrics.json`` of each group. No training is known of: ``seed`` is None.

    Raises:
        ValueError: Naming the file whose predictions differ in their confidence definitions.
    """
    rows = []
    for group in groups:
        try:
            row = summarize(group.predictions, method=group.method, seed=None, resamples=resamples)
        except ValueError as error:
            raise ValueError(f"{group.path}: {error}") from error
        rows.append(row)
    return rows


def read_groups(
    paths: Sequence[Path], *, samples_split: str | None = None, samples_filter: str | None = None
) -> list[PredictionGroup]:
    """The predictions of every model, run, task and split in the files, in their order.

    ``method`` is the name of the file, without its ending or with so much of its path as tells it
    from the others, and of model and run where it holds several. Of samples that
    lm-evaluation-harness logged, a file for each task, it is the model, and the run where a task
    has several of it.

    Args:
        paths: JSONL or Parquet files of predictions, ``samples_<task>_<date>.jsonl`` of the
            harness.
        samples_split: The split that the harness' samples are of; `UNKNOWN_SPLIT` if None.
        samples_filter: Which of the harness' filters to read, where a file has several.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: Naming file, row and key of what does not fit, or a file that comes twice, or
            two samples of one model, task and run; or a `samples_split` without samples.
    """
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
    logged = [path for path in paths if is_samples(path)]
    if samples_split is not None and not logged:
        raise ValueError(
            "split is for lm-evaluation-harness' samples, and none of the files is one"
        )
    if repeated := [path for path, count in Counter(paths).items() if count > 1]:
        raise ValueError(f"files must be distinct, {repeated[0]} comes more than once")
    names = distinct_names([path for path in paths if path not in logged])
    return [
        *(group for path, name in names.items() for group in _own(path, name)),
        *_samples(logged, samples_split or UNKNOWN_SPLIT, samples_filter),
    ]


def distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The shortest way of naming files, or folders, that tells each from all others."""
    stems = [path.absolute().name if path.is_dir() else path.stem for path in paths]
    ways = (
        stems,
        [path.name for path in paths],
        [f"{path.absolute().parent.name}/{stem}" for path, stem in zip(paths, stems, strict=True)],
        [str(path) for path in paths],
    )
    return dict(zip(paths, next(way for way in ways if len(set(way)) == len(paths)), strict=True))


def _own(path: Path, name: str) -> Iterator[PredictionGroup]:
    groups: dict[tuple[str, ...], list[Prediction]] = {}
    rows = read_predictions(path)
    _check_record(path, rows)
    for row in rows:
        groups.setdefault((row.model, row.run, row.task, row.split), []).append(row)
    sources = {key[:2] for key in groups}
    for (model, run, _, _), predictions in groups.items():
        several = f" ({model}, {run})" if len(sources) > 1 else ""
        yield PredictionGroup(path, f"{name}{several}", predictions)


def _check_record(path: Path, rows: Sequence[Prediction]) -> None:
    """Raise ValueError unless a file that `cogcalib score` wrote has all its rows still."""
    record = record_path(path)
    if not record.is_file():
        return
    counts = Counter(row.split for row in rows)
    for split, entry in read_json(record, dict).get("data", {}).items():
        if counts[split] != entry["n"]:
            raise ValueError(
                f"{path}: {counts[split]} rows of the split {split}, its record {record} says "
                f"{entry['n']}; score anew, or remove the record if the rows were chosen on purpose"
            )


def _samples(paths: Sequence[Path], split: str, chosen: str | None) -> list[PredictionGroup]:
    files = {path: read_samples(path, split=split, filter=chosen) for path in paths}
    known: dict[tuple[str, str, str], Path] = {}
    for path, predictions in files.items():
        first = predictions[0]
        if not first.confidence:
            raise ValueError(
                f"{path}: the harness logs no probabilities of generated text, so that it has no "
                "calibration"
            )
        other = known.setdefault((first.model, first.task, first.run), path)
        if other is not path:
            raise ValueError(f"{other} and {path} are of one model, task and run")
    runs = Counter((model, task) for model, task, _ in known)
    several = {model for (model, _), count in runs.items() if count > 1}
    return [
        PredictionGroup(path, f"{model} ({run})" if model in several else model, files[path])
        for (model, _, run), path in known.items()
    ]

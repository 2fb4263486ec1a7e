"""Anybody's predictions summed up, as rows that the tables show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cogcalib.records import Prediction
from cogcalib.scoring import read_predictions, summarize


def prediction_rows(paths: Sequence[Path], *, resamples: int = 1000) -> list[dict[str, Any]]:
    """A row as in ``metrics.json`` for every model, run, task and split in the files.

    ``method`` is the name of the file without its ending, and of model and run where it holds
    several. No training is known of, so that ``seed`` is None.

    Args:
        paths: JSONL or Parquet files of predictions.
        resamples: Bootstrap resamples per interval.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: Naming file, row and key of what does not fit, or two files that bear one name.
    """
    if repeated := sorted(path.stem for path in paths if _stems(paths).count(path.stem) > 1):
        raise ValueError(f"files must bear distinct names, {repeated[0]!r} comes more than once")
    rows = []
    for path in paths:
        groups: dict[tuple[str, ...], list[Prediction]] = {}
        for row in read_predictions(path):
            groups.setdefault((row.model, row.run, row.task, row.split), []).append(row)
        sources = {key[:2] for key in groups}
        for (model, run, _, _), predictions in groups.items():
            several = f" ({model}, {run})" if len(sources) > 1 else ""
            try:
                found = summarize(
                    predictions, method=f"{path.stem}{several}", seed=None, resamples=resamples
                )
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            rows.append(found)
    return rows


def _stems(paths: Sequence[Path]) -> list[str]:
    return [path.stem for path in paths]

"""Rows that predictions sum up to, kept beside them and made again where they do not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cogcalib.artifacts import read_json
from cogcalib.harness.config import Method
from cogcalib.harness.report.run_results import known_shares
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import InputError, write_json
from cogcalib.scoring import summarize

RESAMPLES = 200
"""Behind the intervals of one seed's figures, which the tables do not show."""
FORM = 1
"""Of the rows; one more where `summarize` comes to give others, and all are made again."""


def read_rows(folder: RunFolder, method: str, seed: int) -> list[dict[str, Any]]:
    """A row for each task and split that a method predicted; summed up once, then kept.

    They are made again where the file is damaged or was changed, or is of other predictions.

    Raises:
        FolderError: As `RunFolder.read_predictions`.
    """
    kept, made = folder.summary(method, seed), folder.predictions(method, seed)
    log = folder.log(Method.parse(method).trained, seed)
    of = f"{FORM} {RESAMPLES} {method} {seed} {_digest([*sorted(made.glob('*.jsonl')), log])}"
    if (held := _held(kept, of)) is not None:
        return held
    known = known_shares(log)
    rows = [
        summarize(each, method=method, seed=seed, resamples=RESAMPLES, known=known)
        for each in folder.read_predictions(made)
    ]
    rows = json.loads(json.dumps(rows))  # as they are read again
    write_json(kept, {"of": _seal(of, rows), "rows": rows})
    return rows


def _held(kept: Path, of: str) -> list[dict[str, Any]] | None:
    """The rows in a file, if they are whole and of these predictions."""
    if not kept.exists():
        return None
    try:
        held = read_json(kept, dict)
    except InputError:  # or a list, of an earlier release
        return None
    rows: list[dict[str, Any]] | None = held.get("rows")
    return rows if rows and held.get("of") == _seal(of, rows) else None


def _seal(of: str, rows: Any) -> str:
    """Hash of rows and of what they were made of."""
    return hashlib.sha256(f"{of}\n{json.dumps(rows)}".encode()).hexdigest()


def _digest(files: Sequence[Path]) -> str:
    """Hash of the names of files and of what is in them; one that is not there holds nothing."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        if path.is_file():
            with path.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()

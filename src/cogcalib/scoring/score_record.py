"""The record of a scoring: what its predictions were made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogcalib.modeling import LabelAudit
from cogcalib.provenance import versions
from cogcalib.records import write_json
from cogcalib.scoring.prediction_files import check_output
from cogcalib.tasks import Task

ENDING = ".record.json"
"""What a record's name has behind that of the predictions it belongs to."""


MOST_LETTERS = 26
"""Labels that a line shows: rows of one's own may each have others."""


def describe_task(task: Task, audit: LabelAudit | None) -> dict[str, Any]:
    """Where a task comes from, how it was worded and what was done to it.

    Args:
        task: With `Task.shortened` as it came out.
        audit: Of its option labels with the tokenizer at hand; None without options.
    """
    return {
        "version": task.version,
        "source": task.source,
        "licence": task.licence,
        "prompt": next(iter(task.splits.values()))[0].preset,
        "dropped": [asdict(repeats) for repeats in task.dropped],
        "equal_options": dict(task.equal_options),
        "shortened": dict(task.shortened),
        # As JSON has it, so that a resumed run compares equal.
        "labels": None if audit is None else json.loads(json.dumps(asdict(audit))),
    }


def label_line(audit: LabelAudit) -> str:
    """The audit of the option labels in a line."""
    letters = " ".join(label.letter.strip() for label in audit.labels[:MOST_LETTERS])
    if len(audit.labels) > MOST_LETTERS:
        letters += " ..."
    if not audit.distinct:
        return f"labels: warning: of {letters} some share their tokens"
    if not audit.single:
        long = [label.letter.strip() for label in audit.labels if label.form == "several"]
        several = " ".join([*long[:MOST_LETTERS], *(["..."] if len(long) > MOST_LETTERS else [])])
        return f"labels: {several} take several tokens after the prompt, whose likelihood is summed"
    if not audit.steady:
        return f"labels: warning: {letters} are not the same tokens after every prompt"
    return f"labels: {letters} are single tokens after the prompt"


def record_path(output: Path) -> Path:
    """Where the record of predictions lies: beside them."""
    return output.with_name(output.name + ENDING)


def check_outputs(output: Path) -> None:
    """Check that predictions and their record can be written, before anything is computed.

    Raises:
        ValueError: As `check_output`, or if the record exists already.
    """
    check_output(output)
    if (path := record_path(output)).exists():
        raise ValueError(f"record {path} already exists; remove it or choose another output")


def write_record(output: Path, content: Mapping[str, Any]) -> Path:
    """Write what `output` was made with, the versions of all that took part beside it; atomically.

    Raises:
        ValueError: If there is a record already.
    """
    path = record_path(output)
    if path.exists():
        raise ValueError(f"record {path} already exists; remove it or choose another output")
    return write_json(path, {**content, "versions": versions()})

"""Read a run folder back: metrics, predictions, thresholds, logs, probe, configuration, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cogcalib.artifacts import is_number, read_json, to_record
from cogcalib.harness.remedies import WITHOUT, damaged
from cogcalib.harness.report.summary import check_rows
from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import json_lines
from cogcalib.records import (
    Example,
    InputError,
    Prediction,
    ProbeRecord,
    Threshold,
)
from cogcalib.suggest import cut

MOST_KEPT = 500_000
"""Predictions that a run keeps once they are read, some 500 MB; what comes on top is read anew."""

Training = Mapping[tuple[str, int], tuple[Any, ...]]
"""(method, seed) -> rows, in the order of the training."""


@dataclass(frozen=True)
class Run:
    """What a run left behind. Predictions and examples are read when asked for, and then kept.

    Attributes:
        folder: The run folder.
        rows: Rows of ``metrics.json``; fractions.
        record: ``record.json``: configuration, data hashes, versions, code, hardware, timings.
        config_text: ``config.yaml`` as written.
        manifest: ``splits/manifest.json``; empty if there is none.
        probe: What the base model knew of the training split; empty if it was not probed.
        thresholds: (method, seed) -> history of `Threshold`; methods without a gate are absent.
        logs: (method, seed) -> rows of the trainer's log history.
    """

    folder: RunFolder
    rows: tuple[Mapping[str, Any], ...]
    record: Mapping[str, Any]
    config_text: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    probe: tuple[ProbeRecord, ...] = ()
    thresholds: Training = field(default_factory=dict)
    logs: Training = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.folder.path.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The validated configuration, from the record."""
        config: Mapping[str, Any] = self.record.get("config") or {}
        return config

    @property
    def trained_on(self) -> str | None:
        """The in-domain task, by its own name; None if the record does not name it.

        Records made before it was kept have the described tasks in order, or else what the
        configuration calls it.
        """
        if name := self.record.get("trained_on"):
            return str(name)
        if described := self.record.get("tasks"):
            return str(next(iter(described)))
        tasks = self.config.get("tasks")
        task = tasks.get("train") if isinstance(tasks, Mapping) else None
        return task if isinstance(task, str) else None

    def predictions_path(self, method: str, seed: int, task: str, split: str = "test") -> Path:
        """Where the predictions of one method, seed, task and split lie."""
        return self.folder.predictions_file(method, seed, task, split)

    def predictions(
        self, method: str, seed: int, task: str, split: str = "test"
    ) -> list[Prediction]:
        """Predictions of one method, seed, task and split; kept, up to `MOST_KEPT` rows in all.

        Raises:
            FileNotFoundError: Naming the missing file.
            ValueError: Naming file and line of a malformed row.
        """
        path = self.predictions_path(method, seed, task, split)
        if path in self._kept:
            return self._kept[path]
        _require(path, f"no predictions of {method!r}, seed {seed}, on {task!r} ({split})")
        found = self.folder.read_prediction_file(path)
        if sum(map(len, self._kept.values())) + len(found) <= MOST_KEPT:
            self._kept[path] = found
        return found

    @cached_property
    def _kept(self) -> dict[Path, list[Prediction]]:
        return {}

    @cached_property
    def examples(self) -> dict[str, Example]:
        """Id -> example, of all splits that the run folder keeps except train."""
        every = self.folder.examples.values()
        return {example.id: example for examples in every for example in examples}


def load_run(run_dir: Path | str | RunFolder) -> Run:
    """Load a run folder. Probe, thresholds, logs and split manifest may be absent.

    Args:
        run_dir: The folder; one that was read before is not asked for its questions again.

    Raises:
        FileNotFoundError: If the folder, ``metrics.json``, ``record.json`` or ``config.yaml`` is
            missing.
        ValueError: If a file is malformed, naming it.
    """
    folder = run_dir if isinstance(run_dir, RunFolder) else RunFolder(Path(run_dir).resolve())
    if not folder.path.is_dir():
        raise FileNotFoundError(f"run_dir must be a run folder; there is no folder {folder.path}")
    rows = read_json(_require(folder.metrics, "the run has not been scored"), list)
    manifest = read_json(folder.manifest, dict) if folder.manifest.is_file() else {}
    try:
        check_rows(rows)
        _check_counts(rows, folder)
    except ValueError as error:
        raise ValueError(f"{folder.metrics}: {error}") from error
    config = _require(folder.config, "the run has no configuration")
    return Run(
        folder=folder,
        rows=tuple(rows),
        record=read_json(_require(folder.record, "the run has not finished"), dict),
        config_text=_text(config),
        manifest=manifest,
        probe=tuple(folder.read_probe().values()) if folder.probe.is_file() else (),
        thresholds={key: _thresholds(file) for key, file in folder.thresholds()},
        logs={key: tuple(read_log(file)) for key, file in folder.logs()},
    )


def _check_counts(rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> None:
    asked = {(each.task, each.split): len(each.answers) for each in folder.questions.values()}
    for row in rows:
        n = asked.get((row["task"], row["split"]), row["n"])
        half = n - n // 2 if row["split"] == "calibration" else n
        if row["n"] not in (n, half):
            raise ValueError(
                f"the row of {row['method']}, {row['task']}, {row['split']} is of {row['n']} "
                f"questions, the run asks {n}: `cogcalib run --resume` counts anew"
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text: {error}") from error


def _require(path: Path, why: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{why}: missing {path}")
    return path


def _thresholds(path: Path) -> tuple[Threshold, ...]:
    try:
        return tuple(to_record(Threshold, row) for row in read_json(path, list, WITHOUT))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: no valid thresholds: {error}; {WITHOUT}") from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a trainer's log.

    Raises:
        FolderError: Naming file, row and key of what is no log.
    """
    rows = []
    with damaged(WITHOUT):
        for number, _, row in json_lines(path):
            if not isinstance(row, dict):
                raise ValueError(f"{path}, row {number}: must be an object, got {cut(str(row))}")
            for key in _PLOTTED & row.keys():
                if row[key] is not None and not is_number(row[key]):
                    raise ValueError(
                        f"{path}, row {number}: {key} must be a number, got {row[key]!r}"
                    )
            rows.append(row)
    return rows


def known_shares(log: Path) -> tuple[float | None, float | None]:
    """What the gate called known in its first and in its last epoch, from a trainer's log.

    Returns:
        Shares of the training examples, fractions; None where no gate ran, or nobody noted it.
    """
    rows = read_log(log) if log.is_file() else []
    first, last = (
        next((row[key] for row in reversed(rows) if is_number(row.get(key))), None)
        for key in ("known_first_epoch", "known_last_epoch")
    )
    return first, last


_PLOTTED = {"step", "epoch", "loss", "ce", "penalty", "share_known"}

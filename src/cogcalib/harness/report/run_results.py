"""Read a run folder back: metrics, predictions, thresholds, logs, probe, configuration, record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cogcalib.harness.report.summary import check_rows
from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import read_jsonl
from cogcalib.records import Example, Prediction, ProbeRecord, Threshold

Training = Mapping[tuple[str, int], tuple[Any, ...]]
"""(method, seed) -> rows, in the order of the training."""


@dataclass(frozen=True)
class Run:
    """What a run left behind. Predictions and examples are read when asked for.

    Attributes:
        path: The run folder.
        rows: Rows of ``metrics.json``; fractions.
        record: ``record.json``: configuration, data hashes, versions, code, hardware, timings.
        config_text: ``config.yaml`` as written.
        manifest: ``splits/manifest.json``; empty if there is none.
        probe: What the base model knew of the training split; empty if it was not probed.
        thresholds: (method, seed) -> history of `Threshold`; methods without a gate are absent.
        logs: (method, seed) -> rows of the trainer's log history.
    """

    path: Path
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
        return self.path.name

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

    @property
    def folder(self) -> RunFolder:
        """Where everything lies."""
        return RunFolder(self.path)

    def predictions_path(self, method: str, seed: int, task: str, split: str = "test") -> Path:
        """Where the predictions of one method, seed, task and split lie."""
        return self.folder.predictions_file(method, seed, task, split)

    def predictions(
        self, method: str, seed: int, task: str, split: str = "test"
    ) -> list[Prediction]:
        """Predictions of one method, seed, task and split, read now.

        Raises:
            FileNotFoundError: Naming the missing file.
            ValueError: Naming file and line of a malformed row.
        """
        path = self.predictions_path(method, seed, task, split)
        _require(path, f"no predictions of {method!r}, seed {seed}, on {task!r} ({split})")
        return read_jsonl(path, Prediction)

    def examples(self) -> dict[str, Example]:
        """Id -> example, of all splits that the run folder keeps except train."""
        return {
            example.id: example
            for path in self.folder.tested()
            for example in read_jsonl(path, Example)
        }


def load_run(run_dir: Path | str) -> Run:
    """Load a run folder. Probe, thresholds, logs and split manifest may be absent.

    Raises:
        FileNotFoundError: If the folder, ``metrics.json``, ``record.json`` or ``config.yaml`` is
            missing.
        ValueError: If a file is malformed, naming it.
    """
    path = Path(run_dir).resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"run_dir must be a run folder; there is no folder {path}")
    folder = RunFolder(path)
    rows = _read_json(_require(folder.metrics, "the run has not been scored"), list)
    try:
        check_rows(rows)
    except ValueError as error:
        raise ValueError(f"{folder.metrics}: {error}") from error
    config = _require(folder.config, "the run has no configuration")
    return Run(
        path=path,
        rows=tuple(rows),
        record=_read_json(_require(folder.record, "the run has not finished"), dict),
        config_text=config.read_text(encoding="utf-8"),
        manifest=_read_json(folder.manifest, dict) if folder.manifest.is_file() else {},
        probe=tuple(folder.read_probe().values()) if folder.probe.is_file() else (),
        thresholds={key: _thresholds(file) for key, file in folder.thresholds()},
        logs={key: tuple(_read_log(file)) for key, file in folder.logs()},
    )


def _require(path: Path, why: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{why}: missing {path}")
    return path


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no valid JSON: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: must hold a {kind.__name__}, got a {type(content).__name__}")
    return content


def _thresholds(path: Path) -> tuple[Threshold, ...]:
    try:
        return tuple(Threshold(**row) for row in _read_json(path, list))
    except TypeError as error:
        raise ValueError(f"{path}: no valid thresholds: {error}") from error


def _read_log(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: no valid JSON: {error}") from error
    return rows

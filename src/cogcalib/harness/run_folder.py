"""The folder of a run: the only place that knows where its artifacts lie.

A stage's artifact appears under its final name only when it is whole, so existing means finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cogcalib.owned_folder import OwnedFolder
from cogcalib.records import Prediction, read_jsonl, write_json, write_jsonl

CODE = "code.json"
PROBE = Path("probe") / "train.jsonl"


class RunFolder(OwnedFolder):
    """Names the artifacts of a run and guards them, as `OwnedFolder`."""

    def begun_with(self, code: dict[str, Any]) -> dict[str, Any]:
        """The code that began this run; that is `code` if nothing was noted before."""
        path = self.path / CODE
        if not path.exists():
            write_json(path, code)
        begun: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return begun

    def splits(self, name: str) -> Path:
        """Examples of a split or of a task that is only tested on."""
        return self.path / "splits" / f"{name.replace('/', '-')}.jsonl"

    def probe(self) -> Path:
        """What the base model knows of the training split."""
        return self.path / PROBE

    def train(self, method: str, seed: int) -> Path:
        """Model or adapter, thresholds and log of a trained method."""
        return self.path / "train" / method / f"seed-{seed}"

    def predictions(self, method: str, seed: int) -> Path:
        """Folder of a method's predictions; post-hoc calibrated ones stand apart."""
        stage = "recalibrate" if "+" in method else "score"
        return self.path / stage / method / f"seed-{seed}"

    def tune(self, method: str, seed: int) -> Path:
        """Folder of a trial's predictions: those on the calibration split alone."""
        return self.path / "tune" / method / f"seed-{seed}"

    def write_predictions(self, folder: Path, predictions: Sequence[Prediction]) -> None:
        """Write the predictions of one task and split."""
        first = predictions[0]
        name = f"{first.task.replace('/', '-')}.{first.split}.jsonl"
        write_jsonl(folder / name, predictions)

    def read_predictions(self, folder: Path) -> list[list[Prediction]]:
        """All predictions in a folder, by task and split."""
        return [read_jsonl(file, Prediction) for file in sorted(folder.glob("*.jsonl"))]

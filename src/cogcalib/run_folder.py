"""The folder of a run: who owns it, which stages are finished, what it all depended on.

A stage's artifact appears under its final name only when it is whole, so existing means finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cogcalib.records import (
    Example,
    InputError,
    Prediction,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)

CONFIG = "config.yaml"
CODE = "code.json"
PROBE = Path("probe") / "train.jsonl"
PACKAGES = (
    "cogcalib", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers",
    "numpy", "scipy",
)  # fmt: skip


class RunFolderError(InputError):
    """A run folder that must not be touched: it holds something else."""


class RunFolder:
    """Names the artifacts of a run and guards them.

    Args:
        path: The folder; created if it does not exist.
        config: The configuration as text.
        resume: Go on in a folder that already holds this configuration.
        reread: Brings a configuration held there into the form of `config`, keys that came later
            at their defaults.

    Raises:
        RunFolderError: If the folder holds another configuration or other things, or holds this
            one and `resume` is not set.
    """

    def __init__(
        self, path: Path, config: str, *, resume: bool = False, reread: Callable[[str], str] = str
    ) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file, no run folder")
        if path.is_dir() and any(path.iterdir()):
            self._check_owner(config, resume, reread)
        else:
            write_text(path / CONFIG, config)

    def _check_owner(self, config: str, resume: bool, reread: Callable[[str], str]) -> None:
        held = self.path / CONFIG
        if not held.is_file():
            raise RunFolderError(f"{self.path} is not empty and holds no {CONFIG}: no run of ours")
        difference = _first_difference(reread(held.read_text(encoding="utf-8")), config)
        if difference:
            raise RunFolderError(
                f"{self.path} holds a run of a different configuration ({difference}); "
                "choose another name or remove the folder"
            )
        if not resume:
            raise RunFolderError(
                f"{self.path} already holds this run; pass --resume to go on with it, "
                "or choose another name"
            )

    def claim(self, name: str, content: Any) -> None:
        """Keep what finished stages rest on, or make sure that it is still the same.

        Raises:
            RunFolderError: If the folder was begun with something else.
        """
        path = self.path / name
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != content:
            raise RunFolderError(
                f"{path} says that this run was begun with other data or another model than are "
                "there now; choose another name or remove the folder"
            )
        write_json(path, content)

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


def data_manifest(splits: dict[str, list[Example]]) -> dict[str, dict[str, Any]]:
    """Split -> number of rows and a hash of them."""
    manifest = {}
    for name, examples in splits.items():
        rows = json.dumps([asdict(example) for example in examples], ensure_ascii=False)
        digest = hashlib.sha256(rows.encode()).hexdigest()
        manifest[name] = {"n": len(examples), "sha256": digest}
    return manifest


def versions() -> dict[str, str]:
    """Python and the packages that take part in a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code_state() -> dict[str, Any]:
    """Commit of the checkout this package runs from, and whether it has changes; else None."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A package installed into an environment inside somebody's checkout is not that checkout.
    if git("ls-files", "--error-unmatch", str(here / "records.py")) is None:
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, memory (GiB) and the device trained on."""
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    size = os.sysconf("SC_PAGE_SIZE") if pages else 0
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages * size / 2**30, 1),
        "device": device,
    }


def _first_difference(held: str, wanted: str) -> str | None:
    for before, after in zip(held.splitlines(), wanted.splitlines(), strict=False):
        if before != after:
            return f"it has {before.strip()!r}, not {after.strip()!r}"
    return None if held.strip() == wanted.strip() else "of another length"

"""The run folder: every path inside it, and nobody else knows one.

    config.yaml model.json tasks.json code.json timings.json      what the run is, what it took
    splits/manifest.json splits/<split or task>.jsonl             the questions
    probe/train.jsonl                                             what the base model knows
    train/<method>/seed-<s>/                                      models, thresholds, logs
    score|recalibrate/<method>/seed-<s>/<task>.<split>.jsonl      predictions
    tune/<method>/seed-<s>/ tune.json tuned.yaml                  trials, and what was chosen
    metrics.json record.json report.html                          what came of it
    cells/ detector/ dynamics/                                    of `cogcalib reproduce`

A stage's artifact appears under its final name only when it is whole, so existing means finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cogcalib.artifacts import read_json
from cogcalib.harness.config.methods import split_posthoc
from cogcalib.harness.remedies import ANEW, again, damaged
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.knowledge.ledger import FOLDER as LEDGER
from cogcalib.owned_folder import CONFIG, FolderError, OwnedFolder
from cogcalib.records import Example, Prediction, ProbeRecord, write_json
from cogcalib.scoring.prediction_files import SplitQuestions, check_answers, read_predictions
from cogcalib.tasks.splits import SPLITS

MODEL = "model.json"
TASKS = "tasks.json"
MANIFEST = "splits/manifest.json"
"""Names of what `OwnedFolder.claim` holds a run to."""

_THRESHOLDS, _LOG = "thresholds.json", "log.jsonl"
_SEED = "seed-"


class RunFolder(OwnedFolder):
    """A run's artifacts by name; `RunFolder(path)` only looks, `RunFolder.begin` owns."""

    @property
    def config(self) -> Path:
        """The whole configuration, YAML."""
        return self.path / CONFIG

    @property
    def timings(self) -> Path:
        """Stage -> wall seconds."""
        return self.path / "timings.json"

    @property
    def metrics(self) -> Path:
        """A row for each method, seed, task and split."""
        return self.path / "metrics.json"

    @property
    def record(self) -> Path:
        """A `RunRecord`."""
        return self.path / "record.json"

    @property
    def page(self) -> Path:
        """The report as one HTML file."""
        return self.path / "report.html"

    @property
    def manifest(self) -> Path:
        """Split -> number of rows and their hash; there once the questions are chosen."""
        return self.path / MANIFEST

    @property
    def probe(self) -> Path:
        """What the base model knows of the training split, a `ProbeRecord` a line."""
        return self.path / "probe" / "train.jsonl"

    @property
    def tune_record(self) -> Path:
        """Every trial of a search, every choice and its reason."""
        return self.path / "tune.json"

    @property
    def tuned_config(self) -> Path:
        """The configuration with what was chosen."""
        return self.path / "tuned.yaml"

    @property
    def code(self) -> Path:
        """The code that began the run."""
        return self.path / "code.json"

    def splits(self, name: str) -> Path:
        """Examples of a split, or of a task that is only tested on."""
        return self.path / "splits" / f"{_file_name(name)}.jsonl"

    def tested(self) -> list[Path]:
        """Examples of every split and task but the training split, as far as they are chosen."""
        found = sorted(self.splits("*").parent.glob("*.jsonl"))
        return [path for path in found if path != self.splits("train")]

    def train(self, method: str, seed: int) -> Path:
        """Folder of a trained method: model or adapter, thresholds and log."""
        return self.path / "train" / method / f"{_SEED}{seed}"

    def log(self, method: str, seed: int) -> Path:
        """The trainer's log history."""
        return self.train(method, seed) / _LOG

    def predictions(self, method: str, seed: int) -> Path:
        """Folder of a method's predictions; post-hoc calibrated ones stand apart."""
        stage = "recalibrate" if split_posthoc(method)[1] else "score"
        return self.path / stage / method / f"{_SEED}{seed}"

    def predicted_seeds(self, method: str) -> list[int]:
        """Seeds with which a method has predicted, in order."""
        found = self.predictions(method, 0).parent.glob(f"{_SEED}*[0-9]")
        return sorted(int(path.name.removeprefix(_SEED)) for path in found)

    def predictions_file(self, method: str, seed: int, task: str, split: str = "test") -> Path:
        """Predictions of one task and split."""
        return self.predictions(method, seed) / _predictions_name(task, split)

    def summary(self, method: str, seed: int) -> Path:
        """A method's predictions summed up, as `cogcalib.harness.reproduce.kept_rows` has it."""
        return self.predictions(method, seed) / "metrics.json"

    def cost(self, method: str, seed: int) -> Path:
        """What a baseline costs, as `cogcalib.baselines.Cost`."""
        return cost_file(self.predictions(method, seed))

    def posthoc_maps(self, method: str, seed: int) -> list[Path]:
        """Fitted maps of a post-hoc calibrated method."""
        folder, kind = self.predictions(method, seed), split_posthoc(method)[1]
        return sorted(folder.glob(posthoc_map(folder, kind, "*").name))

    def tune(self, method: str, seed: int) -> Path:
        """Folder of a trial's predictions: those on the calibration split alone."""
        return self.path / "tune" / method / f"{_SEED}{seed}"

    def analysis(self, kind: str, method: str, seed: int) -> Path:
        """What ``detector`` or ``dynamics`` found."""
        return self.path / kind / method / f"{_SEED}{seed}.json"

    def cell(self, name: str) -> Path:
        """Seconds, device and code of a finished cell of `reproduce`."""
        return self.path / "cells" / f"{name}.json"

    def cell_timings(self, name: str) -> Path:
        """Stage -> wall seconds, of a cell."""
        return self.cell(f"stages-{name}")

    def training_cost(self, method: str, seed: int) -> Path:
        """Seconds of one training."""
        return self.cell(f"training-{method}-{_SEED}{seed}")

    def cells(self) -> Iterator[Path]:
        """Of every finished cell, as `cell` names them."""
        for path in sorted(self.cell("*").parent.glob("*.json")):
            if not path.name.startswith(("training-", "stages-")):
                yield path

    def thresholds(self) -> list[tuple[tuple[str, int], Path]]:
        """((method, seed), threshold history) of every training that estimated one."""
        return self._trained(_THRESHOLDS)

    def logs(self) -> list[tuple[tuple[str, int], Path]]:
        """((method, seed), log) of every training."""
        return self._trained(_LOG)

    def ledgers(self) -> list[tuple[tuple[str, int], Path]]:
        """((method, seed), training folder) of every training that kept a knowledge ledger."""
        return [(key, path.parent) for key, path in self._trained(LEDGER)]

    def _trained(self, file: str) -> list[tuple[tuple[str, int], Path]]:
        found = []
        for each in sorted(self.path.glob(f"train/*/{_SEED}*/{file}")):
            seed = each.parent.name.removeprefix(_SEED)
            if not seed.isdecimal():
                if each.parent.suffix == _UNFINISHED:
                    continue
                raise ValueError(f"{each.parent}: the folder must be called {_SEED}<number>")
            found.append(((each.parent.parent.name, int(seed)), each))
        return found

    def begun_with(self, code: dict[str, Any]) -> dict[str, Any]:
        """The code that began this run; that is `code` if nothing was noted before."""
        if not self.code.exists():
            write_json(self.code, code)
        return read_json(self.code, dict, ANEW)

    def read_tasks(self) -> dict[str, Any]:
        """Task, by its own name and the one trained on first, -> what was done to it."""
        return read_json(self.path / TASKS, dict, ANEW)

    def read_splits(self) -> dict[str, list[Example]]:
        """Split or out-of-domain task -> its examples, as they were chosen."""
        chosen = read_json(self.manifest, dict, ANEW)
        names = [*SPLITS, *(name for name in chosen if name not in SPLITS)]
        with damaged(ANEW):
            return {name: read_jsonl(self.splits(name), Example) for name in names}

    def read_probe(self) -> dict[str, ProbeRecord]:
        """Example id -> what the base model knows of it."""
        with damaged(again(self.probe)):
            return {record.id: record for record in read_jsonl(self.probe, ProbeRecord)}

    def write_predictions(self, folder: Path, predictions: Sequence[Prediction]) -> None:
        """Write the predictions of one task and split into a folder of predictions."""
        first = predictions[0]
        write_jsonl(folder / _predictions_name(first.task, first.split), predictions)

    def read_predictions(self, folder: Path) -> list[list[Prediction]]:
        """All predictions in a folder, by task and split; each file is held against its questions.

        Raises:
            FolderError: Naming the file that is damaged, missing, or not of its questions.
        """
        missing = sorted(folder / name for name in self.questions if not (folder / name).is_file())
        if missing:
            raise FolderError(f"{missing[0]}: the file is missing; {again(folder)}")
        return [self.read_prediction_file(file) for file in sorted(folder.glob("*.jsonl"))]

    def read_trial(self, method: str, seed: int) -> list[Prediction]:
        """A trial's predictions, which answer the calibration split and nothing else.

        Raises:
            FolderError: As `read_predictions`.
        """
        folder = self.tune(method, seed)
        asked = [name for name, each in self.questions.items() if each.split == "calibration"]
        found = sorted(folder.glob("*.jsonl"))
        if len(found) != 1 or (asked and found[0].name not in asked):
            raise FolderError(
                f"{folder} must hold {', '.join(asked) or 'one file of predictions'}, got "
                f"{', '.join(path.name for path in found) or 'nothing'}; {again(folder)}"
            )
        return self.read_prediction_file(found[0])

    def read_prediction_file(self, file: Path) -> list[Prediction]:
        """Predictions of one task and split, see `read_predictions`."""
        with damaged(again(file.parent)):
            predictions = read_predictions(file)
            if file.name in self.questions:
                self._check_predictions(file, predictions)
            elif self.questions:
                raise ValueError(f"{file}: the run asks no such questions")
        return predictions

    @cached_property
    def questions(self) -> Mapping[str, SplitQuestions]:
        """Name of a file of predictions -> its questions; empty if the run keeps none."""
        found = {}
        with damaged(ANEW):
            chosen = read_json(self.manifest, dict) if self.manifest.is_file() else {}
            if wrong := [k for k, entry in chosen.items() if not isinstance(entry, dict)]:
                raise ValueError(f"{self.manifest}: {wrong[0]} must be an object")
            counts = {self.splits(name).name: entry.get("n") for name, entry in chosen.items()}
            for path, examples in self.examples.items():
                n = len(examples)
                if not n or n != counts.get(path.name, n):
                    raise ValueError(f"{path}: {n} questions, chosen were {counts.get(path.name)}")
                first = examples[0]
                found[_predictions_name(first.task, first.split)] = SplitQuestions.of(examples)
        return found

    @cached_property
    def examples(self) -> Mapping[Path, Sequence[Example]]:
        """File -> its questions, of all splits that are kept except train."""
        with damaged(ANEW):
            return {path: read_jsonl(path, Example) for path in self.tested()}

    def _check_predictions(self, file: Path, predictions: Sequence[Prediction]) -> None:
        questions = self.questions[file.name]
        if questions.split == "calibration" and len(predictions) != len(questions.answers):
            questions = questions.for_choice(int(file.parent.name.removeprefix(_SEED)))
        check_answers(file, predictions, questions)
        method = file.parents[1].name
        for row in predictions:
            # As `RunContext.model_name` has it.
            if row.model.endswith(")") and not row.model.endswith(f" ({method})"):
                wrong = f"of the model {row.model!r}, not of the method {method}"
                raise ValueError(f"{file}: row {row.id!r} is {wrong}")
            if row.run != predictions[0].run:
                runs = f"{predictions[0].run!r} and {row.run!r}"
                raise ValueError(f"{file}: rows of two runs, {runs}")


_UNFINISHED = ".partial"


def unfinished(path: Path) -> Path:
    """Where a folder is built, before it is whole and gets its name."""
    return path.with_name(f"{path.name}{_UNFINISHED}")


def cost_file(folder: Path) -> Path:
    """What a baseline costs, in its folder of predictions."""
    return folder / "cost.json"


def posthoc_map(folder: Path, posthoc: str, definition: str) -> Path:
    """A fitted map in a folder of predictions, of a confidence definition."""
    return folder / f"{'temperature' if posthoc == 'ts' else posthoc}-{definition}.json"


def read_posthoc_map(path: Path) -> dict[str, Any]:
    """What was fitted, as `posthoc_map` names its file."""
    return read_json(path, dict, again(path.parent))


def _predictions_name(task: str, split: str) -> str:
    return f"{_file_name(task)}.{split}.jsonl"


def _file_name(task: str) -> str:
    return task.replace("/", "-")


def check_distinct(tasks: Sequence[str]) -> None:
    """Raise unless a run can keep its tasks' questions apart.

    Args:
        tasks: Own names, the one trained on first.

    Raises:
        ValueError: Naming a task that stands twice, or that would be filed as another.
    """
    seen = {split: f"the split {split}" for split in SPLITS}
    trained, *others = tasks
    filed = {_file_name(trained): trained}
    for name in others:
        if name in filed.values():
            raise ValueError(
                f"tasks.out_of_domain must not hold tasks.train, nor a task twice, got {name}"
            )
        if other := seen.get(_file_name(name)) or filed.get(_file_name(name)):
            raise ValueError(f"tasks.out_of_domain: the name {name} would be filed as {other} is")
        filed[_file_name(name)] = name

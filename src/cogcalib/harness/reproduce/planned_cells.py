"""The cells of a plan: what one process does at once, and what each leaves.

Prepare a place, try an alpha, train a model and predict with it, predict with several models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cogcalib.harness.config import Method, dump_config, parse_config
from cogcalib.harness.reproduce.plan import Place, Plan, folder_name
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages import member_seeds
from cogcalib.harness.tuning import candidates

Kind = Literal["prepare", "trial", "train", "member", "baseline", "detector", "dynamics"]


@dataclass(frozen=True)
class Cell:
    """What one process does at once.

    Attributes:
        place: Where.
        kind: ``prepare``; ``trial``: train and predict the calibration split; ``train``: train and
            predict everything; ``member``: only train; ``baseline``: predict with what was trained
            and predicted before; ``detector`` and ``dynamics``: see the modules of these names.
        method: What is trained, or the baseline; empty for ``prepare``.
        seed: Of the training.
        predicted: Methods whose predictions it leaves.
        further: More seeds of them: the base model is the same for all.
    """

    place: Place
    kind: Kind
    method: str = ""
    seed: int = 0
    predicted: tuple[str, ...] = ()
    further: tuple[int, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that it predicts with."""
        return self.seed, *self.further

    @property
    def name(self) -> str:
        """Unique within its place."""
        return f"{self.kind}-{self.method}-seed-{self.seed}" if self.method else self.kind

    @property
    def key(self) -> tuple[Path, str, tuple[str, ...], tuple[int, ...]]:
        """Unique among all cells."""
        return self.place.path, self.name, self.predicted, self.further

    @property
    def label(self) -> str:
        """For people."""
        return f"{folder_name(self.place.path)}: {self.name}"

    def missing(self) -> bool:
        """Whether something it leaves is not there yet."""
        return not all(path.exists() for path in self._outputs())

    def to_json(self) -> str:
        """On one line, for another process."""
        place = self.place
        return json.dumps(
            {
                "place": [place.model, place.task, place.variant, str(place.path)],
                "config": dump_config(place.config),
                "cell": [self.kind, self.method, self.seed, self.predicted, self.further],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """Read back what `to_json` wrote."""
        values = json.loads(text)
        model, task, variant, path = values["place"]
        kind, method, seed, predicted, further = values["cell"]
        place = Place(model, task, variant, Path(path), parse_config(values["config"]), ())
        return cls(place, kind, method, seed, tuple(predicted), tuple(further))

    def _outputs(self) -> Iterator[Path]:
        folder = RunFolder(self.place.path)
        if self.kind == "prepare":
            yield from (folder.probe, folder.manifest)
        elif self.kind == "trial":
            yield folder.tune(self.method, self.seed)
        elif self.kind == "member":
            yield folder.train(self.method, self.seed)
        elif self.kind in ("detector", "dynamics"):
            yield folder.analysis(self.kind, self.method, self.seed)
        for seed in self.seeds:
            for name in self.predicted:
                yield folder.predictions(name, seed)


def weights_of(cell: Cell) -> list[Path]:
    """Folders of the trained models that a cell makes or asks."""
    if not cell.method or cell.kind == "dynamics":  # which keeps none
        return []
    method = Method.parse(cell.method)
    if method.trained == "base":
        return []
    folder, config = RunFolder(cell.place.path), cell.place.config
    return [folder.train(method.trained, each) for each in member_seeds(config, method, cell.seed)]


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """The cells without repetitions, in order."""
    return list({cell.key: cell for cell in cells}.values())


def prepare_cells(plan: Plan) -> list[Cell]:
    """What every place needs first."""
    return [Cell(place, "prepare") for place in plan.places]


def trial_cells(plan: Plan) -> list[Cell]:
    """Every alpha of the grid, and SFT to compare them with."""
    cells = []
    for place in plan.tuned():
        names = [each.name for method in plan.tunable(place) for each in candidates(method)]
        if names:  # else there is nothing to compare SFT with
            names.insert(0, "sft")
        cells += [
            Cell(place, "trial", name, seed)
            for seed in plan.tune_seeds
            for name in dict.fromkeys(names)
        ]
    return cells


def rests_on_others(method: Method) -> bool:
    """Whether it is predicted after others: with their models, or held against the base."""
    return method.baseline in ("ensemble", "laplace") or method.held_against_base


def row_cells(place: Place, names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Cells that predict the named methods, by what is trained; what rests on others apart.

    The base model is asked, too, where a method is held against it.
    """
    cells = []
    aligned = any(Method.parse(name).held_against_base for name in names)
    asked = dict.fromkeys([*names, *["base"] * aligned])
    untrained = tuple(name for name in asked if Method.parse(name).trained == "base")
    if untrained and seeds:
        cells.append(Cell(place, "train", "base", seeds[0], untrained, tuple(seeds[1:])))
    for seed in seeds:
        by_training: dict[str, list[str]] = {}
        for method in map(Method.parse, [name for name in names if name not in untrained]):
            if not rests_on_others(method):
                by_training.setdefault(method.trained, []).append(method.name)
                continue
            members = member_seeds(place.config, method, seed)
            by_training.setdefault(method.trained, [])
            cells += [Cell(place, "member", method.trained, each) for each in members[1:]]
        cells += [
            Cell(place, "train", trained, seed, tuple(predicted))
            if predicted
            else Cell(place, "member", trained, seed)
            for trained, predicted in by_training.items()
        ]
    return distinct(cells)


def baseline_cells(place: Place, names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Cells that predict with models trained before, or from predictions made before."""
    cells = []
    for seed in seeds:
        by_name: dict[str, list[str]] = {}
        for method in filter(rests_on_others, map(Method.parse, names)):
            of = method.stem if method.baseline else method.trained
            by_name.setdefault(of, []).append(method.name)
        cells += [
            Cell(place, "baseline", name, seed, tuple(predicted))
            for name, predicted in by_name.items()
        ]
    return cells


def analysis_cells(
    kind: Literal["detector", "dynamics"], place: Place, names: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """Cells that look into the named methods instead of scoring them."""
    return [Cell(place, kind, name, seed) for seed in seeds for name in names]

"""The best of several methods, by the calibration split and a stated rule."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cogcalib.harness.reproduce import execute
from cogcalib.harness.reproduce.definitions import Best
from cogcalib.harness.reproduce.execute import choose_best

CALIBRATION = {  # accuracy, ECE, NLL of each seed
    "sft": [(0.70, 0.20, 1.20), (0.70, 0.20, 1.20)],
    "cols": [(0.72, 0.05, 0.90), (0.68, 0.05, 0.90)],
    "combls": [(0.71, 0.08, 0.80), (0.71, 0.08, 0.82)],
    "coecp": [(0.60, 0.01, 0.70), (0.60, 0.01, 0.70)],
}
SEEDS = range(2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def rows(_: Any, method: str, seed: int) -> list[dict[str, Any]]:
        accuracy, ece, nll = CALIBRATION[method][seed]
        found = {"split": "calibration", "accuracy": accuracy, "nll": nll}
        found |= {"method": method, "seed": seed}
        # The test split would turn every choice round; other definitions of confidence, too.
        test = {"split": "test", "accuracy": 1.0, "nll": -nll, "ece": {"vocab": {"value": -ece}}}
        return [found | {"ece": {"vocab": {"value": -ece}, "options": {"value": ece}}}, test]

    monkeypatch.setattr(execute, "read_rows", rows)
    return SimpleNamespace(path=tmp_path, predictions=lambda method, seed: tmp_path)


def best(folder: Any, *among: str, rule: str = "ece") -> str:
    resolved = {name: name for name in CALIBRATION}
    return choose_best(folder, Best(among=among), resolved, SEEDS, rule)  # type: ignore[arg-type]


def test_the_lowest_ece_of_those_that_keep_the_accuracy(folder: Any) -> None:
    assert best(folder, "cols", "combls", "coecp") == "cols"


def test_the_most_accurate_where_none_keeps_it(folder: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(CALIBRATION, "sft", [(0.9, 0.2, 1.2), (0.9, 0.2, 1.2)])
    assert best(folder, "cols", "combls", "coecp") == "combls"


def test_the_lowest_nll_of_those_that_keep_the_accuracy(folder: Any) -> None:
    assert best(folder, "cols", "combls", rule="nll") == "combls"
    assert best(folder, "cols", "combls", "coecp", rule="nll") == "combls"


def test_nothing_is_chosen_without_predictions(folder: Any, tmp_path: Path) -> None:
    folder.predictions = lambda method, seed: tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        best(folder, "cols")

"""Gates that saturate: a tiny run, each fold judged by a stranger, figures by hand, the rule."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cogcalib.harness.report.columns import MISSING
from cogcalib.jsonl import read_jsonl
from cogcalib.knowledge.ledger import read_ledger
from cogcalib.metrics import PairedDifference
from cogcalib.records import Prediction, ProbeRecord

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
QUESTIONS = 32


@pytest.fixture(scope="module")
def gates() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        module = importlib.import_module("gate_saturation")
        kept = ("sft", "nll", "folds")
        patch.setattr(module, "GATES", {gate: module.GATES[gate] for gate in kept})
        patch.setattr(module, "PAIRS", [("folds", "nll"), ("sft", "nll")])
        patch.setattr(module, "CANDIDATES", ("folds",))
        yield module


@pytest.fixture(scope="module")
def regime(gates: ModuleType) -> Any:
    return gates.Regime(
        questions=QUESTIONS, steps=6, style_steps=1, fold_steps=2, calibration=40, test=30
    )


@pytest.fixture(scope="module")
def trained(
    gates: ModuleType, regime: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[Path, set[str]]]]:
    """The output of one seed, and of each training its folder and its questions."""
    output, real = tmp_path_factory.mktemp("gates"), gates.train_into
    seen: list[tuple[Path, set[str]]] = []

    def noted(folder: Path, config: Any, method: Any, seed: int, splits: Any, *others: Any) -> None:
        seen.append((folder, {each.id for each in splits["train"]}))
        real(folder, config, method, seed, splits, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "train_into", noted)
        gates.run(output, [3], regime, resamples=20)
    return output, seen


def test_each_half_is_judged_by_a_model_that_never_saw_it(
    trained: tuple[Path, list[tuple[Path, set[str]]]], regime: Any
) -> None:
    output, seen = trained
    every = {each.id for each in regime.splits(3)["train"]}
    learnt = [asked for folder, asked in seen if folder.name.startswith("fold-")]
    assert [len(asked) for asked in learnt] == [QUESTIONS // 2] * 2
    assert learnt[0] | learnt[1] == every
    assert [asked for folder, asked in seen if folder.name == "model"] == [every] * 3
    labels = read_jsonl(output / "seed-3" / "folds.jsonl", ProbeRecord)
    # The halves as judged: first those that the first model was not trained on.
    assert [row.id in learnt[1] for row in labels] == [True] * 16 + [False] * 16
    assert 0 < sum(row.known for row in labels) < QUESTIONS


def test_shares_by_epoch(trained: tuple[Path, Any]) -> None:
    output, _ = trained
    record = json.loads((output / "gate-saturation.json").read_text("utf-8"))["gates"]
    labels = read_jsonl(output / "seed-3" / "folds.jsonl", ProbeRecord)
    share = sum(row.known for row in labels) / QUESTIONS
    assert len(record["folds"]["open"]) == 3
    assert record["folds"]["open"][1:] == [share, share]
    assert record["folds"]["open"][0] < share  # half of the first epoch is the style phase
    ledger = read_ledger(output / "seed-3" / "folds" / "model").to_pylist()
    assert {row["example"]: row["weight"] == 1 for row in ledger if row["step"] > 1} == {
        row.id: row.known for row in labels
    }
    assert record["nll"]["open"] != record["folds"]["open"]
    assert record["sft"]["open"] == []


def test_figures_by_hand(trained: tuple[Path, Any]) -> None:
    output, _ = trained
    record = json.loads((output / "gate-saturation.json").read_text("utf-8"))
    nll = {}
    for gate in ("sft", "nll", "folds"):
        rows = read_jsonl(output / "seed-3" / gate / "test.jsonl", Prediction)
        assert len(rows) == 30
        found = record["gates"][gate]["test"]
        for way in ("none", "temperature"):
            assert found[way]["accuracy"] == [pytest.approx(np.mean([r.correct for r in rows]))]
        nll[gate] = np.mean([row.nll for row in rows])
        assert found["none"]["NLL"] == [pytest.approx(nll[gate], rel=1e-5)]
        assert found["temperature"]["NLL"] != found["none"]["NLL"]
        sure = [row.confidence["options"] for row in rows]
        brier = np.mean([(p - row.correct) ** 2 for p, row in zip(sure, rows, strict=True)])
        assert found["none"]["Brier"] == [pytest.approx(brier, rel=1e-5)]
        calibration = read_jsonl(output / "seed-3" / gate / "calibration.jsonl", Prediction)
        assert len(calibration) == 20
    gap = record["differences"]["folds - nll"]["none"]["NLL"]
    assert gap["difference"] == pytest.approx(nll["folds"] - nll["nll"], abs=1e-6)
    assert gap["low"] <= gap["difference"] <= gap["high"]
    text = (output / "gate-saturation.md").read_text("utf-8")
    assert f"| sft | {MISSING} | {MISSING} |" in text
    assert "`folds` " in text


def test_what_is_there_is_not_trained_again(
    gates: ModuleType, regime: Any, trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _ = trained
    before = (output / "gate-saturation.md").read_text("utf-8")

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(gates, "train_into", refuse)
    gates.run(output, [3], regime, resamples=20)
    assert (output / "gate-saturation.md").read_text("utf-8") == before
    (output / "seed-3" / "nll" / "cell.json").rename(output / "kept.json")
    with pytest.raises(AssertionError, match="trained again"):
        gates.run(output, [3], regime, resamples=20)


@pytest.mark.parametrize(
    ("nll", "brier", "taken"),
    [
        ((-0.2, -0.1), (-0.1, 0.1), True),
        ((-0.2, 0.1), (-0.2, -0.1), True),
        ((-0.2, 0.1), (-0.2, 0.1), False),
        ((0.1, 0.2), (-0.2, -0.1), False),
    ],
)
def test_nll_decides_and_then_the_brier_score(
    gates: ModuleType, nll: tuple[float, float], brier: tuple[float, float], taken: bool
) -> None:
    told = [PairedDifference(sum(each) / 2, *each, 0.5) for each in (nll, brier)]
    assert gates.replaces(*told) is taken

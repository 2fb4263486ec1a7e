"""The page on why: its figures by hand, on predictions made up so that the answer is known."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.special import log_softmax

from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import write_jsonl
from cogcalib.records import Example, InputError, Option, Prediction
from cogcalib.scoring import fit_to_base

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
LETTERS = "ABCD"
SHARPENED = {"home": 2.0, "near": 3.0, "far": 5.0}
"""Task -> how many times too sure the fine-tuned model is there: its oracle temperature."""


@pytest.fixture(scope="module")
def why() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("carry_why")


def made_up(task: str, split: str, n: int) -> tuple[list[Example], dict[str, list[Prediction]]]:
    """Questions whose answers are drawn from the true logits; the base shows these, tuned more."""
    rng = np.random.default_rng([list(SHARPENED).index(task), split == "test"])
    true = 1.5 * rng.normal(size=(n, 4))
    gold = [int(rng.choice(4, p=np.exp(row))) for row in log_softmax(true, axis=1)]
    examples = [
        Example(f"{task}-{split}-{i}", task, split, f"{task} {split} {i}?",
                tuple(Option(letter, f"{letter} of {i}") for letter in LETTERS), LETTERS[at])
        for i, at in enumerate(gold)
    ]  # fmt: skip
    tuned = SHARPENED[task] * true
    tuned[::5] = tuned[::5, ::-1]  # a fifth of the answers have nothing to do with the question
    found = {}
    for method, logits in (("base", true), ("sft", tuned)):
        shares = log_softmax(logits, axis=1)
        found[method] = [
            Prediction(
                e.id, task, split, e.answer, LETTERS[int(row.argmax())],
                int(row.argmax()) == at, float(-row[at]), {"options": float(np.exp(row.max()))},
                tuple(row.tolist()), f"m ({method})", "r",
            )
            for e, row, at in zip(examples, shares, gold, strict=True)
        ]  # fmt: skip
    return examples, found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    held = RunFolder(tmp_path_factory.mktemp("run"))
    counts = {}
    for task, split, n in (
        ("home", "calibration", 600), ("home", "test", 600), ("near", "test", 600),
        ("far", "test", 600),
    ):  # fmt: skip
        examples, predictions = made_up(task, split, n)
        name = split if task == "home" else task
        write_jsonl(held.splits(name), examples)
        counts[name] = {"n": n}
        for method, rows in predictions.items():
            write_jsonl(held.predictions_file(method, 0, task, split), rows)
    held.manifest.write_text(json.dumps(counts), encoding="utf-8")
    return held


def test_temperatures_agreement_and_calibration_by_hand(why: ModuleType, folder: RunFolder) -> None:
    rows = why.read(folder, ["sft"], [0])
    assert [(row["task"], row["in_domain"]) for row in rows] == [
        ("home", True), ("far", False), ("near", False),
    ]  # fmt: skip
    in_domain = {row["temperature"]["in_domain"] for row in rows}
    assert len(in_domain) == 1
    for row in rows:
        _, predictions = made_up(row["task"], "test", 600)
        sft, base = predictions["sft"], predictions["base"]
        alike = np.array([a.prediction == b.prediction for a, b in zip(sft, base, strict=True)])
        correct = np.array([each.correct for each in sft])
        sure = np.array([each.confidence["options"] for each in sft])
        assert row["agreement"] == pytest.approx(alike.mean())
        assert row["accuracy"] == pytest.approx(correct.mean())
        assert row["nll"]["none"] == pytest.approx(np.mean([each.nll for each in sft]))
        assert row["agree"]["accuracy"] == pytest.approx(correct[alike].mean())
        assert row["disagree"]["confidence"] == pytest.approx(sure[~alike].mean())
        assert row["nll"]["oracle"] == min(row["nll"].values())
        # Where both agree the base model is the truth, sharpened: daca finds by how much.
        assert row["temperature"]["unlabelled"] == pytest.approx(SHARPENED[row["task"]], rel=0.2)
        assert row["temperature"]["oracle"] > row["temperature"]["unlabelled"]
        assert row["disagree"]["confidence"] > row["disagree"]["accuracy"] + 0.2
    by_task = {row["task"]: row for row in rows}
    assert by_task["far"]["spread"] > by_task["near"]["spread"] > by_task["home"]["spread"]


def test_means_are_over_seeds(why: ModuleType) -> None:
    rows = [{"a": 1.0, "b": {"c": 3.0, "d": None}}, {"a": 2.0, "b": {"c": 5.0, "d": 1.0}}]
    assert why.mean_of(rows) == {"a": 1.5, "b": {"c": 4.0, "d": None}}


def test_the_files(
    why: ModuleType, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--run", str(folder.path), "--name", "made-up", "--methods", "sft", "base"]
    monkeypatch.setattr(sys, "argv", ["carry_why.py", *words, "--docs", str(tmp_path)])
    why.main()
    record = json.loads((tmp_path / "results" / "carry-why-made-up.json").read_text("utf-8"))
    assert len(record["rows"]) == 6
    text = (tmp_path / "results" / "carry-why-made-up.md").read_text("utf-8")
    assert "## SFT" in text
    assert "| home (trained on) | 600 |" in text
    assert "![carry-why-made-up](carry-why-made-up.svg)" in text
    base = [row for row in record["rows"] if row["method"] == "base"]
    assert {row["agreement"] for row in base} == {1.0}
    assert {row["disagree"]["accuracy"] for row in base} == {None}
    assert (tmp_path / "results" / "carry-why-made-up.svg").read_text("utf-8").startswith("<svg")


def test_halfway_is_between_the_two_temperatures_and_compared_task_by_task(
    why: ModuleType, folder: RunFolder
) -> None:
    halfway = importlib.import_module("carry_halfway")
    assert halfway.read(folder, "sft", [0], least=601) == {}
    found = halfway.read(folder, "sft", [0], least=600)
    assert sorted(found) == ["far", "near"]  # not the task trained on
    rows = {row["task"]: row for row in why.read(folder, ["sft"], [0])}
    (of_base,) = {row["temperature"]["in_domain"] for row in why.read(folder, ["base"], [0])}
    for task, ((held,), row) in {task: (found[task], rows[task]) for task in found}.items():
        for way, name in (("none", "none"), ("in domain", "in_domain"), ("unlabelled",) * 2):
            assert held[way].nll.mean() == pytest.approx(row["nll"][name])
        _, predictions = made_up(task, "test", 600)
        shares = np.array([each.option_logprobs for each in predictions["sft"]])
        temperature = (row["temperature"]["in_domain"] * row["temperature"]["unlabelled"]) ** 0.5
        sure = np.exp(log_softmax(shares / temperature, axis=1).max(axis=1))
        assert held["halfway"].sure == pytest.approx(sure)
        squared = np.exp(log_softmax(shares / row["temperature"]["in_domain"] ** 2, axis=1))
        assert held["squared"].sure == pytest.approx(squared.max(axis=1))
        to_base = fit_to_base(predictions["sft"], at(predictions["base"], of_base)).temperature_
        temperature = (row["temperature"]["in_domain"] * to_base) ** 0.5
        sure = np.exp(log_softmax(shares / temperature, axis=1).max(axis=1))
        assert held["halfway, base scaled"].sure == pytest.approx(sure)
    lines = list(halfway.compared(found))
    assert len(lines) == 4 * 6
    (told,) = (line for line in lines if line.split()[:2] == ["NLL", "none"])
    mean = np.mean([row["nll"]["none"] for task, row in rows.items() if task != "home"])
    assert told.split()[2] == f"{mean:.4f}"
    assert told.endswith("lower on 0 of 2")  # far too sure: no temperature is worse


def at(rows: Sequence[Prediction], temperature: float) -> list[Prediction]:
    """The same answers with their shares at a temperature."""
    hot = [tuple(z / temperature for z in row.option_logprobs or ()) for row in rows]
    return [replace(row, option_logprobs=z) for row, z in zip(rows, hot, strict=True)]


def test_what_was_not_predicted_is_named(why: ModuleType, folder: RunFolder) -> None:
    with pytest.raises(InputError, match="no predictions of cols with seed 0"):
        why.read(folder, ["cols"], [0])

"""Accuracy and calibration of an evaluation set, read off the evaluation's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_run import make_data, make_model, make_rows, make_trainer

from cogcalib.metrics import aurc, brier_score, expected_calibration_error
from cogcalib.modeling import load_model
from cogcalib.modeling.encoding import to_dataset
from cogcalib.scoring import ScoreSettings, score
from cogcalib.tasks import load_task

NAMES = {"eval_accuracy", "eval_ece", "eval_brier", "eval_aurc", "eval_nll"}
HELD_OUT = make_data(26, seed=5)  # in batches of 8 the last is short
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "padding-free": {"padding_free": True, "max_length": None},
    "packed": {"packing": True, "max_length": 40},
}


def evaluated(tmp_path: Path, held_out: Any = HELD_OUT, **settings: Any) -> Any:
    return make_trainer(tmp_path, sft_arguments={"eval_dataset": held_out}, **settings)


def of_calibration(found: dict[str, float]) -> dict[str, float]:
    return {name: found[name] for name in NAMES & found.keys()}


@torch.no_grad()
def options_by_hand(model: Any, dataset: Dataset) -> dict[str, float]:
    model.eval()
    confidence, correct, nll = [], [], []
    for row in dataset:
        first = next(t for t, label in enumerate(row["labels"]) if label != -100)
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, first - 1]
        p = logits[row["option_ids"]].double().softmax(0)
        gold = row["option_ids"].index(row["labels"][first])
        confidence.append(float(p.max()))
        correct.append(int(p.argmax()) == gold)
        nll.append(-float(p[gold].log()))
    return {**by_metrics(confidence, correct), "eval_nll": float(np.mean(nll))}


@torch.no_grad()
def answers_by_hand(model: Any, dataset: Dataset) -> dict[str, float]:
    model.eval()
    confidence, correct = [], []
    for row in dataset:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(row["labels"])[1:]
        logits, labels = logits[labels != -100].double(), labels[labels != -100]
        confidence.append(float(logits.log_softmax(1).amax(1).mean().exp()))
        correct.append(bool((logits.argmax(1) == labels).all()))
    return by_metrics(confidence, correct)


def by_metrics(confidence: list[float], correct: list[bool]) -> dict[str, float]:
    return {
        "eval_accuracy": float(np.mean(correct)),
        "eval_ece": expected_calibration_error(confidence, correct, bins=15),
        "eval_brier": brier_score(confidence, correct),
        "eval_aurc": aurc(confidence, correct),
    }


@pytest.mark.parametrize("gate", ["nll", "none"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_options_are_judged_as_by_hand(tmp_path: Path, gate: str, layout: str) -> None:
    trainer = evaluated(tmp_path, gate=gate, **LAYOUTS[layout])
    trainer.train()
    expected = options_by_hand(trainer.model, evaluated(tmp_path).eval_dataset)
    assert 0 < expected["eval_accuracy"] < 1
    assert of_calibration(trainer.evaluate()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_are_judged_as_by_hand(tmp_path: Path, layout: str) -> None:
    bare = HELD_OUT.remove_columns("options")
    train = make_data(32).remove_columns("options")
    settings = {"train": train, "calibration": None, "gate": "none", "max_steps": 12}
    trainer = evaluated(tmp_path, bare, **settings, **LAYOUTS[layout])
    trainer.train()
    expected = answers_by_hand(trainer.model, evaluated(tmp_path, bare).eval_dataset)
    assert 0 < expected["eval_accuracy"] < 1
    assert of_calibration(trainer.evaluate()) == pytest.approx(expected, rel=1e-5)


def test_examples_without_options_among_others_are_not_counted(tmp_path: Path) -> None:
    rows = make_rows(26, seed=5)
    mixed = [{**row, "options": row["options"] if n % 3 else None} for n, row in enumerate(rows)]
    alone = [row for n, row in enumerate(rows) if n % 3]
    found = [
        of_calibration(evaluated(tmp_path, Dataset.from_list(each)).evaluate())
        for each in (mixed, alone)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_every_set_has_its_own(tmp_path: Path) -> None:
    sets = {"train": make_data(9, seed=6), "calibration": HELD_OUT}
    trainer = evaluated(tmp_path, sets)
    found = trainer.evaluate()
    for name, dataset in sets.items():
        alone = trainer.evaluate(dataset)
        assert of_calibration(alone).keys() == NAMES
        for each in NAMES:
            named = each.replace("eval_", f"eval_{name}_")
            assert found[named] == pytest.approx(alone[each], rel=1e-6)


def test_an_evaluation_set_prepared_before_may_come_in_parts(tmp_path: Path) -> None:
    trainer = evaluated(tmp_path)
    parts = [trainer.eval_dataset.select(range(5)), trainer.eval_dataset.select(range(3, 8))]
    from datasets import concatenate_datasets

    twice = concatenate_datasets(parts)
    expected = options_by_hand(trainer.model, twice)
    assert of_calibration(trainer.evaluate(twice)) == pytest.approx(expected, rel=1e-5)


def test_one_argument_turns_it_off(tmp_path: Path) -> None:
    off, on = (evaluated(tmp_path, eval_calibration=each) for each in (False, True))
    assert of_calibration(off.evaluate()) == {}
    assert "example_number" not in off.eval_dataset.column_names
    assert off.evaluate()["eval_loss"] == on.evaluate()["eval_loss"]


def test_logged_while_training_and_chosen_by(tmp_path: Path) -> None:
    trainer = evaluated(
        tmp_path,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_ece",
        greater_is_better=False,
    )
    trainer.train()
    logged = [row["eval_ece"] for row in trainer.state.log_history if "eval_ece" in row]
    assert len(logged) == 3
    assert trainer.state.best_metric == min(logged)
    assert trainer.evaluate()["eval_ece"] == pytest.approx(min(logged), rel=1e-5)


def test_text_without_a_prompt_has_no_answers(tmp_path: Path) -> None:
    text = Dataset.from_list([{"text": row["prompt"]} for row in make_rows(8)])
    trainer = evaluated(tmp_path, text, train=text, gate="none", calibration=None)
    found = trainer.evaluate()
    assert of_calibration(found) == {}
    assert found["eval_loss"] > 0


def test_diverged_model_is_evaluated(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    found = of_calibration(evaluated(tmp_path, model=model).evaluate())
    assert found.keys() == NAMES
    assert all(map(np.isnan, found.values()))


def test_metrics_of_ones_own_stand(tmp_path: Path) -> None:
    arguments = {"eval_dataset": HELD_OUT, "compute_metrics": lambda _: {"accuracy": 7.0}}
    found = make_trainer(tmp_path, sft_arguments=arguments).evaluate()
    assert found["eval_accuracy"] == 7.0
    assert found["eval_ece"] > 0


def test_evaluation_says_what_scoring_says(tmp_path: Path) -> None:
    model, tokenizer = load_model("atlas", device="cpu")
    examples = load_task("atlas/country").splits["test"][:60]
    predictions = score(model, tokenizer, examples, settings=ScoreSettings())
    trainer = make_trainer(
        tmp_path,
        model=model,
        tokenizer=tokenizer,
        train=to_dataset(load_task("atlas/country").splits["train"][:8], tokenizer),
        calibration=None,
        gate="all",
        sft_arguments={"eval_dataset": to_dataset(examples, tokenizer)},
    )
    confidence = [row.confidence["options"] for row in predictions]
    correct = [row.correct for row in predictions]
    nll = float(np.mean([row.nll for row in predictions]))
    expected = {**by_metrics(confidence, correct), "eval_nll": nll}
    assert of_calibration(trainer.evaluate()) == pytest.approx(expected, rel=1e-4)

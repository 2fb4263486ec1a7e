"""What lies beside a model that was saved: its calibration, its questions, its base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_run import LETTERS, make_data, make_model, make_rows, make_tokenizer, make_trainer

from cogcalib.deployment.calibration_file import (
    AnswerFormat,
    read_calibration,
    tokenizer_hash,
)
from cogcalib.deployment.seen_questions import (
    CALIBRATED_ON,
    question_hashes,
    read_seen,
    set_hash,
)
from cogcalib.metrics import brier_score, expected_calibration_error
from cogcalib.modeling.model_files import fingerprint
from cogcalib.training.answering import numeric_format


def adapter() -> dict[str, Any]:
    """The argument that trains one."""
    return {"peft_config": LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model with a name."""
    make_model().save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def by_hand(trainer: Any) -> tuple[list[float], list[bool], list[float]]:
    """Confidence, correctness and NLL over the options, one calibration example at a time."""
    trainer.model.eval()
    confidence, correct, nll = [], [], []
    for row in trainer.calibration_dataset:
        first = next(t for t, label in enumerate(row["labels"]) if label != -100)
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = trainer.model(input_ids=ids).logits[0, first - 1]
        p = logits[row["option_ids"]].double().softmax(0)
        gold = row["option_ids"].index(row["labels"][first])
        confidence.append(float(p.max()))
        correct.append(int(p.argmax()) == gold)
        nll.append(-float(p[gold].log()))
    return confidence, correct, nll


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("gate", ["nll", "none"])
def test_model_is_saved_with_its_calibration(
    tmp_path: Path, base: Path, adapted: bool, gate: str
) -> None:
    arguments = adapter() if adapted else {}
    trainer = make_trainer(tmp_path / "out", model=str(base), gate=gate, sft_arguments=arguments)
    trainer.train()
    trainer.save_model()
    found = read_calibration(tmp_path / "out")
    weights = base if adapted else tmp_path / "out"
    assert found.model.sha256 == fingerprint(weights)["sha256"]
    assert found.model.name == weights.name
    assert found.model.tokenizer == tokenizer_hash(make_tokenizer())
    assert found.answers == AnswerFormat("options", "options", options=tuple(LETTERS))
    assert found.method.endswith(f"gate {gate}")
    assert found.precision == "float32"

    (measured,) = found.metrics
    confidence, correct, nll = by_hand(trainer)
    assert (measured.split, measured.n) == ("calibration", 24)
    assert not measured.teacher_forced
    looked_at = read_seen(tmp_path / "out", CALIBRATED_ON)
    assert found.calibrated_on == {"n": len(looked_at), "sha256": set_hash(looked_at)}
    assert looked_at
    assert not looked_at & read_seen(tmp_path / "out")
    values = {name: each["value"] for name, each in measured.raw.items()}
    assert values["accuracy"] == np.mean(correct)
    assert values["nll"] == pytest.approx(np.mean(nll), rel=1e-5)
    assert values["brier"] == pytest.approx(brier_score(confidence, correct), rel=1e-5)
    ece = expected_calibration_error(confidence, correct, bins=15)
    assert values["ece"] == pytest.approx(ece, rel=1e-5)
    for each in measured.raw.values():
        assert each["low"] <= each["high"]
    assert sum(found.confidence_histogram) == pytest.approx(1)
    assert len(found.confidence_histogram) == 20

    record = json.loads((tmp_path / "out" / "base_model.json").read_text()) if adapted else {}
    assert record.get("sha256") == (found.model.sha256 if adapted else None)


def test_answers_that_are_texts_are_not_generated_for_it(tmp_path: Path) -> None:
    rows = [row | {"completion": " w1 w2"} for row in make_rows(32)]
    data = Dataset.from_list([{k: row[k] for k in ("prompt", "completion")} for row in rows])
    trainer = make_trainer(
        tmp_path / "out", train=data.select(range(20)), calibration=data.select(range(20, 32))
    )
    trainer.save_model()
    (measured,) = read_calibration(tmp_path / "out").metrics
    assert measured.teacher_forced
    card = (tmp_path / "out" / "README.md").read_text()
    assert "confidence `mean` under teacher forcing; in brackets" in card
    assert "Figures under teacher forcing are of no generated answer" in card


@pytest.mark.parametrize(
    ("settings", "bits", "said"),
    [
        ({}, 0, "float32"),
        ({"bf16": True}, 0, "bfloat16"),
        ({"bf16": True}, 4, "4-bit bfloat16"),
        ({}, 8, "8-bit float32"),
    ],
)
def test_the_number_format_is_that_of_the_training(
    settings: dict[str, bool], bits: int, said: str
) -> None:
    model = SimpleNamespace(dtype=torch.float32, **{f"is_loaded_in_{bits}bit": True})
    args = SimpleNamespace(**{"bf16": False, "fp16": False, **settings})
    assert numeric_format(model, args) == said


def test_training_questions_are_known_by_hash(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, gate="all", calibration=None)
    trainer.save_model()
    tokenizer = make_tokenizer()
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in make_rows(32)]
    asked = set(question_hashes(prompts, tokenizer))
    assert read_seen(tmp_path) == asked
    found = read_calibration(tmp_path)
    assert found.trained_on == {"n": len(asked), "sha256": set_hash(asked)}
    assert found.metrics == ()
    assert found.confidence_histogram == ()


def test_text_without_a_prompt_is_known_by_all_its_tokens(tmp_path: Path) -> None:
    ids = [[12, 13, 14], [15, 16]]
    train = make_data(2).from_list([{"input_ids": each, "labels": each} for each in ids])
    trainer = make_trainer(tmp_path, gate="none", train=train, calibration=None)
    trainer.save_model()
    assert read_seen(tmp_path) == set(question_hashes(ids, make_tokenizer()))
    assert read_calibration(tmp_path).answers == AnswerFormat("open-ended", "mean")


def test_options_that_differ_are_not_recorded(tmp_path: Path) -> None:
    rows = make_rows(32)
    rows[3] |= {"completion": " A", "options": [" A", " AA"]}
    trainer = make_trainer(tmp_path, train=make_data(1).from_list(rows), gate="all")
    trainer.save_model()
    assert read_calibration(tmp_path).answers.options is None


@pytest.mark.parametrize("packing", [False, True])
def test_packed_or_not_the_records_are_the_same(tmp_path: Path, packing: bool) -> None:
    layout = {"packing": True, "max_length": 32} if packing else {}
    trainer = make_trainer(tmp_path, gate="all", **layout)
    trainer.save_model()
    plain = make_trainer(tmp_path / "plain", gate="all")
    plain.save_model()
    assert read_seen(tmp_path) == read_seen(tmp_path / "plain")
    found, expected = map(read_calibration, (tmp_path, tmp_path / "plain"))
    assert found.answers == expected.answers
    assert found.metrics == expected.metrics


def test_checkpoints_have_records_without_metrics(tmp_path: Path, base: Path) -> None:
    every_step = {"save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tmp_path / "out", model=str(base), sft_arguments=adapter(), **every_step)
    passes: list[int] = []
    measure = trainer.run_calibration_pass

    def count() -> Any:
        passes.append(trainer.state.global_step)
        return measure()

    trainer.run_calibration_pass = count
    trainer.train()
    assert passes == [0, 1, 2]
    trainer.save_model()
    assert passes == [0, 1, 2, 3]
    checkpoint, final = (read_calibration(tmp_path / "out" / n) for n in ("checkpoint-2", "."))
    assert checkpoint.metrics == ()
    assert len(final.metrics) == 1
    models = [replace(each.model, adapter=None) for each in (checkpoint, final)]
    assert models[0] == models[1]
    assert checkpoint.answers == final.answers
    assert None not in (checkpoint.model.adapter, final.model.adapter)
    assert checkpoint.model.adapter != final.model.adapter
    assert read_seen(tmp_path / "out" / "checkpoint-2") == read_seen(tmp_path / "out")


def test_saving_leaves_training_as_it_is(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, model=make_model(attention_dropout=0.3))
    trainer.model.train()
    before = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    trainer.save_model()
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.training
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_no_path_of_this_machine_is_written(tmp_path: Path, base: Path) -> None:
    trainer = make_trainer(tmp_path / "out", model=str(base), sft_arguments=adapter())
    trainer.save_model()
    for name in ("calibration.json", "trained_on.txt", "base_model.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_model_made_in_memory_has_no_name(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, sft_arguments=adapter())
    trainer.save_model()
    found = read_calibration(tmp_path).model
    assert (found.name, found.sha256, found.commit) == ("unnamed", None, None)
    assert not (tmp_path / "base_model.json").exists()

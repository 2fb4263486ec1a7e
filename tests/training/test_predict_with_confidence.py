"""A trainer's model answers rows in the trainer's own formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_run import LETTERS, make_data, make_model, make_rows, make_tokenizer, make_trainer

from cogcalib import load
from cogcalib.deployment.inputs import RefusedInput

HELD_OUT = make_rows(10, seed=5)
ROWS = {
    "data set": Dataset.from_list(HELD_OUT),
    "rows": HELD_OUT,
    "prompts": [row["prompt"] for row in HELD_OUT],
}


def test_options_are_answered_as_evaluation_judges_them(tmp_path: Path) -> None:
    data = Dataset.from_list(HELD_OUT)
    trainer = make_trainer(tmp_path, sft_arguments={"eval_dataset": data})
    trainer.train()
    found = trainer.predict_with_confidence(data)
    right = [
        answer.answer == row["completion"] for answer, row in zip(found, HELD_OUT, strict=True)
    ]
    evaluated = trainer.evaluate()
    assert sum(right) / 10 == pytest.approx(evaluated["eval_accuracy"])
    brier = [(answer.confidence - good) ** 2 for answer, good in zip(found, right, strict=True)]
    assert sum(brier) / 10 == pytest.approx(evaluated["eval_brier"], rel=1e-5)
    for answer in found:
        assert answer.alternatives[0].answer == answer.answer
        assert {each.answer for each in answer.alternatives} == set(LETTERS)
        assert answer.confidence == answer.raw_confidence
        assert not answer.abstain


def test_every_format_is_the_same_question(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, sft_arguments={"eval_dataset": Dataset.from_list(HELD_OUT)})
    found = [trainer.predict_with_confidence(rows) for rows in ROWS.values()]
    tokenised = trainer.predict_with_confidence(trainer.eval_dataset)
    for answers in (*found[1:], tokenised):
        for ours, theirs in zip(found[0], answers, strict=True):
            assert ours.answer == theirs.answer
            assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-6)


def test_conversations_are_answered_with_or_without_their_answer(tmp_path: Path) -> None:
    def rows(n: int, seed: int, answered: bool) -> list[dict[str, Any]]:
        user = [{"role": "user", "content": row["prompt"]} for row in make_rows(n, seed)]
        bot = [{"role": "assistant", "content": f"w{k % 7}"} for k in range(n)]
        return [{"messages": [u, b] if answered else [u]} for u, b in zip(user, bot, strict=True)]

    data = Dataset.from_list(rows(16, 0, True))
    held_out = Dataset.from_list(rows(6, 5, True))
    trainer = make_trainer(
        tmp_path,
        train=data,
        calibration=None,
        gate="none",
        assistant_only_loss=True,
        sft_arguments={"eval_dataset": held_out},
    )
    trainer.train()
    answered = trainer.predict_with_confidence(held_out)
    assert answered == trainer.predict_with_confidence(rows(6, 5, False))
    assert answered == trainer.predict_with_confidence(trainer.eval_dataset)
    assert all(each.tokens for each in answered)


def test_the_saved_model_says_the_same(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    trainer = make_trainer(tmp_path / "out", model=str(tmp_path / "base"))
    trainer.train()
    trainer.save_model()
    found = load(tmp_path / "out", device="cpu").predict(ROWS["prompts"])
    assert found == trainer.predict_with_confidence(ROWS["data set"])


def test_asking_leaves_training_as_it_is(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.model.train()
    state = torch.get_rng_state()
    trainer.predict_with_confidence(HELD_OUT)
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.training


@pytest.mark.parametrize("sharded", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_sharded_weights_are_refused(tmp_path: Path, sharded: str) -> None:
    trainer = make_trainer(tmp_path)
    setattr(trainer, sharded, True)
    with pytest.raises(ValueError, match="needs a model that one process holds whole; save it"):
        trainer.predict_with_confidence(HELD_OUT)


def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    row = trainer.train_dataset[0]
    for bad, message in (
        ({"prompt": " "}, "input 1: the prompt is empty"),
        ({"input_ids": [12, 13], "labels": [12, 13]}, "input 1: it has no prompt"),
    ):
        with pytest.raises(RefusedInput, match=message):
            trainer.predict_with_confidence([row, bad])


def test_options_that_differ_must_come_with_the_row(tmp_path: Path) -> None:
    rows = make_rows(32)
    rows[3] |= {"completion": " A", "options": [" A", " AA"]}
    trainer = make_trainer(tmp_path, train=make_data(1).from_list(rows), gate="all")
    with pytest.raises(RefusedInput, match="input 0: needs options"):
        trainer.predict_with_confidence(ROWS["prompts"])
    assert len(trainer.predict_with_confidence(HELD_OUT)) == 10

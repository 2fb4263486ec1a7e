"""What counts as known, and that measuring it leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import (
    assert_same_weights,
    largest_difference,
    make_data,
    make_model,
    make_tokenizer,
    make_trainer,
)
from transformers import DataCollatorForSeq2Seq

from cogcalib.knowledge.threshold import estimate_threshold
from cogcalib.losses import token_statistics
from cogcalib.training.measured_answers import known_units
from cogcalib.training.supervision import SupervisedTokens, Units, supervised_tokens


def known(
    scores: list[list[float]],
    targets: list[int],
    example: list[int],
    option_ids: torch.Tensor | None = None,
) -> list[bool]:
    examples = torch.arange(max(example) + 1)
    units = Units(torch.tensor(example), examples, torch.ones_like(examples, dtype=torch.bool))
    options = None if option_ids is None else units.options_at_first(option_ids)
    tokens = SupervisedTokens(
        torch.empty(0, dtype=torch.bool), torch.tensor(targets), units, options
    )
    statistics = token_statistics(torch.tensor(scores), tokens.targets, options)
    return known_units(statistics, tokens).tolist()


def test_open_ended_needs_every_token_end_included() -> None:
    scores = [[9.0, 0, 0], [0, 9.0, 0], [9.0, 0, 0], [9.0, 0, 0]]
    assert known(scores, [0, 1, 0, 1], [0, 0, 1, 1]) == [True, False]


def test_multiple_choice_looks_at_the_options_only() -> None:
    # Token 3 is the most likely one everywhere, but no option.
    scores = [[1.0, 2.0, 0, 9.0], [0, 0, 0, 9.0], [1.0, 2.0, 0, 9.0], [2.0, 5.0, 1.0, 9.0]]
    options = torch.tensor([[0, 1], [0, 1], [2, 0]])
    assert known(scores, [1, 2, 0, 0], [0, 0, 1, 2], options) == [True, False, True]


def test_rows_without_options_among_rows_with() -> None:
    scores = [[1.0, 2.0, 9.0], [0, 0, 9.0], [0, 0, 9.0]]
    options = torch.tensor([[0, 1], [-1, -1], [-1, -1]])
    assert known(scores, [1, 2, 0], [0, 1, 2], options) == [True, True, False]
    no_options = torch.zeros(3, 0, dtype=torch.long)
    assert known(scores, [1, 2, 0], [0, 1, 2], no_options) == [False, True, False]


def test_teacher_forcing_agrees_with_greedy_generation(tmp_path: Path) -> None:
    rows = make_data(24).remove_columns("options")
    trainer = make_trainer(tmp_path, train=rows, calibration=None, gate="none", max_steps=6)
    trainer.train()
    trainer.model.eval()
    verdicts = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        tokens = supervised_tokens(batch)
        verdict = known_units(
            trainer.runner.statistics(trainer.model, batch, tokens), tokens
        ).item()
        prompt = batch["input_ids"][:, :-2]
        generated = trainer.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2, do_sample=False
        )
        assert verdict == torch.equal(generated, batch["input_ids"])
        verdicts.append(verdict)
    assert len(set(verdicts)) == 2


def test_threshold_is_that_of_one_example_at_a_time(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, per_device_eval_batch_size=5)
    nll, known = [], []
    trainer.model.eval()
    for row in trainer.calibration_dataset:
        batch = trainer.data_collator([row])
        options = batch.pop("option_ids")
        with torch.no_grad():
            logits = trainer.model(input_ids=batch["input_ids"]).logits[0, :-1]
        mask = batch["labels"][0, 1:] != -100
        targets = batch["labels"][0, 1:][mask]
        nll.append(float(torch.nn.functional.cross_entropy(logits[mask], targets)))
        best = options[0][logits[mask][0, options[0]].argmax()]
        known.append(bool(best == targets[0]))
    expected = estimate_threshold(nll, known, step=0)
    found = trainer.estimate_threshold()
    assert 0 < found.n_known < 24
    assert (found.n_known, found.n_unknown) == (expected.n_known, expected.n_unknown)
    assert found.value == pytest.approx(expected.value, rel=1e-5)
    assert found.separation == pytest.approx(expected.separation)


def test_estimating_leaves_flags_gradients_and_random_numbers_alone(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.model.train()
    frozen = trainer.model.model.layers[0]
    frozen.eval()
    before = torch.get_rng_state()
    trainer.estimate_threshold()
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.model.training
    assert not frozen.training
    assert all(p.grad is None for p in trainer.model.parameters())


def test_how_often_the_threshold_is_estimated_does_not_change_the_randomness(
    tmp_path: Path,
) -> None:
    def trained(every: int, dropout: float = 0.3) -> Any:
        trainer = make_trainer(  # seeds the global generator, which dropout draws from
            tmp_path,
            model=make_model(attention_dropout=dropout),
            alpha=0.0,
            threshold_every=every,
            max_steps=6,
        )
        trainer.train()
        return trainer

    often, seldom = trained(1), trained(5)
    assert len(often.threshold_history) > len(seldom.threshold_history)
    assert_same_weights(often, seldom)
    assert largest_difference(often, trained(1, dropout=0.0)) > 1e-4  # it did draw


def test_a_collator_of_one_s_own_is_given_the_columns_of_the_training(tmp_path: Path) -> None:
    columns: list[set[str]] = []
    padding = DataCollatorForSeq2Seq(make_tokenizer())

    def collate(rows: list[dict[str, Any]]) -> Any:
        columns.extend(set(row) for row in rows)
        return padding(rows)

    trainers = [
        make_trainer(tmp_path / name, sft_arguments={"data_collator": collator})
        for name, collator in (("own", collate), ("default", None))
    ]
    assert trainers[0].estimate_threshold() == trainers[1].estimate_threshold()
    for trainer in trainers:
        trainer.train()
    assert trainers[0].threshold_history == trainers[1].threshold_history
    assert_same_weights(*trainers)
    assert all(names == {"input_ids", "labels"} for names in columns)


def test_no_calibration_data_no_threshold(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, gate="all", calibration=None)
    with pytest.raises(ValueError, match="calibration_dataset"):
        trainer.estimate_threshold()

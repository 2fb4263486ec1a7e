"""The loss by itself gives what the trainer's terms give, and judges as the trainer does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput
from transformers.trainer_pt_utils import LabelSmoother

from cogcalib.losses import CogCalibLoss, Penalty, Support

LS = Penalty("label_smoothing")


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Four examples of which the last has no supervised token; double precision."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 9, (4, 6), generator=generator)
    labels[:, :3] = -100
    labels[1, 5] = labels[3] = -100
    return logits, labels


def by_hand(loss: CogCalibLoss, logits: Tensor, labels: Tensor, items: int) -> Tensor:
    """The formula, token by token."""
    total = logits.new_zeros(())
    for row, wanted in zip(logits, labels, strict=True):
        positions = [t for t in range(5) if wanted[t + 1] != -100]
        ce = [-row[t].log_softmax(-1)[wanted[t + 1]] for t in positions]
        if not ce:
            continue
        nll = torch.stack(ce).detach().mean()
        known = loss.threshold is not None and nll <= loss.threshold
        for t, value in zip(positions, ce, strict=True):
            smooth = -row[t].log_softmax(-1).mean() - value
            total = total + value + loss.alpha * known * smooth
    return total / items


def test_it_is_the_formula_with_a_hard_gate() -> None:
    logits, labels = batch()
    loss = CogCalibLoss(LS, 0.3)
    loss(logits, labels)
    assert loss.nll is not None
    loss.threshold = float(loss.nll[:3].median())
    ours = loss(CausalLMOutput(logits=logits), labels, num_items_in_batch=7)
    assert loss.weights is not None
    assert set(loss.weights[:3].tolist()) == {0.0, 1.0}
    theirs = by_hand(loss, logits, labels, 7)
    torch.testing.assert_close(ours, theirs)
    (slope,) = torch.autograd.grad(ours, logits)
    torch.testing.assert_close(slope, torch.autograd.grad(theirs, logits)[0])


def test_it_is_plain_cross_entropy_until_there_is_a_threshold() -> None:
    logits, labels = batch()
    plain = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:])
    torch.testing.assert_close(CogCalibLoss(LS, 0.5)(logits, labels), plain)


def test_gate_all_is_the_label_smoother_of_transformers() -> None:
    logits, labels = batch()
    ours = CogCalibLoss(LS, 0.2, gate="all")(logits, labels)
    theirs = LabelSmoother(epsilon=0.2)({"logits": logits}, labels, shift_labels=True)
    torch.testing.assert_close(ours, theirs)


def test_judging_looks_at_every_token_or_at_the_options_of_the_first() -> None:
    logits = torch.zeros(2, 4, 5)
    labels = torch.tensor([[-100, -100, 1, 4], [-100, -100, 2, 4]])
    logits[:, 1, 3], logits[:, 1, 1] = 9.0, 5.0  # token 3 first of all, 1 first of the options
    logits[:, 2, 4] = 9.0
    assert CogCalibLoss(LS, 0.1).judge(logits, labels)[1] == [False, False]
    options = CogCalibLoss(Penalty("margin", support="options"), 0.1, option_ids=[1, 2])
    nll, known = options.judge(logits, labels)
    assert known == [True, False]
    assert nll[0] < nll[1]


def test_an_evaluation_is_plain_cross_entropy() -> None:
    logits, labels = batch()
    loss = CogCalibLoss(LS, 0.5)
    loss.threshold = float("inf")
    plain = CogCalibLoss(LS, 0.0)(logits, labels)
    assert abs(loss(logits, labels) - plain) > 0.01
    with torch.no_grad():
        torch.testing.assert_close(loss(logits, labels), plain.detach())


def test_rows_without_a_supervised_token_are_not_judged() -> None:
    logits, labels = batch()
    nll, known = CogCalibLoss(LS, 0.1).judge(logits, labels)
    assert len(nll) == len(known) == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"penalty": LS, "alpha": 1.5}, "alpha must be a finite number from 0 to 1"),
        ({"penalty": Penalty("entropy"), "alpha": -0.1}, "alpha"),
        ({"penalty": Penalty("focal"), "alpha": 1.1}, "alpha must be a finite number from 0 to 1"),
        ({"penalty": LS, "alpha": 0.1, "gate": "oracle"}, "CogCalibTrainer has the others"),
        ({"penalty": Penalty("margin", support="options"), "alpha": 0.1}, "option_ids"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CogCalibLoss(**arguments)


@pytest.mark.parametrize("support", ["vocab", "options"])
def test_an_answer_that_is_no_option_is_refused(support: Support) -> None:
    logits, labels = batch()
    labels[:3, 3] = torch.tensor([1, 2, 1])
    loss = CogCalibLoss(Penalty("margin", support=support), 0.1, option_ids=[1, 2])
    loss(logits, labels)  # later tokens may be any
    labels[2, 3] = 5
    message = r"labels\[2\]: the first supervised token 5 is none of option_ids \[1, 2\]"
    for refused in (loss, loss.judge):
        with pytest.raises(ValueError, match=message):
            refused(logits, labels)


def test_shapes_that_do_not_fit_are_named() -> None:
    logits, labels = batch()
    with pytest.raises(ValueError, match=r"\[B, T, V\]"):
        CogCalibLoss(LS, 0.1)(logits[:, :-1], labels)


def trained(loss: CogCalibLoss, threshold: float | None) -> str:
    """What is said after ten batches of three examples at a threshold."""
    for seed in range(10):
        logits, labels = batch(seed)
        loss(logits, labels)  # the style phase does not count
        loss.threshold = threshold
        loss(logits, labels)
        with torch.no_grad():
            loss(logits, labels)  # nor does an evaluation
        loss.threshold = None
    return loss.gate_warning()


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (float("inf"), "100.0% of the training examples counted as known"),
        (float("-inf"), "0.0% of the training examples counted as known"),
        (None, "this was plain fine-tuning"),
    ],
)
def test_a_gate_that_never_chose_is_told(threshold: float | None, said: str) -> None:
    assert said in trained(CogCalibLoss(LS, 0.2), threshold)
    assert trained(CogCalibLoss(LS, 0.2, gate="none"), threshold) == ""
    assert trained(CogCalibLoss(LS, 0.2, gate="all"), threshold) == ""


def test_a_loss_that_was_never_trained_with_says_nothing() -> None:
    assert CogCalibLoss(LS, 0.2).gate_warning() == ""


def test_only_examples_that_were_gated_are_counted() -> None:
    loss = CogCalibLoss(LS, 0.2)
    logits, labels = batch()
    loss(logits, labels)
    assert loss.nll is not None
    assert trained(loss, float(loss.nll[:3].median())) == ""
    # Rows without a supervised token have an NLL of 0 and would count as known.
    hard = CogCalibLoss(LS, 0.2)
    assert trained(hard, 0.0).startswith("0.0% of the training examples")

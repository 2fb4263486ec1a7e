"""What training must be equal to, and when."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import (
    assert_same_weights,
    largest_difference,
    make_args,
    make_data,
    make_model,
    make_tokenizer,
    make_trainer,
)
from transformers.trainer_pt_utils import LabelSmoother
from trl import SFTConfig, SFTTrainer

from cogcalib.training.supervision import supervised_tokens

TRL_METRICS = ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens")


def train_with_trl(output: Path, model: Any = None, **settings: Any) -> SFTTrainer:
    ours = make_args(output, **settings)
    names = SFTConfig.__dataclass_fields__
    arguments = {name: value for name, value in vars(ours).items() if name in names}
    trainer = SFTTrainer(
        model or make_model(),
        SFTConfig(**{name: arguments[name] for name in names if names[name].init}),
        train_dataset=make_data(32).remove_columns("options"),
        processing_class=make_tokenizer(),
    )
    trainer.train()
    return trainer


def trained(output: Path, **settings: Any) -> Any:
    trainer = make_trainer(output, **settings)
    trainer.train()
    return trainer


def assert_same_log(first: Any, second: Any) -> None:
    ours, theirs = first.state.log_history[:-1], second.state.log_history[:-1]
    for our_row, their_row in zip(ours, theirs, strict=True):
        for name in TRL_METRICS:
            assert our_row[name] == pytest.approx(their_row[name], rel=1e-5), name


def test_gate_none_is_trl(tmp_path: Path) -> None:
    settings = {"optim": "sgd", "learning_rate": 0.1}
    ours, theirs = trained(tmp_path, gate="none", **settings), train_with_trl(tmp_path, **settings)
    assert_same_weights(ours, theirs, tolerance=1e-6)
    assert largest_difference(ours, make_trainer(tmp_path)) > 1e-3  # it did train
    assert_same_log(ours, theirs)
    assert ours.state.log_history[0].keys() == theirs.state.log_history[0].keys()


@pytest.mark.parametrize("penalty", ["label_smoothing", "margin", "entropy", "focal"])
def test_alpha_zero_is_trl_in_loss_gradient_and_metrics(tmp_path: Path, penalty: str) -> None:
    settings = {"optim": "sgd", "gradient_accumulation_steps": 2, "learning_rate": 0.1}
    settings["per_device_train_batch_size"] = 4
    ours = trained(tmp_path, alpha=0.0, penalty=penalty, **settings)
    theirs = train_with_trl(tmp_path, **settings)
    assert_same_weights(ours, theirs, tolerance=1e-6)
    assert_same_log(ours, theirs)


def test_no_example_known_is_plain_fine_tuning(tmp_path: Path) -> None:
    none_known = trained(tmp_path, gate="nll", cut=-math.inf)
    assert_same_weights(none_known, trained(tmp_path, gate="all", alpha=0.0))
    assert_same_weights(none_known, train_with_trl(tmp_path), tolerance=1e-4)


@pytest.mark.parametrize("support", ["vocab", "options"])
def test_all_known_is_uniform_regularisation(tmp_path: Path, support: str) -> None:
    all_known = trained(tmp_path, gate="nll", cut=math.inf, support=support)
    uniform = trained(tmp_path, gate="all", support=support)
    assert_same_weights(all_known, uniform)
    assert largest_difference(uniform, trained(tmp_path, gate="none")) > 1e-3


def smoothed_as_in_transformers(outputs: Any, labels: torch.Tensor, items: int) -> torch.Tensor:
    smoother = LabelSmoother(epsilon=0.2)
    loss: torch.Tensor = smoother(outputs, labels, shift_labels=True, num_items_in_batch=items)
    return loss


def focal_loss(outputs: Any, labels: torch.Tensor, items: int) -> torch.Tensor:
    supervised = labels[:, 1:] != -100
    log_p = outputs.logits[:, :-1].log_softmax(-1)[supervised]
    gold = log_p.gather(1, labels[:, 1:][supervised][:, None])
    return -((1 - gold.exp()) ** 3 * gold).sum() / items


@pytest.mark.parametrize(
    ("penalty", "alpha", "definition"),
    [("label_smoothing", 0.2, smoothed_as_in_transformers), ("focal", None, focal_loss)],
)
def test_uniform_penalty_is_the_loss_it_is_known_as(
    tmp_path: Path, penalty: str, alpha: float | None, definition: Any
) -> None:
    model = make_model().double()
    trainer = make_trainer(tmp_path, model=model, gate="all", penalty=penalty, alpha=alpha)
    trainer.knowledge.style_end = 0
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset.take(6))))
    labels = batch["labels"]
    trainer.model.train()
    ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=12)
    ours.backward()
    gradient = trainer.model.lm_head.weight.grad.clone()
    trainer.model.zero_grad()

    outputs = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    theirs = definition(outputs, labels, 12)
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, trainer.model.lm_head.weight.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gate", ["nll", "inverted", "soft", "all"])
def test_gradient_accumulation_changes_nothing(tmp_path: Path, gate: str) -> None:
    cut = 4.0  # between the NLLs of the untrained model, so that the gate opens for some
    settings = {"gate": gate, "cut": cut, "optim": "sgd", "learning_rate": 0.05, "max_steps": 4}
    at_once = trained(tmp_path, per_device_train_batch_size=8, **settings)
    in_parts = trained(
        tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings
    )
    assert_same_weights(at_once, in_parts, tolerance=2e-6)
    if gate == "nll":
        assert 0 < at_once.state.log_history[0]["gate_rate"] < 1


def test_oracle_with_labels_of_the_nll_gate_equals_it_on_the_first_step(tmp_path: Path) -> None:
    cut = 4.0
    by_nll = make_trainer(tmp_path, gate="nll", cut=cut, max_steps=1)
    known = []
    for row in by_nll.train_dataset:
        batch = by_nll._prepare_inputs(by_nll.data_collator([row]))
        batch.pop("option_ids")
        statistics = by_nll.runner.statistics(by_nll.model, batch, supervised_tokens(batch))
        known.append(bool(statistics.ce.mean() <= cut))
    assert len(set(known)) == 2
    train = make_data(32).add_column("known", known)
    by_label = make_trainer(tmp_path, gate="oracle", train=train, max_steps=1)
    by_nll.train()
    by_label.train()
    assert_same_weights(by_nll, by_label)


def test_style_phase_is_plain_cross_entropy_then_the_gate_opens(tmp_path: Path) -> None:
    style = trained(tmp_path, gate="all", style_steps=2, max_steps=3)
    rates = [row["gate_rate"] for row in style.state.log_history[:-1]]
    assert rates == [0, 0, 1]
    plain = trained(tmp_path, gate="all", style_steps=2, max_steps=3, alpha=0.0)
    losses = [[row["loss"] for row in t.state.log_history[:-1]] for t in (style, plain)]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0][2] > losses[1][2]


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["label_smoothing", "margin"])
def test_a_compiled_model_trains_alike(tmp_path: Path, penalty: str) -> None:
    settings = {"optim": "sgd", "learning_rate": 0.05, "penalty": penalty, "support": "options"}
    compiled = trained(tmp_path, torch_compile=True, torch_compile_backend="aot_eager", **settings)
    assert compiled.runner.fused
    assert_same_weights(compiled, trained(tmp_path, **settings), tolerance=1e-5)


@pytest.mark.slow
# torch 2.13 imports something of its own that it calls deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_model_compiled_by_inductor_trains_alike(tmp_path: Path) -> None:
    settings = {"optim": "sgd", "learning_rate": 0.05, "cut": 4.0, "max_steps": 2}
    ours = trained(tmp_path, torch_compile=True, **settings)
    assert ours.args.torch_compile_backend == "inductor"
    assert ours.runner.fused
    eager = trained(tmp_path, **settings)
    assert_same_weights(ours, eager, tolerance=1e-5)
    for row, other in zip(ours.state.log_history[:-1], eager.state.log_history[:-1], strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert 0 < ours.state.log_history[0]["gate_rate"] < 1


def test_the_readable_loss_trains_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"optim": "sgd", "learning_rate": 0.05, "support": "options", "cut": 4.0}
    fused = trained(tmp_path, **settings)
    assert fused.runner.fused
    monkeypatch.setattr("cogcalib.training.loss.verify_head", lambda *_: "it is made up")
    readable = trained(tmp_path, **settings)
    assert not readable.runner.fused
    assert_same_weights(fused, readable, tolerance=1e-6)
    with pytest.raises(ValueError, match=r"torch_compile=True is not supported .* made up"):
        trained(tmp_path, torch_compile=True, torch_compile_backend="aot_eager")

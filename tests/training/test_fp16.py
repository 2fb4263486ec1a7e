"""Half precision with fp16: autocast, scaled gradients, and weights in fp16.

accelerate gives a CPU neither autocast in fp16 nor a scaler, so the tests hand it torch's own for
the CPU; everything else is the code that runs on a GPU.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_data, make_model, make_trainer, weights
from torch import Tensor

PENALTIES = ["label_smoothing", "margin", "entropy"]
SGD = {"optim": "sgd", "learning_rate": 0.05, "cut": 4.0}


def make_fp16_trainer(output: Path, scale: float, **settings: Any) -> Any:
    trainer = make_trainer(output, fp16=True, **settings)
    trainer.accelerator.native_amp = True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return trainer


def change(trainer: Any) -> Tensor:
    """What the training did to the weights, as one vector."""
    before = dict(make_model().named_parameters())
    after = weights(trainer)
    return torch.cat([(after[name] - before[name]).flatten() for name in after]).detach()


@pytest.mark.parametrize("support", ["vocab", "options"])
@pytest.mark.parametrize(
    "penalty",
    [
        pytest.param(each, marks=[] if each == "label_smoothing" else pytest.mark.slow)
        for each in PENALTIES
    ],
)
def test_autocast_with_scaled_gradients_trains_alike(
    tmp_path: Path, penalty: str, support: str
) -> None:
    settings: dict[str, Any] = {"penalty": penalty, "support": support, **SGD}
    ours = make_fp16_trainer(tmp_path, 2.0**12, gradient_accumulation_steps=2, **settings)
    ours.train()
    exact = make_trainer(tmp_path, gradient_accumulation_steps=2, **settings)
    exact.train()
    assert ours.runner.fused
    assert ours.accelerator.scaler.get_scale() == 2.0**12  # no step was skipped
    assert 0 < ours.state.log_history[0]["gate_rate"] < 1
    assert ours.state.log_history[0]["loss"] != exact.state.log_history[0]["loss"]
    assert (change(ours) - change(exact)).norm() < 0.01 * change(exact).norm()


def test_a_scale_that_overflows_skips_the_step_and_shrinks(tmp_path: Path) -> None:
    trainer = make_fp16_trainer(tmp_path, 2.0**40, max_steps=2, **SGD)
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() == 2.0**38
    assert change(trainer).count_nonzero() == 0
    assert math.isfinite(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("support", ["vocab", "options"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradients_of_fp16_weights_err_by_rounding_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, penalty: str, support: str
) -> None:
    """Against float64; the loss over fp16 logits that are all there is the yardstick."""

    def gradient(dtype: torch.dtype) -> Tensor:
        model = make_model().half().to(dtype)  # the same numbers in every dtype
        trainer = make_trainer(tmp_path, model=model, penalty=penalty, support=support, gate="all")
        trainer.knowledge.style_end = 0
        batch = trainer.data_collator(list(trainer.train_dataset.take(16)))
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=32)
        loss.backward()
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        grads = [parameter.grad for parameter in trainer.model.parameters()]
        assert all(grad.dtype == dtype for grad in grads)
        return torch.cat([grad.double().flatten() for grad in grads])

    ours, exact = gradient(torch.float16), gradient(torch.float64)
    monkeypatch.setattr("cogcalib.training.loss.verify_head", lambda *_: "it is made up")
    readable = gradient(torch.float16)
    error = (ours - exact).norm()
    assert error < 0.01 * exact.norm()
    assert error < 1.25 * (readable - exact).norm()


def test_fp16_weights_train(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, model=make_model().half(), train=make_data(8), max_steps=12, **SGD
    )
    trainer.train()
    found = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert found[-1] < found[0]
    assert all(map(math.isfinite, found))

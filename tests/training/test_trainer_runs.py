"""Training as users do it: adapters, bf16, conversations, other architectures, logging."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_run import SMALL, assert_same_weights, make_data, make_model, make_rows, make_trainer
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    MixtralConfig,
    TrainerCallback,
)

from cogcalib.training.supervised_logits import supervised_logits
from cogcalib.training.supervision import supervised_tokens


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("gate", ["nll", "random", "inverted", "soft", "all"])
@pytest.mark.parametrize("support", ["vocab", "options"])
def test_lora_training_reduces_the_loss(tmp_path: Path, gate: str, support: str) -> None:
    trainer = make_trainer(
        tmp_path,
        gate=gate,
        support=support,
        max_steps=16,
        style_steps=0.25,
        threshold_every=0.5,
        learning_rate=0.05,
        sft_arguments={"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])},
    )
    trainer.train()
    assert losses(trainer)[-1] < 0.9 * losses(trainer)[0]
    assert [t.step for t in trainer.threshold_history] == [4, 6, 8, 10, 12, 14]


def test_bf16_autocast_and_bf16_weights(tmp_path: Path) -> None:
    for settings in ({"bf16": True}, {"model": make_model().to(torch.bfloat16)}):
        trainer = make_trainer(tmp_path, max_steps=10, support="options", **settings)
        trainer.train()
        assert losses(trainer)[-1] < losses(trainer)[0]
        assert all(map(math.isfinite, losses(trainer)))


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    with_it, without = (
        make_trainer(tmp_path, gradient_checkpointing=flag) for flag in (True, False)
    )
    with_it.train()
    without.train()
    assert_same_weights(with_it, without, tolerance=1e-6)


def test_conversations_give_the_same_options_as_plain_text(tmp_path: Path) -> None:
    def conversation(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"].strip()}],
            "options": [option.strip() for option in row["options"]],
        }

    train, calibration = (
        Dataset.from_list([conversation(row) for row in make_rows(n, seed)])
        for n, seed in ((16, 0), (12, 1))
    )
    trainer = make_trainer(tmp_path, train=train, calibration=calibration, support="options")
    plain = make_trainer(tmp_path, train=make_data(16))
    assert list(trainer.train_dataset["option_ids"]) == list(plain.train_dataset["option_ids"])
    trainer.train()
    assert len(trainer.threshold_history) == 3


def test_messages_with_assistant_only_loss(tmp_path: Path) -> None:
    def messages(row: dict[str, Any]) -> dict[str, Any]:
        user = {"role": "user", "content": row["prompt"]}
        return {
            "messages": [user, {"role": "assistant", "content": row["completion"].strip()}],
            "options": [option.strip() for option in row["options"]],
        }

    train, calibration = (
        Dataset.from_list([messages(row) for row in make_rows(n, seed)])
        for n, seed in ((16, 0), (12, 1))
    )
    trainer = make_trainer(
        tmp_path,
        train=train,
        calibration=calibration,
        support="options",
        assistant_only_loss=True,
    )
    row = trainer.train_dataset[0]
    supervised = [label for label in row["labels"] if label != -100]
    assert len(supervised) == 2
    assert supervised[0] in row["option_ids"]
    trainer.train()
    assert len(trainer.threshold_history) == 3


def test_plain_text_is_supervised_whole(tmp_path: Path) -> None:
    train, calibration = (
        Dataset.from_list([{"text": row["prompt"]} for row in make_rows(n, seed)])
        for n, seed in ((16, 0), (12, 1))
    )
    with pytest.raises(ValueError, match=r"plain texts.*'prompt' and 'completion'.*learn_prompts"):
        make_trainer(tmp_path, train=train, calibration=calibration)
    trainer = make_trainer(tmp_path, train=train, calibration=calibration, learn_prompts=True)
    trainer.train()
    assert trainer.train_dataset[0]["labels"] == trainer.train_dataset[0]["input_ids"]
    assert all(map(math.isfinite, losses(trainer)))


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SMALL, head_dim=16, final_logit_softcapping=3.0),
        CohereConfig(**{**SMALL, "num_key_value_heads": 2}, logit_scale=0.25),
        GraniteConfig(**SMALL, logits_scaling=4.0),
        GPT2Config(vocab_size=56, n_embd=32, n_layer=2, n_head=2, n_positions=64),
    ],
    ids=lambda config: config.model_type,
)
def test_supervised_logits_are_the_model_s_own(tmp_path: Path, config: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    trainer = make_trainer(tmp_path)
    batch = trainer.data_collator(list(trainer.train_dataset.take(5)))
    labels = batch["labels"]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    found = supervised_tokens(inputs)
    logits, _ = supervised_logits(model, model.get_output_embeddings(), inputs, found.positions)
    full = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    mask = labels[:, 1:] != -100
    torch.testing.assert_close(logits, full[:, :-1][mask])
    assert torch.equal(found.targets, labels[:, 1:][mask])
    assert found.units.index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found.units.first.tolist() == [True, False] * 5


def test_mixture_of_experts_balances_its_load_as_in_trl(tmp_path: Path) -> None:
    def trained(gate: str) -> Any:
        torch.manual_seed(0)
        config = MixtralConfig(**SMALL, num_local_experts=4, router_aux_loss_coef=0.5)
        trainer = make_trainer(
            tmp_path,
            model=AutoModelForCausalLM.from_config(config),
            gate=gate,
            alpha=0.0,
            optim="sgd",
            gradient_accumulation_steps=2,
            per_device_train_batch_size=4,
        )
        trainer.train()
        return trainer

    ours, theirs = trained("nll"), trained("none")
    assert_same_weights(ours, theirs, tolerance=1e-6)
    for row, other in zip(ours.state.log_history[:-1], theirs.state.log_history[:-1], strict=True):
        assert row["aux_loss"] == pytest.approx(other["aux_loss"], rel=1e-5)


def test_batch_without_supervised_token_has_a_finite_zero_loss(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, support="options")
    trainer.knowledge.style_end = 0
    batch = trainer.data_collator(list(trainer.train_dataset.take(3)))
    batch["labels"].fill_(-100)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(0))
    assert loss.item() == 0
    loss.backward()
    assert trainer.model.lm_head.weight.grad.abs().sum() == 0


def test_log_says_what_the_gate_did_and_is_valid_json(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=6, style_steps=2, threshold_every=2)
    trainer.train()
    style, gated = trainer.state.log_history[0], trainer.state.log_history[3]
    assert style["penalty"] == style["gate_rate"] == 0
    assert not {"threshold", "separation", "share_known"} & style.keys()
    assert gated["gate_rate"] == gated["share_known"]
    assert gated["loss"] == pytest.approx(gated["ce"] + 0.3 * gated["penalty"])
    assert gated["separation"] == trainer.threshold_history[0].separation
    json.dumps(trainer.state.log_history, allow_nan=False)


def test_callbacks_are_told_of_each_threshold(tmp_path: Path) -> None:
    class Listener(TrainerCallback):
        heard: list[Any] = []  # noqa: RUF012

        def on_threshold(self, args: Any, state: Any, control: Any, *, threshold: Any) -> None:
            self.heard.append((state.global_step, threshold))

    trainer = make_trainer(tmp_path, style_steps=1, sft_arguments={"callbacks": [Listener()]})
    trainer.train()
    assert Listener.heard == [(t.step, t) for t in trainer.threshold_history]
    assert [step for step, _ in Listener.heard] == [1, 2]


def test_random_gate_opens_at_the_rate_of_the_nll_gate(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        gate="random",
        cut=4.0,
        per_device_train_batch_size=1,
        max_steps=120,
        learning_rate=0.0,
    )
    trainer.train()
    rows = trainer.state.log_history[20:-1]
    known = sum(row["share_known"] for row in rows) / len(rows)
    opened = sum(row["gate_rate"] for row in rows) / len(rows)
    assert 0.1 < known < 0.9
    assert opened == pytest.approx(known, abs=0.15)
    assert any(row["share_known"] != row["gate_rate"] for row in rows)


def test_auto_style_phase_ends_and_the_first_threshold_is_its_last_measurement(
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, style_steps="auto", threshold_every=1, max_steps=20)
    trainer.train()
    knowledge = trainer.knowledge
    assert knowledge.style_end is not None
    assert 1 <= knowledge.style_end <= 6
    assert len(knowledge.separations) == knowledge.style_end + 1
    assert knowledge.history[0].step == knowledge.style_end
    assert knowledge.history[0].separation == knowledge.separations[-1]

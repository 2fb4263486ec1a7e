"""Evaluation, and training with the gate shut, on the model's own logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig
from tiny_run import SMALL, make_data, make_model, make_tokenizer, make_trainer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    PreTrainedModel,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)
from trl import SFTConfig, SFTTrainer

HELD_OUT = make_data(12, seed=5)


class Rescaled(LlamaForCausalLM):
    """Does to its logits what nothing in its configuration tells."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        if outputs.logits is not None:
            outputs.logits = 0.3 * outputs.logits
        return outputs


def rescaled() -> PreTrainedModel:
    return Rescaled(LlamaConfig(**SMALL, initializer_range=0.2))


def recurrent_gemma() -> PreTrainedModel:
    """Caps its logits under another name than others."""
    settings = {**SMALL, "num_hidden_layers": 3, "initializer_range": 0.2}
    window = {"lru_width": 32, "attention_window_size": 64, "w_init_variance_scale": 1.0}
    return RecurrentGemmaForCausalLM(
        RecurrentGemmaConfig(**settings, **window, logits_soft_cap=1.0)
    )


def modernbert_decoder() -> PreTrainedModel:
    """Has a layer between its backbone and its head."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    settings = {name: SMALL[name] for name in (*names, "num_attention_heads", "pad_token_id")}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)
    config = ModernBertDecoderConfig(**settings, **special, initializer_range=0.2)
    return ModernBertDecoderForCausalLM(config)


@torch.no_grad()
def cross_entropy_by_hand(model: Any, dataset: Any) -> float:
    """Mean over all supervised tokens, one example at a time, from the model's own logits."""
    model.eval()
    total, count = 0.0, 0
    for row in dataset:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
        total += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        count += int((labels != -100).sum())
    return total / count


@pytest.mark.parametrize("gate", ["all", "none"])
@pytest.mark.parametrize("make", [make_model, rescaled, recurrent_gemma, modernbert_decoder])
def test_training_and_evaluation_take_the_logits_of_the_model(
    tmp_path: Path, make: Any, gate: str
) -> None:
    torch.manual_seed(0)
    whole = {"learning_rate": 0.0, "max_steps": 1, "per_device_train_batch_size": 32}
    held_out = {"sft_arguments": {"eval_dataset": HELD_OUT}, "per_device_eval_batch_size": 12}
    trainer = make_trainer(tmp_path, model=make(), gate=gate, alpha=0.0, **whole, **held_out)
    in_evaluation = cross_entropy_by_hand(trainer.model, trainer.eval_dataset)
    in_training = cross_entropy_by_hand(trainer.model, trainer.train_dataset)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(in_evaluation, rel=1e-5)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses == [pytest.approx(in_training, rel=1e-5)]


def test_evaluation_loss_is_plain_cross_entropy_whatever_the_gate(tmp_path: Path) -> None:
    held_out = {"sft_arguments": {"eval_dataset": HELD_OUT}}
    gated = make_trainer(tmp_path, gate="all", alpha=0.9, **held_out)
    plain = make_trainer(tmp_path, gate="none", **held_out)
    assert gated.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


@pytest.mark.parametrize("gate", ["all", "none"])
@pytest.mark.parametrize("penalty", ["label_smoothing", "margin"])
def test_evaluation_needs_no_options_and_plain_fine_tuning_neither(
    tmp_path: Path, gate: str, penalty: str
) -> None:
    bare = HELD_OUT.remove_columns("options")
    settings = {"gate": gate, "penalty": penalty, "support": "options", "eval_strategy": "epoch"}
    if gate == "none":
        settings |= {"train": make_data(32).remove_columns("options"), "calibration": None}
    trainer = make_trainer(tmp_path, sft_arguments={"eval_dataset": bare}, **settings)
    trainer.train()
    expected = cross_entropy_by_hand(trainer.model, trainer.eval_dataset)
    held_out = {"per_device_eval_batch_size": 12, "sft_arguments": {"eval_dataset": bare}}
    again = make_trainer(tmp_path, model=trainer.model, **held_out)
    assert again.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gate", ["nll", "none"])
@pytest.mark.parametrize("layout", [{}, {"padding_free": True, "max_length": None}])
def test_evaluation_says_what_that_of_trl_says(
    tmp_path: Path, gate: str, layout: dict[str, Any]
) -> None:
    held_out = {"eval_calibration": False, "sft_arguments": {"eval_dataset": HELD_OUT}}
    ours = make_trainer(tmp_path, gate=gate, **held_out, **layout)
    ours.train()
    model = make_model()
    model.load_state_dict(ours.model.state_dict())
    theirs = SFTTrainer(
        model,
        SFTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False, **layout),
        train_dataset=make_data(32).remove_columns("options"),
        eval_dataset=HELD_OUT.remove_columns("options"),
        processing_class=make_tokenizer(),
    )
    found, expected = ours.evaluate(), theirs.evaluate()
    for name in ("eval_loss", "eval_entropy", "eval_mean_token_accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    del expected["eval_model_preparation_time"]  # logged by who has not trained
    assert expected.keys() == found.keys()


def test_evaluating_changes_nothing_of_the_training(tmp_path: Path) -> None:
    held_out = {"sft_arguments": {"eval_dataset": HELD_OUT}}
    settings = {"gate": "random", "cut": 4.0, "max_steps": 6, **held_out}
    alone = make_trainer(tmp_path / "alone", **settings)
    evaluated = make_trainer(tmp_path / "eval", eval_strategy="steps", eval_steps=1, **settings)
    alone.train()
    evaluated.train()
    for name, weight in alone.model.state_dict().items():
        assert torch.equal(weight, evaluated.model.state_dict()[name]), name
    rates = [
        [row["gate_rate"] for row in trainer.state.log_history if "gate_rate" in row]
        for trainer in (alone, evaluated)
    ]
    assert rates[0] == rates[1]
    assert max(rates[0]) > 0


@pytest.mark.filterwarnings("ignore:`return_outputs=True`:FutureWarning")
def test_metrics_of_ones_own_are_given_all_the_logits(tmp_path: Path) -> None:
    given: list[Any] = []

    def keep(prediction: Any) -> dict[str, float]:
        given.append(prediction)
        return {"mine": 1.0}

    arguments = {"eval_dataset": HELD_OUT, "compute_metrics": keep}
    settings = {"per_device_eval_batch_size": 12, "sft_arguments": arguments}
    trainer = make_trainer(tmp_path, gate="all", **settings)
    assert trainer.evaluate()["eval_mine"] == 1.0
    batch = trainer.padded_collator(list(trainer.eval_dataset))
    with torch.no_grad():
        logits = trainer.model(batch["input_ids"], batch["attention_mask"]).logits
    np.testing.assert_allclose(given[0].predictions, logits.numpy(), atol=1e-5)
    np.testing.assert_array_equal(given[0].label_ids, batch["labels"].numpy())


def test_trained_tokens_of_tied_embeddings_train_and_are_evaluated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True))
    config = LoraConfig(task_type="CAUSAL_LM", r=2, trainable_token_indices=[5, 9])
    arguments = {"eval_dataset": HELD_OUT, "peft_config": config}
    trainer = make_trainer(tmp_path, model=model, gate="all", sft_arguments=arguments)
    trainer.train()
    expected = cross_entropy_by_hand(trainer.model, trainer.eval_dataset)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_on_the_head_is_refused(tmp_path: Path, dora: bool) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["lm_head"], use_dora=dora)
    with pytest.raises(ValueError, match="Applying a PEFT adapter to `lm_head` is not supported"):
        make_trainer(tmp_path, sft_arguments={"peft_config": config})

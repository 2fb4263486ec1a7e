"""``penalty="anchor"``: the base model is asked once, and kept to where the gate opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_resume import StopAt
from tiny_run import assert_same_weights, make_args, make_data, make_model, make_trainer
from torch import Tensor

from cogcalib.knowledge.ledger import read_ledger
from cogcalib.losses import BaseAnswers
from cogcalib.training.anchor import adapter_off, refuse_without_base

LORA: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
ANCHOR: dict[str, Any] = {"penalty": "anchor", "support": "options", "alpha": 1.0, "gate": "all"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "padding-free": {"padding_free": True, "max_length": None},
    "packed": {"packing": True, "max_length": 24, "per_device_train_batch_size": 3},
}
SUPPORTS = ["options", "vocab"]


def make_anchored(output: Path, *, lora: Any = None, **settings: Any) -> Any:
    sft = {"peft_config": LoraConfig(**LORA, **(lora or {})), **settings.pop("sft_arguments", {})}
    return make_trainer(output, sft_arguments=sft, **{**ANCHOR, **settings})


def rows(trainer: Any) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "penalty" in row]


def base_answers(trainer: Any) -> BaseAnswers:
    trainer.measure_base()
    answers: BaseAnswers = trainer.anchor._answers
    return answers


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_over_options_it_is_what_the_model_says_with_its_adapter_off(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    trainer = make_anchored(tmp_path, lora={"init_lora_weights": False}, **layout)
    trainer.model_wrapped = trainer.model
    measured = base_answers(trainer).log_p
    assert measured.shape == (32, 4)
    torch.testing.assert_close(measured.exp().sum(1), torch.ones(32))
    fresh, plain = make_model(), make_anchored(tmp_path / "plain", ledger=False).train_dataset
    for number, row in enumerate(plain):
        logits = fresh(torch.tensor([row["input_ids"]])).logits[0]
        first = next(t for t, label in enumerate(row["labels"]) if label >= 0)
        expected = logits[first - 1, row["option_ids"]].log_softmax(0)
        place = trainer.anchor._starts[number]
        torch.testing.assert_close(measured[place], expected.detach(), rtol=1e-5, atol=1e-5)


def test_over_the_vocabulary_it_is_the_most_probable_tokens_of_every_one(tmp_path: Path) -> None:
    trainer = make_anchored(tmp_path, support="vocab", lora={"init_lora_weights": False})
    trainer.model_wrapped = trainer.model
    measured = base_answers(trainer)
    assert measured.ids is not None
    fresh, place = make_model(), 0
    for number, row in enumerate(trainer.train_dataset):
        log_p = fresh(torch.tensor([row["input_ids"]])).logits[0].log_softmax(1).detach()
        assert int(trainer.anchor._starts[number]) == place
        for t, label in enumerate(row["labels"]):
            if label < 0:
                continue
            top = log_p[t - 1].topk(32)
            assert set(top.indices.tolist()) == set(measured.ids[place].tolist())
            found = measured.log_p[place]
            torch.testing.assert_close(found[:32], top.values, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.exp().sum(), torch.tensor(1.0))
            place += 1
    assert place == len(measured.log_p)


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_nothing_to_keep_to_before_the_first_step_and_something_after_it(
    tmp_path: Path, support: str, layout: dict[str, Any]
) -> None:
    """B of a new adapter is 0, hence the model its own base."""
    trainer = make_anchored(tmp_path, support=support, **layout)
    trainer.train()
    first, *later = [row["penalty"] for row in rows(trainer)]
    assert first == pytest.approx(0, abs=1e-6)
    assert all(each > 1e-4 for each in later)


@pytest.mark.parametrize("support", SUPPORTS)
def test_alpha_zero_and_a_closed_gate_are_plain_fine_tuning_to_the_bit(
    tmp_path: Path, support: str
) -> None:
    plain = make_anchored(tmp_path / "sft", gate="none", support=support)
    plain.train()
    assert plain.anchor is None
    for name, settings in {
        "zero": {"alpha": 0.0},
        "closed": {"gate": "nll", "cut": float("-inf"), "alpha": 5.0},
    }.items():
        trainer = make_anchored(tmp_path / name, support=support, **settings)
        trainer.train()
        assert_same_weights(trainer, plain)
    anchored = make_anchored(tmp_path / "anchored", support=support)
    anchored.train()
    with pytest.raises(AssertionError):
        assert_same_weights(anchored, plain)


def test_the_gate_says_who_is_held(tmp_path: Path) -> None:
    trainer = make_anchored(tmp_path, gate="nll", cut=4.0)
    trainer.train()
    ledger = read_ledger(tmp_path).to_pylist()
    assert {row["weight"] for row in ledger} == {0.0, 1.0}
    step = [row for row in ledger if row["step"] == 2]
    assert all((row["penalty"] > 0) == (row["weight"] == 1) for row in step)
    held = sum(row["penalty"] for row in step) / len(step)  # all have two tokens, alpha is 1
    assert rows(trainer)[2]["penalty"] == pytest.approx(held, rel=1e-4)


@pytest.mark.parametrize("support", SUPPORTS)
def test_a_strong_anchor_keeps_the_model_where_it_was(tmp_path: Path, support: str) -> None:
    loose, tight = (
        make_anchored(tmp_path / f"{alpha}", alpha=alpha, support=support, max_steps=12)
        for alpha in (0.1, 30.0)
    )
    loose.train()
    tight.train()
    assert rows(tight)[-1]["penalty"] < rows(loose)[-1]["penalty"] / 3


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, layout: str, support: str
) -> None:
    def train(output: str, stop: int | None = None, *, resume: bool = False) -> Any:
        trainer = make_anchored(
            tmp_path / output,
            model=make_model(attention_dropout=0.0 if layout == "packed" else 0.2),
            lora={"lora_dropout": 0.1},
            gate="nll",
            support=support,
            max_steps=7,
            style_steps=1,
            threshold_every=2,
            save_strategy="steps",
            save_steps=1,
            sft_arguments={"callbacks": [StopAt(stop)] if stop else []},
            **LAYOUTS[layout],
        )
        trainer.train(resume_from_checkpoint=resume or None)
        return trainer

    whole = train("whole")
    train("parts", 3)
    resumed = train("parts", resume=True)
    assert resumed.knowledge == whole.knowledge
    for ours, theirs in zip(resumed.anchor._answers, whole.anchor._answers, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    assert_same_weights(resumed, whole)


def test_measuring_leaves_no_trace(tmp_path: Path) -> None:
    trainer = make_anchored(tmp_path)
    trainer.model_wrapped = trainer.model
    frozen = next(name for name, p in trainer.model.named_parameters() if "lora_A" in name)
    dict(trainer.model.named_parameters())[frozen].requires_grad_(False)
    before = {name: p.requires_grad for name, p in trainer.model.named_parameters()}
    trainer.model.train()
    state = torch.random.get_rng_state()
    trainer.measure_base()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert trainer.model.training
    assert {name: p.requires_grad for name, p in trainer.model.named_parameters()} == before


def test_a_module_trained_whole_beside_the_adapter_is_off_with_it(tmp_path: Path) -> None:
    trainer = make_anchored(tmp_path, lora={"modules_to_save": ["lm_head"]})
    trainer.train()
    ids = torch.tensor([[11, 12, 13]])
    with torch.no_grad(), adapter_off(trainer.model):
        found: Tensor = trainer.model.eval()(ids).logits
    torch.testing.assert_close(found, make_model()(ids).logits.detach())
    assert rows(trainer)[0]["penalty"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora": {"init_lora_weights": "pissa"}}, r"init_lora_weights='pissa' changes the weig"),
        ({"lora": {"bias": "all"}}, r"bias='all' trains biases of the base"),
        ({"torch_compile": True}, r"with torch_compile=True nobody has tried"),
        ({"alpha": "auto"}, r"alpha='auto' has nothing to tune with penalty='anchor'"),
        ({"alpha": "calibrated"}, r"alpha='calibrated' needs penalty='label_smoothing'"),
        ({"alpha": "gap"}, r"alpha='gap' needs penalty='label_smoothing'"),
        ({"alpha": -1.0}, r"alpha must be a finite number >= 0"),
    ],
)
def test_what_it_cannot_do_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_anchored(tmp_path, **settings)


def test_without_an_adapter_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"full fine-tuning changes the base itself; give peft_c"):
        make_trainer(tmp_path, **ANCHOR)
    model = get_peft_model(make_model(), LoraConfig(**LORA))
    next(p for name, p in model.named_parameters() if "embed" in name).requires_grad_(True)
    with pytest.raises(ValueError, match=r"embed_tokens\.weight is trained and belongs to the bas"):
        make_trainer(tmp_path, model=model, **ANCHOR)
    make_trainer(tmp_path, **{**ANCHOR, "gate": "none"})  # then there is no penalty


def test_divided_weights_are_refused(tmp_path: Path) -> None:
    model = get_peft_model(make_model(), LoraConfig(**LORA))
    args = make_args(tmp_path, **ANCHOR)
    refuse_without_base(args, model, sharded=False)
    with pytest.raises(ValueError, match="with FSDP and DeepSpeed, which divide the weights"):
        refuse_without_base(args, model, sharded=True)


def test_options_and_numbers_are_asked_for(tmp_path: Path) -> None:
    without = make_data(16).remove_columns("options")
    with pytest.raises(ValueError, match="support='options'"):
        make_anchored(tmp_path, train=without, calibration=None)
    numbered = make_data(16).add_column("example_number", list(range(16)))
    with pytest.raises(ValueError, match="penalty='anchor' make their own"):
        make_anchored(tmp_path, train=numbered, ledger=False)


def test_alpha_is_one_by_default(tmp_path: Path) -> None:
    args = make_args(tmp_path, penalty="anchor", alpha=None)
    assert args.initial_alpha == 1
    trainer = make_anchored(tmp_path, alpha=None, support="auto", ledger=False)
    assert (trainer.args.alpha, trainer.penalty.support) == (1, "options")
    trainer.train()
    assert len(rows(trainer)) == 3

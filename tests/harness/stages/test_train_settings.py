"""Keys of the configuration arrive where a model is loaded and trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from cogcalib.harness.config import Config, ConfigError, Method, parse_config
from cogcalib.harness.stages import train_into
from cogcalib.modeling import load_model
from cogcalib.records import ProbeRecord
from cogcalib.tasks import load_task
from cogcalib.training import CogCalibConfig

stage = importlib.import_module("cogcalib.harness.stages.train")
BASIC = "name: x\nmethods: [sft]\ntrain: {steps: 4, batch_size: 2}\n"


def config(*overrides: str) -> Config:
    return parse_config(BASIC, list(overrides))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Config], dict[str, Any]]:
    """What `fit` is called with for a configuration: its model, settings and adapter."""
    held: dict[str, Any] = {}

    def called(
        model: Any, tokenizer: Any, data: Any, output: Path, settings: Any, **rest: Any
    ) -> None:
        held.update(model=model, peft=rest["peft_config"], settings=settings)
        held["arguments"] = CogCalibConfig(str(tmp_path / "out"), **settings)

    monkeypatch.setattr(stage, "fit", called)
    task = load_task("atlas/country")
    splits = {split: task.splits[split][:12] for split in ("train", "calibration", "test")}

    def run(asked: Config) -> dict[str, Any]:
        train_into(
            tmp_path / "m", asked, Method.parse("sft"), 3, splits, {}, lambda _: lambda _: None
        )
        return held

    return run


def test_the_adapter_is_the_one_asked_for(trained: Callable[[Config], dict[str, Any]]) -> None:
    plain = trained(config())["peft"]
    assert (plain.target_modules, plain.use_dora) == ("all-linear", False)
    asked = config("model.lora.targets=[q_proj, v_proj]", "model.lora.dora=true")
    found = trained(asked)["peft"]
    assert (set(found.target_modules), found.use_dora) == ({"q_proj", "v_proj"}, True)


@pytest.mark.parametrize(
    ("given", "name"),
    [("cosine", "cosine"), ("linear", "linear"), ("constant", "constant_with_warmup")],
)
def test_schedule(trained: Callable[[Config], dict[str, Any]], given: str, name: str) -> None:
    arguments = trained(config(f"train.schedule={given}"))["arguments"]
    assert arguments.lr_scheduler_type == name


def test_gradient_checkpointing(trained: Callable[[Config], dict[str, Any]]) -> None:
    assert not trained(config())["arguments"].gradient_checkpointing
    assert trained(config("train.gradient_checkpointing=true"))["arguments"].gradient_checkpointing


def test_batches_of_a_calibration_pass(trained: Callable[[Config], dict[str, Any]]) -> None:
    assert trained(config())["arguments"].per_device_eval_batch_size == 8
    found = trained(config("train.eval_batch_size=32"))["arguments"]
    assert (found.per_device_eval_batch_size, found.per_device_train_batch_size) == (32, 2)


def test_trackers_and_the_name_of_a_training(
    trained: Callable[[Config], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(config())["arguments"].report_to == []
    found = trained(config("train.report_to=[wandb]"))["arguments"]
    assert (found.report_to, found.run_name) == (["wandb"], "x sft seed 3")
    monkeypatch.setattr(stage, "get_available_reporting_integrations", lambda: ["mlflow"])
    with pytest.raises(ValueError, match=r"report_to must name .* mlflow; got wandb"):
        stage.check_methods(config("train.report_to=[wandb]"))


def test_a_tracker_reaches_the_trainer(tmp_path: Path) -> None:
    task = load_task("atlas/country")
    splits = {split: task.splits[split][:12] for split in ("train", "calibration", "test")}
    asked = config("train.report_to=[codecarbon]")
    known = {
        each.id: ProbeRecord(each.id, "known", 1.0, 1.0, 0.0, "rotations")
        for each in splits["train"]
    }
    with pytest.raises(RuntimeError, match="codecarbon"):  # transformers': it is not installed
        train_into(
            tmp_path / "m", asked, Method.parse("sft"), 0, splits, known, lambda _: lambda _: None
        )


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_attention(trained: Callable[[Config], dict[str, Any]], name: str) -> None:
    model: PreTrainedModel = trained(config(f"model.attention={name}"))["model"]
    assert model.config._attn_implementation == name


def test_attention_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention must be one of eager, sdpa.*got 'fast'"):
        load_model("atlas", attention="fast")


def test_four_bits_reach_the_loading(
    trained: Callable[[Config], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def load(path: str, *, four_bit: bool, **how: Any) -> Any:
        asked.append(four_bit)
        return load_model(path, **how)

    monkeypatch.setattr(stage, "load_model", load)
    trained(config("model.four_bit=true"))
    trained(config())
    assert asked == [True, False]
    with pytest.raises(ConfigError, match=r"four_bit needs an adapter"):
        config("model.four_bit=true", "model.lora=null")

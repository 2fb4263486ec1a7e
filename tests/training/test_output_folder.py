"""A folder that holds another training: refused where the two cannot be told apart, else said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from tiny_run import make_trainer, weights

from cogcalib.modeling.model_files import check_one_model

WARNED = "holds an earlier training"


def kind_of(adapter: bool) -> dict[str, Any]:
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    return {"sft_arguments": {"peft_config": config}} if adapter else {}


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("adapter", [True, False])
def test_the_other_kind_is_refused_before_anything_is_done(tmp_path: Path, adapter: bool) -> None:
    first = make_trainer(tmp_path, **kind_of(not adapter), max_steps=1)
    first.train()
    first.save_model()
    before = content(tmp_path)
    trainer = make_trainer(tmp_path, **kind_of(adapter), max_steps=1)
    held, saves = "a whole model (model.safetensors)", "an adapter"
    if not adapter:
        held, saves = "an adapter (adapter_config.json)", "a whole model"
    for act in (trainer.train, trainer.save_model):
        with pytest.raises(ValueError, match="Set output_dir to another folder") as told:
            act()
        assert f"output_dir={str(tmp_path)!r} holds {held}, and this training saves {saves}" in str(
            told.value
        )
    assert content(tmp_path) == before
    assert trainer.state.global_step == 0
    elsewhere = make_trainer(tmp_path / "own", **kind_of(adapter), max_steps=1)
    elsewhere.train()
    with pytest.raises(ValueError, match="output_dir="):
        elsewhere.save_model(str(tmp_path))
    elsewhere.save_model()
    check_one_model(tmp_path)
    check_one_model(tmp_path / "own")


def test_so_are_checkpoints_of_the_other_kind_where_some_will_be_saved(tmp_path: Path) -> None:
    saving: dict[str, Any] = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    make_trainer(tmp_path, **kind_of(True), **saving).train()
    with pytest.raises(ValueError, match=r"an adapter \(checkpoint-1/adapter_config.json\)"):
        make_trainer(tmp_path, **saving).train()
    make_trainer(tmp_path, max_steps=1).train()


@pytest.mark.parametrize("adapter", [True, False])
def test_training_again_says_what_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, adapter: bool
) -> None:
    def warned() -> list[str]:
        found = [line for line in caplog.messages if WARNED in line]
        caplog.clear()
        return found

    first = make_trainer(tmp_path, **kind_of(adapter), max_steps=1)
    first.train()
    first.save_model()
    assert warned() == []
    make_trainer(tmp_path, **kind_of(adapter), max_steps=1, gate="none").train()
    (said,) = warned()
    assert "ledger/" not in said, "it is not kept, and stays"
    make_trainer(tmp_path, **kind_of(adapter), max_steps=1).train()
    (said,) = warned()
    assert said == (
        f"{tmp_path} holds an earlier training, and this one replaces it: ledger/ and "
        f"thresholds.json by training; the {'adapter' if adapter else 'model'} and "
        "calibration.json (with any temperature and abstention rules) when the model is saved. To "
        "keep it set output_dir to another folder."
    )


def test_going_on_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saving: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    first = make_trainer(tmp_path, **kind_of(True), **saving)
    first.train()
    first.save_model()
    again = make_trainer(tmp_path, **kind_of(True), **saving)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.state.global_step == 2
    assert all((weights(again)[name] == each).all() for name, each in weights(first).items())
    again.save_model()
    assert WARNED not in caplog.text

"""A trained model is gone before the next one is read: two of 8 B do not fit on a device."""

from __future__ import annotations

import gc
import weakref
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from cogcalib.harness.config import Method, parse_config
from cogcalib.harness.stages import Loaded, load_tasks, train_into
from cogcalib.modeling import load_model
from cogcalib.records import ProbeRecord

CONFIG = """
name: tiny
model: {{path: atlas, lora: {lora}}}
tasks: {{train: atlas/country}}
train: {{steps: 3, style_steps: 1, threshold_every: 1}}
"""


@pytest.mark.parametrize("lora", ["{}", "null"])
@pytest.mark.filterwarnings("ignore:calibration_dataset has")
def test_a_trained_model_is_gone(
    lora: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(CONFIG.format(lora=lora))
    task, _ = load_tasks(config)
    splits = {"train": task.splits["train"][:32], "calibration": task.splits["calibration"][:240]}
    labels = {each.id: ProbeRecord(each.id, "unknown", 0.0, 0.0, 0.0) for each in splits["train"]}
    trained: list[weakref.ref[PreTrainedModel]] = []

    def watch(loaded: Loaded) -> Any:
        trained.append(weakref.ref(loaded[0]))
        return lambda done: None

    room = import_module("cogcalib.modeling.model")
    read = room._read_whole

    def checked(*where: Any, **how: Any) -> PreTrainedModel:
        if trained:
            assert trained[0]() is None
            trained.clear()
        model: PreTrainedModel = read(*where, **how)
        return model

    monkeypatch.setattr(room, "_read_whole", checked)
    gc.disable()  # nothing but the loading collects
    try:
        train_into(tmp_path / "out", config, Method.parse("cols"), 0, splits, labels, watch)
        assert trained[0]() is not None  # cycles hold it: this can fail
        load_model("atlas")
        assert trained == []
    finally:
        gc.enable()

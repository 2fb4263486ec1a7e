"""Training every weight of a model that is too large is refused before anything is loaded."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig

from cogcalib.harness.config import parse_config
from cogcalib.harness.stages import begin, whole_training
from cogcalib.harness.stages.whole_training import check_whole_training
from cogcalib.modeling import load_model
from cogcalib.modeling.model_spec import parameter_count
from cogcalib.records import InputError


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """The configuration of Llama-3-8B, its weights an empty file."""
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
    size = {"hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256}
    LlamaConfig(**size, **heads, num_hidden_layers=32).save_pretrained(tmp_path / "llama")
    (tmp_path / "llama" / "model.safetensors").touch()
    return tmp_path / "llama"


def test_parameters_are_counted_without_weights(llama: Path) -> None:
    assert parameter_count(str(llama)) == 8_030_261_248
    model, _ = load_model("atlas", device="cpu")
    assert parameter_count("atlas") == sum(each.numel() for each in model.parameters())


def test_a_run_that_cannot_fit_is_refused(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_training, "host_memory", lambda: 80 * 10**9)
    model = f"model: {{path: {llama}, dtype: float32, lora: null}}"
    whole = parse_config(f"name: x\nmethods: [base, sft]\n{model}")
    said = r"every weight of .*llama takes 128\.5 GB, and this machine has 80\.0 GB"
    with pytest.raises(InputError, match=said):
        begin(whole, tmp_path / "x", Console(file=io.StringIO()))
    assert not (tmp_path / "x").exists()
    # Nothing is trained, or an adapter is.
    check_whole_training(parse_config(f"name: x\nmethods: [base]\n{model}"))
    check_whole_training(parse_config(f"name: x\nmodel: {{path: {llama}, dtype: float32}}"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    memory = SimpleNamespace(total_memory=141 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    check_whole_training(whole)

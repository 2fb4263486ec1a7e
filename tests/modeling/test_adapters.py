"""Adapters and models whose tensors are not those asked for are refused, not scored in part."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import build_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib import cli
from cogcalib.modeling import fingerprint, load_model, lora_config
from cogcalib.modeling.adapters import BASE_RECORD, check_adapter, record_base
from cogcalib.records import write_json

WEIGHTS = "adapter_model.safetensors"


def save_base(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 32) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(build_tokenizer()),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(
    base: Path, folder: Path, config: PeftConfig | None = None, resize: int | None = None
) -> Path:
    model = LlamaForCausalLM.from_pretrained(base)
    if resize is not None:
        model.resize_token_embeddings(resize, mean_resizing=False)
    adapted = get_peft_model(model, config or lora_config(2, 4))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT on embeddings that were saved too
        adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("adapter") / "lora")


def edited(adapter: Path, to: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    shutil.copytree(adapter, to)
    save_file(edit(load_file(to / WEIGHTS)), to / WEIGHTS)
    return to


def renamed(weights: dict[str, Any]) -> dict[str, Any]:
    return {
        key.replace("base_model.model.model", "base_model.model"): w for key, w in weights.items()
    }


def halved(weights: dict[str, Any]) -> dict[str, Any]:
    return {key: weights[key] for key in sorted(weights)[: len(weights) // 2]}


def of_one_kind(weights: dict[str, Any]) -> dict[str, Any]:
    return {key: w for key, w in weights.items() if "lora_A" in key}


def with_more(weights: dict[str, Any]) -> dict[str, Any]:
    key = next(key for key in weights if "layers.0" in key)
    return weights | {key.replace("layers.0", "layers.7"): weights[key].clone()}


@pytest.mark.parametrize("edit", [renamed, halved, of_one_kind, with_more, lambda _: {}])
def test_missing_and_unexpected_tensors_are_refused(base, adapter, tmp_path, edit) -> None:
    wrong = edited(adapter, tmp_path / "wrong", edit)
    with pytest.raises(
        ValueError, match=r"wrong does not fit the model .*: it (lacks|has) tensors"
    ):
        load_model(base, adapter=wrong, device="cpu")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"layers": 3}, "was trained on .*base, not on the model"),
        ({"layers": 1}, "has tensors without a place, 14 in number, .*layers.1"),
        ({"width": 16}, "does not fit the model .*size mismatch"),
        ({"seed": 1}, "was trained on .*base, not on the model"),
    ],
)
def test_another_base_is_refused(adapter, tmp_path, other, what) -> None:
    with pytest.raises(ValueError, match=what):
        load_model(save_base(tmp_path / "other", **other), adapter=adapter, device="cpu")


def without_name(adapter: Path, folder: Path) -> Path:
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": None})
    return folder


def test_fewer_layers_than_the_model_has_are_told_where_nothing_names_the_base(
    adapter, tmp_path
) -> None:
    deep, nameless = save_base(tmp_path / "deep", layers=3), without_name(adapter, tmp_path / "a")
    with pytest.warns(UserWarning, match="reaches 2 of 3 layers"):
        check_adapter(nameless, deep)


def test_every_layer_must_have_its_tensors(base, tmp_path) -> None:
    by_kind = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    saved = save_adapter(base, tmp_path / "saved", by_kind)
    with pytest.raises(ValueError, match=r"it lacks tensors, 4 in number, the first .*layers\.2"):
        check_adapter(saved, save_base(tmp_path / "deep", layers=3))


def test_the_base_is_known_by_what_was_noted(base, adapter, tmp_path) -> None:
    other = save_base(tmp_path / "other", seed=1)
    beside, of_run = tmp_path / "beside", tmp_path / "run" / "train" / "cogcalib" / "seed-0"
    for folder in (beside, of_run):
        without_name(adapter, folder)
    record_base(beside, fingerprint(base))
    write_json(tmp_path / "run" / "model.json", fingerprint(base))
    for folder, record in ((beside, BASE_RECORD), (of_run, "model.json")):
        load_model(base, adapter=folder, device="cpu")
        with pytest.raises(ValueError, match=f"are not those of the model .*{record}"):
            load_model(other, adapter=folder, device="cpu")


def test_a_copy_of_the_base_is_the_base(base, adapter, tmp_path) -> None:
    shutil.copytree(base, tmp_path / "copy")
    load_model(tmp_path / "copy", adapter=adapter, device="cpu")


def test_the_base_by_name(base, adapter, tmp_path) -> None:
    def named(name: str) -> Path:
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(adapter, folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": name})
        return folder

    check_adapter(named("somebody/Base"), base)  # a copy of the hub's, by the folder's name
    cached = tmp_path / "models--org--model" / "snapshots" / "0123"
    shutil.copytree(base, cached)
    check_adapter(named("org/model"), cached)
    for unknown in ("meta/other-model", "/gone/base-model"):
        with pytest.warns(UserWarning, match="cannot be told, only that its tensors fit"):
            check_adapter(named(unknown), base)


def test_two_names_of_the_hub_are_two_models(base, adapter, tmp_path, monkeypatch) -> None:
    shutil.copytree(adapter, tmp_path / "lora")
    config = json.loads((adapter / "adapter_config.json").read_text())
    write_json(
        tmp_path / "lora" / "adapter_config.json", config | {"base_model_name_or_path": "a/one"}
    )
    bare = LlamaForCausalLM.from_pretrained(base).to("meta")
    monkeypatch.setattr("cogcalib.modeling.adapters.bare_model", lambda _: bare)
    served = {"path": "b/two", "sha256": None, "commit": "0" * 40}
    monkeypatch.setattr("cogcalib.modeling.adapters.fingerprint", lambda _: served)
    with pytest.raises(ValueError, match="was trained on a/one, not on the model b/two"):
        check_adapter(tmp_path / "lora", "b/two")


def test_a_resized_vocabulary_is_called_so(base, tmp_path) -> None:
    size = len(build_tokenizer())
    wide = save_adapter(base, tmp_path / "wide", resize=size + 8)
    with pytest.raises(ValueError, match=f"a vocabulary of {size + 8} tokens, the model .* {size}"):
        load_model(base, adapter=wide, device="cpu")


def test_a_damaged_adapter_is_named(base, adapter, tmp_path) -> None:
    for name in (WEIGHTS, "adapter_config.json"):
        folder = tmp_path / name
        shutil.copytree(adapter, folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=rf"adapter .*: {name} cannot be read"):
            load_model(base, adapter=folder, device="cpu")


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="CAUSAL_LM", r=2, use_dora=True),
        LoraConfig(task_type="CAUSAL_LM", r=2, use_rslora=True, bias="all"),
        LoraConfig(task_type="CAUSAL_LM", r=2, modules_to_save=["lm_head"]),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["embed_tokens", "lm_head"]),
        LoraConfig(task_type="CAUSAL_LM", r=2, trainable_token_indices=[3, 5]),
        LoraConfig(task_type="CAUSAL_LM", r=2, layers_to_transform=[1], target_modules=["q_proj"]),
        LoraConfig(r=2, target_modules=["q_proj"]),
        IA3Config(task_type="CAUSAL_LM"),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
)
def test_what_peft_saves_fits(base, tmp_path, config) -> None:
    check_adapter(save_adapter(base, tmp_path / "kind", config), base)


def test_a_part_that_was_trained_whole_may_not_be_missing(base, tmp_path) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=2, modules_to_save=["lm_head"])
    saved = save_adapter(base, tmp_path / "saved", config)

    def without_head(weights: dict[str, Any]) -> dict[str, Any]:
        return {key: w for key, w in weights.items() if "lm_head" not in key}

    with pytest.raises(ValueError, match=r"it lacks the tensor .*lm_head"):
        check_adapter(edited(saved, tmp_path / "headless", without_head), base)


def test_a_model_with_weights_missing_or_left_over_is_refused(base, tmp_path) -> None:
    def changed(name: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        shutil.copytree(base, tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        save_file(edit(load_file(file)), file, metadata={"format": "pt"})
        return tmp_path / name

    with pytest.raises(ValueError, match=r"its files lack \d+ weights"):
        load_model(changed("half", halved), device="cpu")
    with pytest.raises(ValueError, match=r"has no place for, the first model\.layers\.7"):
        load_model(changed("deep", with_more), device="cpu")
    # The head of another task changes nothing.
    load_model(changed("valued", lambda w: w | {"v_head.weight": torch.ones(3)}), device="cpu")
    cut = changed("cut", dict) / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut: its weights cannot be read"):
        load_model(cut.parent, device="cpu")


def test_score_and_probe_refuse_with_exit_code_2(base, adapter, tmp_path, capsys) -> None:
    wrong = edited(adapter, tmp_path / "wrong", halved)
    asked = ["--model", str(base), "--adapter", str(wrong), "--limit", "4"]
    out = tmp_path / "out"
    score = ["score", *asked, "--task", "atlas/country", "--output", str(tmp_path / "rows.jsonl")]
    probe = ["probe", *asked, "--task", "atlas/country", "--output", str(out)]
    for words in (score, probe):
        assert cli.main(words) == 2
        assert "does not fit the model" in capsys.readouterr().err
    assert not out.exists()
    assert not (tmp_path / "rows.jsonl").exists()

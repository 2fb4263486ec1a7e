from __future__ import annotations

import gc
import json
import shutil
import weakref
from importlib import import_module

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.modeling import ATLAS, load_model, load_tokenizer, lora_config, resolve_model

modeling_model = import_module("cogcalib.modeling.model")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with a tiny Llama in fp16 and a tokenizer without padding token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).half().save_pretrained(folder)
    words = {"</s>": 0, "<unk>": 1, "a": 2}
    backend = Tokenizer(models.WordLevel(words, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    model = get_peft_model(LlamaForCausalLM.from_pretrained(stored), lora_config(2, 4))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    model.save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 2, 3]])).logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_weights_come_in_the_dtype_asked(stored, dtype):
    model, _ = load_model(stored, dtype=dtype, device="cpu")
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    half = LlamaForCausalLM.from_pretrained(stored, dtype=torch.float16)
    for ours, theirs in zip(model.parameters(), half.parameters(), strict=True):
        assert torch.equal(ours.half(), theirs.to(ours.dtype).half())


def test_round_trip(stored, tmp_path):
    model, tokenizer = load_model(str(stored), device="cpu")
    assert not model.training
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, tokens = load_model(tmp_path, device="cpu")
    assert torch.equal(logits(model), logits(again))
    assert tokens("a b")["input_ids"] == tokenizer("a b")["input_ids"] == [2, 1]


def test_padding_token_defaults_to_the_end_token(stored):
    _, tokenizer = load_model(stored, device="cpu")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 0


def test_a_folder_with_a_tokenizer_alone_is_enough_for_it(stored, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stored / name, tmp_path / name)
    assert load_tokenizer(tmp_path)("a b")["input_ids"] == [2, 1]
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_model(tmp_path, device="cpu")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"empty has no tokenizer: none of tokenizer\.json"):
        load_tokenizer(empty)
    with pytest.raises(ValueError, match="does not exist"):
        load_tokenizer("./absent")


def test_device_defaults_to_what_is_there(stored, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_model(stored)[0].device == torch.device("cpu")


def test_adapter_is_put_on_top(stored, adapter):
    plain, _ = load_model(stored, device="cpu")
    model, _ = load_model(stored, adapter=adapter, device="cpu")
    assert isinstance(model, PeftModel)
    assert not model.training
    expected = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(stored).float(), adapter)
    assert torch.equal(logits(model), logits(expected.eval()))
    assert not torch.allclose(logits(model), logits(plain))


def test_pickled_weights_are_refused(stored, adapter, tmp_path):
    model, _ = load_model(stored, device="cpu")
    shutil.copytree(stored, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no weights in safetensors; pickled weights are refused"):
        load_model(tmp_path / "model")
    (tmp_path / "model" / "other.safetensors").touch()
    with pytest.raises(ValueError, match=r"cannot be read, .* no file named model\.safetensors"):
        load_model(tmp_path / "model")
    shutil.copytree(adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ValueError, match="pickled weights are refused"):
        load_model(stored, adapter=tmp_path / "adapter")
    (tmp_path / "adapter" / "other.safetensors").touch()
    with pytest.raises(ValueError, match=r"has no adapter_model\.safetensors"):
        load_model(stored, adapter=tmp_path / "adapter")


def test_bad_arguments_are_refused(stored, tmp_path):
    with pytest.raises(ValueError, match=r"dtype must be one of auto, float32, .*got 'fp8'"):
        load_model(stored, dtype="fp8")
    with pytest.raises(ValueError, match=r"device must be .* got 'gpu'"):
        load_model(stored, device="gpu")
    with pytest.raises(ValueError, match=r"model folder .* does not exist"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"model folder \./nothing does not exist"):
        load_model("./nothing")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="is a file, not a folder"):
        load_model(stored / "config.json")
    with pytest.raises(ValueError, match=r"adapter folder .* does not exist"):
        load_model(stored, adapter=tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"adapter folder .* has no adapter_config\.json"):
        load_model(stored, adapter=stored)


def test_adapter_given_as_model_says_what_to_do(adapter):
    with pytest.raises(ValueError, match="name its base model and pass it as adapter"):
        load_model(adapter)


def test_adapter_of_another_model_is_refused(stored, adapter, tmp_path):
    config = json.loads((adapter / "adapter_config.json").read_text())
    shutil.copytree(adapter, tmp_path / "adapter")
    config["r"] = 3
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit the model"):
        load_model(stored, adapter=tmp_path / "adapter", device="cpu")


def test_unreachable_hub_model_is_a_value_error():
    with pytest.raises(ValueError, match="'nobody/nothing' is no folder with a model, or the hub"):
        load_model("nobody/nothing")


@pytest.mark.parametrize("name", ["org/model", "/some/folder", "atlas-gpt"])
def test_other_names_resolve_to_themselves(name):
    assert resolve_model(name) == name


@pytest.mark.parametrize("name", sorted(ATLAS))
def test_atlas_resolves_to_the_cache_where_it_is_not_shipped(name, tmp_path, monkeypatch):
    files = "cogcalib.modeling.model_files.resources.files"
    monkeypatch.setattr(files, lambda _: tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arch = ATLAS[name]
    with pytest.raises(ValueError, match=f"python -m cogcalib.atlas.pretrain --arch {arch}"):
        resolve_model(name)
    for root in (tmp_path / "cache" / "cogcalib" / "atlas", tmp_path / "package/atlas/models"):
        (root / arch).mkdir(parents=True)
        (root / arch / "config.json").write_text("{}")
        assert resolve_model(name) == str(root / arch)


def test_cache_defaults_to_the_home_folder(tmp_path, monkeypatch):
    files = "cogcalib.modeling.model_files.resources.files"
    monkeypatch.setattr(files, lambda _: tmp_path / "package")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"\.cache/cogcalib/atlas/qwen2"):
        resolve_model("atlas-qwen2")


def test_weights_are_read_where_they_will_be_used(stored, monkeypatch):
    """Onto any device but the processor, straight from the file; the meta device stands for one."""
    plain, _ = load_model(stored, device="cpu")
    assert not hasattr(plain, "hf_device_map")
    seen = []
    move = torch.nn.Module.to

    def to(self, *where, **how):
        seen.append({each.device for each in self.parameters()})
        return move(self, *where, **how)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    load_model(stored, device="meta")
    assert seen[-1] == {torch.device("meta")}
    # The same path onto a device that holds numbers.
    monkeypatch.setattr(modeling_model, "_straight_onto", lambda _: {"device_map": {"": "cpu"}})
    placed, _ = load_model(stored, device="cpu")
    assert torch.equal(logits(placed), logits(plain))
    assert not any(hasattr(module, "_hf_hook") for module in placed.modules())


def test_a_model_that_nobody_holds_is_gone_before_the_next_is_read(stored, monkeypatch):
    model, _ = load_model(stored, device="cpu")
    model.itself = [model]  # as a trained one holds itself, by its trainer's callbacks
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is not None
        read = modeling_model._read_whole

        def checked(*where, **how):
            assert gone() is None
            return read(*where, **how)

        monkeypatch.setattr(modeling_model, "_read_whole", checked)
        load_model(stored, device="cpu")
    finally:
        gc.enable()

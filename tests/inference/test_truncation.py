"""The tempered and truncated distribution, against transformers' own and against counting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper

from cogcalib.inference.truncation import (
    cumulative,
    draw,
    from_most_probable,
    log_probabilities,
)

# Of few different values, so that ties with the k-th are common.
logits = st.lists(
    st.lists(st.integers(-4, 4).map(float), min_size=9, max_size=9), min_size=1, max_size=4
).map(lambda rows: torch.tensor(rows, dtype=torch.float64))


def theirs(values: torch.Tensor, temperature: float, top_k: int) -> torch.Tensor:
    values = TemperatureLogitsWarper(temperature)(None, values)
    if top_k:
        values = TopKLogitsWarper(top_k)(None, values)
    return values.log_softmax(-1)


@given(logits, st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 12))
def test_it_is_what_transformers_samples_from(values, temperature, top_k):
    tokens = torch.arange(9).repeat(len(values), 1)
    found = log_probabilities(values, tokens, temperature, top_k)
    torch.testing.assert_close(found, theirs(values, temperature, top_k))
    summed = theirs(values, temperature, top_k).exp().cumsum(-1)
    ids, found = cumulative(values, temperature, top_k)
    torch.testing.assert_close(found, summed.gather(1, ids))
    assert (ids.diff(dim=-1) > 0).all()


@given(logits, st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_no_token_is_drawn_that_was_cut(values, top_k, uniform):
    drawn = draw(*cumulative(values, 0.5, top_k), torch.full((len(values),), uniform).double())
    q = theirs(values, 0.5, top_k).exp().gather(1, drawn[:, None])
    assert (q > 0).all()


@pytest.mark.parametrize("top_k", [0, 3])
def test_evenly_spaced_draws_come_in_proportion(top_k):
    values = torch.tensor([[0.3, -1.0, 2.0, 2.0, 0.0, 1.9]], dtype=torch.float64)
    uniform = (torch.arange(20_000).double() + 0.5) / 20_000
    ids, summed = cumulative(values, 0.5, top_k)
    drawn = draw(ids.repeat(20_000, 1), summed.repeat(20_000, 1), uniform)
    share = drawn.bincount(minlength=6) / 20_000
    expected = theirs(values, 0.5, top_k).exp()[0].float()
    torch.testing.assert_close(share, expected, atol=1e-4, rtol=0)


@given(logits, st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 12), st.integers(0, 9))
def test_the_most_probable_tokens_suffice_unless_ties_go_beyond(values, temperature, top_k, spare):
    row, count = values[0].log_softmax(-1), min(top_k + spare, 9)
    top = row.topk(count)
    log_p = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    found = from_most_probable(log_p, temperature, top_k, whole=count == 9)
    if count < 9 and top.values[top_k - 1] == top.values[-1]:
        assert found is None
        return
    assert found is not None
    expected = theirs(values[:1], temperature, top_k).exp()[0]
    assert [found.get(token, 0.0) for token in range(9)] == pytest.approx(expected.tolist())

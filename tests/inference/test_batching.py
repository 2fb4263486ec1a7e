"""Batches: every sequence once, in a size that fits, the same results whatever happens."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.inference import batching as batches_module
from cogcalib.inference.batching import TOKENS, by_length, first_limit
from cogcalib.scoring import ScoreSettings, score

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
lengths = st.lists(st.integers(1, 3 * TOKENS), max_size=40)


class Machine:
    """Takes batches up to a number of padded tokens; beyond, its memory runs out."""

    def __init__(self, lengths: list[int], memory: int) -> None:
        self.lengths, self.memory = lengths, memory
        self.sizes: list[int] = []

    def __call__(self, batch: list[int]) -> list[int]:
        size = len(batch) * max(self.lengths[index] for index in batch)
        if size > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        self.sizes.append(size)
        return [-index for index in batch]


@given(lengths, st.integers(3 * TOKENS, 20 * TOKENS), st.sampled_from([None, 1, 3, 1000]))
def test_each_result_comes_once_in_order_however_little_memory(lengths, memory, batch_size):
    for device in (CPU, CUDA):
        machine = Machine(lengths, memory)
        found = by_length(lengths, machine, device, batch_size=batch_size)
        assert found == [-i for i in range(len(lengths))]


def test_longest_first_within_the_budget_on_a_cpu():
    lengths = [10, TOKENS // 4, TOKENS - 5, TOKENS // 2, TOKENS // 3] * 10
    machine = Machine(lengths, 10**9)
    by_length(lengths, machine, CPU)
    assert machine.sizes[:10] == [TOKENS - 5] * 10
    assert max(machine.sizes) <= TOKENS


def test_batches_grow_on_an_accelerator_until_memory_runs_out():
    lengths = [128] * 3000
    machine = Machine(lengths, 10 * TOKENS)
    by_length(lengths, machine, CUDA)
    assert machine.sizes[:6] == [TOKENS, 2 * TOKENS, 4 * TOKENS, 8 * TOKENS, *[8 * TOKENS] * 2]
    assert max(machine.sizes) == 8 * TOKENS
    free = Machine(lengths * 10, 10**9)
    by_length(free.lengths, free, CUDA)
    assert max(free.sizes) == batches_module.MOST_TOKENS


def test_a_batch_size_is_kept_until_memory_runs_out():
    machine = Machine([100] * 40, 1000)
    by_length([100] * 40, machine, CUDA, batch_size=16)
    assert machine.sizes == [800] * 5


def test_a_lack_of_memory_for_a_single_sequence_is_not_hidden():
    with pytest.raises(torch.OutOfMemoryError):
        by_length([100, 10], Machine([100, 10], 50), CUDA)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(batch: list[int]) -> list[int]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        by_length([1, 1], broken, CPU)


def test_progress_counts_what_is_done():
    seen: list[int] = []
    by_length([1] * 7, Machine([1] * 7, 2), CPU, batch_size=3, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_the_first_limit():
    assert first_limit(7, CUDA).rows(10**6) == 7
    assert first_limit(None, CPU).rows(TOKENS // 4) == 4
    assert first_limit(None, CPU).rows(10**9) == 1


@pytest.mark.parametrize("kind", ["choices", "questions"])
def test_scores_survive_a_lack_of_memory(request, llama, tokenizer, monkeypatch, kind):
    examples = request.getfixturevalue(kind)
    before = score(llama, tokenizer, examples, ScoreSettings(max_new_tokens=6))
    plain, failed = type(llama).forward, []

    @functools.wraps(plain)  # what it takes is looked at
    def forward(self, input_ids, **kwargs):
        if len(input_ids) > 3:
            failed.append(len(input_ids))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return plain(self, input_ids, **kwargs)

    monkeypatch.setattr(type(llama), "forward", forward)
    after = score(llama, tokenizer, examples, ScoreSettings(max_new_tokens=6))
    assert failed
    for one, other in zip(before, after, strict=True):
        assert one.prediction == other.prediction
        assert one.confidence == pytest.approx(other.confidence, abs=1e-10)
        assert one.nll == pytest.approx(other.nll, abs=1e-10)

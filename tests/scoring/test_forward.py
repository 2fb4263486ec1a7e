from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from cogcalib.modeling import encode_batch, lora_config
from cogcalib.scoring import forward

SEQUENCES = [[5], [5, 6, 7, 8, 9, 10], [11, 12, 13], [14, 15, 16, 17]]


def right_padded_logits(model, sequences):
    """The logits after each sequence's last token, from a batch padded on the right."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in sequences])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in sequences])
    logits = model(input_ids=ids, attention_mask=mask).logits
    return torch.stack([row[len(seq) - 1] for row, seq in zip(logits, sequences, strict=True)])


@torch.no_grad()
def test_left_padding_equals_right_padding_equals_none(model):
    left = forward.last_logits(model, SEQUENCES, 1, pad_id=0)[:, 0]
    alone = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in SEQUENCES])
    assert left.dtype == torch.float64
    torch.testing.assert_close(left, right_padded_logits(model, SEQUENCES), rtol=0, atol=1e-10)
    torch.testing.assert_close(left, alone, rtol=0, atol=1e-10)


@torch.no_grad()
def test_padding_token_does_not_matter(model):
    one, other = (forward.last_logits(model, SEQUENCES, 1, pad_id=pad) for pad in (0, 9))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@torch.no_grad()
def test_only_the_logits_wanted_are_computed_also_under_peft(llama):
    adapted = get_peft_model(type(llama)(llama.config).double(), lora_config(2, 4)).eval()
    ids, mask = forward.pad_left(SEQUENCES, 0)
    assert forward.forward(adapted, ids, mask, 2).logits.shape[1] == 2
    logits = forward.last_logits(adapted, SEQUENCES, 1, 0)[:, 0]
    expected = right_padded_logits(adapted, SEQUENCES)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_models_without_optional_arguments_work(llama):
    class Bare(torch.nn.Module):
        """Takes ids and mask only and returns all logits, like models with ALiBi."""

        device = torch.device("cpu")

        def forward(self, input_ids, attention_mask, use_cache):
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            return llama(input_ids, attention_mask=attention_mask, position_ids=positions)

    logits = forward.last_logits(Bare(), SEQUENCES, 2, 0)
    assert torch.equal(logits, forward.last_logits(llama, SEQUENCES, 2, 0))


@torch.no_grad()
def test_answer_logits_are_those_of_a_plain_forward(model, tokenizer, choices, questions):
    rows = encode_batch([*choices, *questions], tokenizer)
    seen = []
    for batch, logits in forward.logits_by_batch(model, rows, pad_id=0, batch_size=5):
        for index, ours in zip(batch, logits, strict=True):
            start = len(rows[index].prompt_ids)
            n = 1 if index < len(choices) else len(rows[index].answer_ids)
            whole = model(torch.tensor([rows[index].input_ids])).logits[0]
            torch.testing.assert_close(ours, whole[start - 1 : start - 1 + n], rtol=0, atol=1e-10)
            seen.append(index)
    assert sorted(seen) == list(range(len(rows)))


def test_batches_hold_every_index_once_longest_first():
    rows = list(forward.batches(SEQUENCES, 3))
    assert rows == [[1, 3, 2], [0]]
    assert list(forward.batches([], 3)) == []
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        forward.batches(SEQUENCES, 0)


def test_pad_left():
    ids, mask = forward.pad_left([[1, 2], [3]], 9)
    assert ids.tolist() == [[1, 2], [9, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]


def test_inference_restores_every_training_flag(llama):
    model = type(llama)(llama.config).train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]

    def fail() -> None:
        with forward.inference(model):
            assert not any(module.training for module in model.modules())
            assert torch.is_inference_mode_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in model.modules()] == before
    assert not torch.is_inference_mode_enabled()


def test_nan_is_refused_and_half_precision_upcast():
    assert forward.upcast(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32
    with pytest.raises(ValueError, match="nan logits"):
        forward.upcast(torch.tensor([0.0, torch.nan]))

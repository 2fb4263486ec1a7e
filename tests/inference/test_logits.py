from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from cogcalib.inference import logits as module

SEQUENCES = [[5], [5, 6, 7, 8, 9, 10], [11, 12, 13], [14, 15, 16, 17]]
ALL = range(len(SEQUENCES))


def plain_logits(model: PreTrainedModel, sequences: Sequence[list[int]]) -> torch.Tensor:
    """The logits after each sequence's last token, each passed through the model alone."""
    return torch.stack([model(torch.tensor([row])).logits[0, -1] for row in sequences])


@torch.no_grad()
def test_right_padding_equals_left_padding_equals_none(model):
    right = module.LogitReader(model, SEQUENCES, [1] * 4, pad_id=0).logits(ALL)
    assert right.dtype == torch.float64
    ids, mask = module.pad_left(SEQUENCES, 0)
    left = module.forward(model, ids, mask, 1, use_cache=False).logits[:, -1]
    torch.testing.assert_close(right, left, rtol=0, atol=1e-10)
    torch.testing.assert_close(right, plain_logits(model, SEQUENCES), rtol=0, atol=1e-10)


@torch.no_grad()
def test_padding_token_does_not_matter(model):
    one, other = (
        module.LogitReader(model, SEQUENCES, [1] * 4, pad_id=pad).logits(ALL) for pad in (0, 9)
    )
    assert torch.equal(one, other)


@torch.no_grad()
def test_logits_of_several_positions_come_sequence_by_sequence(model):
    kept = [1, 4, 2, 3]
    logits = module.LogitReader(model, SEQUENCES, kept, pad_id=0).logits([2, 1])
    expected = [model(torch.tensor([SEQUENCES[i]])).logits[0, -kept[i] :] for i in (2, 1)]
    torch.testing.assert_close(logits, torch.cat(expected), rtol=0, atol=1e-10)


@torch.no_grad()
def test_only_the_logits_wanted_are_computed_also_under_peft(llama):
    lora = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    adapted = get_peft_model(type(llama)(llama.config).double(), lora).eval()
    head, seen = adapted.get_output_embeddings(), []
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    logits = module.LogitReader(adapted, SEQUENCES, [1] * 4, 0).logits(ALL)
    hook.remove()
    assert seen == [(1, 4, llama.config.vocab_size)]
    assert not head._forward_pre_hooks, "the model is left as it was"
    torch.testing.assert_close(logits, plain_logits(adapted, SEQUENCES), rtol=0, atol=1e-10)


@torch.no_grad()
def test_models_without_optional_arguments_work(llama):
    class Bare(torch.nn.Module):
        """Takes token ids only, returns all logits and does not name its output layer."""

        device = torch.device("cpu")

        def forward(self, input_ids, use_cache):
            return llama(input_ids)

    shared = [[3] * 30 + row for row in SEQUENCES]
    reader = module.LogitReader(Bare(), shared, [1] * 4, 0)
    assert reader.prefix is None
    torch.testing.assert_close(reader.logits(ALL), plain_logits(llama, shared))


@torch.no_grad()
def test_an_output_layer_that_is_not_called_is_noticed(llama):
    class Multiplies(torch.nn.Module):
        """Multiplies with the weights of its output layer itself."""

        device = torch.device("cpu")

        def get_output_embeddings(self):
            return llama.get_output_embeddings()

        def forward(self, input_ids, use_cache):
            output = llama.model(input_ids)
            output.logits = output.last_hidden_state @ llama.lm_head.weight.T
            return output

    logits = module.LogitReader(Multiplies(), SEQUENCES, [1] * 4, 0).logits(ALL)
    torch.testing.assert_close(logits, plain_logits(llama, SEQUENCES), rtol=0, atol=1e-10)


def test_padding():
    assert module.pad_right([[1, 2], [3]], 9).tolist() == [[1, 2], [3, 9]]
    ids, mask = module.pad_left([[1, 2], [3]], 9)
    assert ids.tolist() == [[1, 2], [9, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]


def test_inference_restores_every_training_flag(llama):
    model = type(llama)(llama.config).train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]

    def fail() -> None:
        with module.inference(model):
            assert not any(module.training for module in model.modules())
            assert torch.is_inference_mode_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in model.modules()] == before
    assert not torch.is_inference_mode_enabled()


def test_nan_is_refused_and_half_precision_upcast():
    assert module.upcast(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32
    with pytest.raises(ValueError, match="nan logits"):
        module.upcast(torch.tensor([0.0, torch.nan]))

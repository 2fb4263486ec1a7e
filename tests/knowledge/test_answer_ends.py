"""Where an answer ends, the same in both modes: end tokens, the model's own, line breaks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from probe_world import backend_of, build_questions, build_tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from cogcalib.knowledge import Prompt, SlickSettings
from cogcalib.knowledge.candidates import answer_ends, ask
from cogcalib.knowledge.exact import answer_exactly
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.modeling.model_spec import generation_ends
from cogcalib.records import CHAT

ZERO_SHOT = [Prompt(0, (), None)]
SAMPLED = SlickSettings(mode="sampled", samples=4, max_new_tokens=12)


def follower(chain: list[int]) -> LlamaForCausalLM:
    """A model of one rule: behind each token of the chain comes the next one."""
    size = len(build_tokenizer())
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, head_dim=8, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).double().eval()
    rules = torch.zeros(size, size)
    for before, after in pairwise(chain):
        rules[after, before] = 2.0
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(rules)
    return model


def chain_to(end: int) -> list[int]:
    """From the end of the prompt over the first question's answer to what ends it."""
    tokenizer = build_tokenizer()
    (asked,) = ask(build_questions(1), tokenizer, (2,))
    chain = [asked.alone[-1], *asked.answers[0], end]
    assert len(set(chain)) == len(chain)
    return chain


def line_break() -> int:
    (token,) = build_tokenizer()("\n", add_special_tokens=False)["input_ids"]
    return int(token)


@pytest.mark.parametrize("shots", [0, 1])
def test_an_answer_ends_at_a_line_break_in_both_modes(shots):
    questions = build_questions(3)
    prompts = ZERO_SHOT if shots == 0 else [Prompt(0, (questions[2],), questions[1])]
    # What comes behind the line break is another country.
    model = follower([*chain_to(line_break()), *build_tokenizer()("x")["input_ids"][-1:]])
    tokenizer = build_tokenizer()
    exact = answer_exactly(backend_of(model, tokenizer), questions[:2], prompts)
    sampled = answer_by_sampling(backend_of(model, tokenizer), questions[:2], prompts, SAMPLED)
    for found in (exact, sampled):
        (first,), (second,) = found
        assert first.greedy
        assert first.sampled == pytest.approx(1.0, abs=1e-6)
        assert first.strict == pytest.approx(1.0, abs=1e-6)
        assert (second.greedy, second.sampled) == (False, pytest.approx(0.0, abs=1e-6))


def test_an_answer_ends_where_the_models_generation_ends():
    (question,) = build_questions(1)
    tokenizer = build_tokenizer()
    (turn,) = tokenizer("?", add_special_tokens=False)["input_ids"]
    model = follower([*chain_to(turn), 5])
    for ends, expected in ((2, 0.0), ([2, turn], 1.0)):
        model.generation_config = GenerationConfig(eos_token_id=ends)
        ((exact,),) = answer_exactly(backend_of(model, tokenizer), [question], ZERO_SHOT)
        ((sampled,),) = answer_by_sampling(
            backend_of(model, tokenizer), [question], ZERO_SHOT, SAMPLED
        )
        assert exact.sampled == pytest.approx(expected, abs=1e-6)
        assert sampled.strict == expected
        assert exact.greedy == (expected == 1.0)


def test_ends_named():
    assert generation_ends(None) == ()
    assert generation_ends(GenerationConfig()) == ()
    assert generation_ends(GenerationConfig(eos_token_id=3)) == (3,)
    assert generation_ends(GenerationConfig(eos_token_id=[3, 4])) == (3, 4)


def test_in_a_chat_a_line_break_may_stand_inside_an_answer():
    questions = build_questions(2)
    chat = [replace(question, preset=f"{question.preset}{CHAT}") for question in questions]
    tokenizer = build_tokenizer()
    assert answer_ends(chat, tokenizer, (7,)) == (2, 7)
    assert line_break() in answer_ends(questions, tokenizer, ())


def test_an_answer_with_a_line_break_is_refused():
    (question,) = build_questions(1)
    broken = replace(question, answer="France\nItaly", aliases=())
    ends = answer_ends([broken], build_tokenizer(), ())
    with pytest.raises(ValueError, match=r"none of which ends an answer .an end token or a line"):
        ask([broken], build_tokenizer(), ends)

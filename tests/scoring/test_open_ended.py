from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import GenerationConfig

from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import encode
from cogcalib.scoring import ScoreSettings, answer_logits, score

named = partial(ScoreSettings, model_name="m", run="r")
LENGTH = 6


@torch.no_grad()
def greedy(model, prompt, end_id, temperature=1.0):
    """Greedy decoding of one prompt without cache, padding or batch."""
    tokens, logprobs = [], []
    while len(tokens) < LENGTH and end_id not in tokens:
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, -1]
        tokens.append(int(logits.argmax()))
        logprobs.append(float((logits / temperature).log_softmax(-1)[tokens[-1]]))
    return tokens, logprobs


@torch.no_grad()
def teacher_forced(model, row, temperature=1.0):
    """Log-probability of each answer token of one example, by a plain forward pass."""
    start = len(row.prompt_ids)
    logits = model(torch.tensor([row.input_ids])).logits[0, start - 1 : -1]
    target = torch.tensor(row.answer_ids)[:, None]
    return (logits / temperature).log_softmax(-1).gather(1, target)[:, 0]


@pytest.fixture
def end_id(model, tokenizer, questions):
    """An end token that some answers reach early and others never do."""
    prompts = [encode(e, tokenizer).prompt_ids for e in questions]
    return greedy(model, prompts[0], -1)[0][2]


def test_generation_equals_a_greedy_loop(model, tokenizer, questions, end_id):
    prompts = [encode(e, tokenizer).prompt_ids for e in questions]
    rows = TransformersBackend(model, tokenizer, batch_size=3).generate(prompts, [end_id], LENGTH)
    lengths = set()
    for prompt, row in zip(prompts, rows, strict=True):
        tokens, logprobs = greedy(model, prompt, end_id)
        assert row.tokens == tokens
        assert row.logprobs == pytest.approx(logprobs, abs=1e-10)
        lengths.add(len(tokens))
    assert max(lengths) == LENGTH, "some answers must meet the length limit"
    assert min(lengths) < LENGTH, "some answers must end by themselves"


def test_generation_equals_transformers(model, tokenizer, questions, end_id):
    prompts = [encode(e, tokenizer).prompt_ids for e in questions]
    config = GenerationConfig(
        do_sample=False, max_new_tokens=LENGTH, eos_token_id=end_id, pad_token_id=0
    )
    rows = TransformersBackend(model, tokenizer).generate(prompts, [end_id], LENGTH)
    for prompt, row in zip(prompts, rows, strict=True):
        theirs = model.generate(torch.tensor([prompt]), generation_config=config)
        assert row.tokens == theirs[0, len(prompt) :].tolist()


def test_the_models_generation_config_has_no_say(llama, tokenizer, questions, monkeypatch):
    before = score(llama, tokenizer, questions, named(max_new_tokens=LENGTH))
    config = GenerationConfig(repetition_penalty=9.0, do_sample=True, suppress_tokens=[5])
    monkeypatch.setattr(llama, "generation_config", config)
    assert score(llama, tokenizer, questions, named(max_new_tokens=LENGTH)) == before


def test_predictions_equal_the_oracles(model, tokenizer, questions):
    end = tokenizer.eos_token_id
    three = {"mean": 1.7, "joint": 0.6, "nll": 1.2}
    for temperature in ({}, {"mean": 1.7}, {"joint": 0.6}, {"nll": 1.2}, three):
        settings = named(temperature=temperature, max_new_tokens=LENGTH)
        rows = score(model, tokenizer, questions, settings)
        for example, row in zip(questions, rows, strict=True):
            encoded = encode(example, tokenizer)
            mean, joint, own = (temperature.get(name, 1.0) for name in three)
            tokens, at_mean = greedy(model, encoded.prompt_ids, end, mean)
            _, at_joint = greedy(model, encoded.prompt_ids, end, joint)
            assert row.prediction == tokenizer.decode(tokens, skip_special_tokens=True).strip()
            assert row.confidence == {
                "mean": pytest.approx(math.exp(sum(at_mean) / len(at_mean)), abs=1e-10),
                "joint": pytest.approx(math.exp(sum(at_joint)), abs=1e-10),
            }
            nll = -float(teacher_forced(model, encoded, own).mean())
            assert row.nll == pytest.approx(nll, abs=1e-10)
            assert row.option_logprobs is None
            assert (row.id, row.answer, row.model) == (example.id, example.answer, "m")


def test_answers_differ_between_questions(llama, tokenizer, questions):
    rows = score(llama, tokenizer, questions, named(max_new_tokens=LENGTH))
    assert len({row.prediction for row in rows}) > 1


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size_does_not_matter(model, tokenizer, questions, batch_size):
    whole = score(model, tokenizer, questions, named(max_new_tokens=LENGTH))
    settings = named(max_new_tokens=LENGTH, batch_size=batch_size)
    parts = score(model, tokenizer, questions, settings)
    for one, other in zip(whole, parts, strict=True):
        assert one.prediction == other.prediction
        assert one.confidence == pytest.approx(other.confidence, abs=1e-12)
        assert one.nll == pytest.approx(other.nll, abs=1e-10)


def test_answer_and_aliases_count_as_right(llama, tokenizer, questions):
    settings = named(max_new_tokens=LENGTH)
    (row,) = score(llama, tokenizer, questions[:1], settings)
    said = row.prediction
    assert not row.correct
    by_answer = replace(questions[0], answer=f"The {said.upper()}!")
    by_alias = replace(questions[0], aliases=("nothing", said))
    for example in (by_answer, by_alias):
        (row,) = score(llama, tokenizer, [example], settings)
        assert row.correct


def test_an_answer_learnt_by_heart_is_right_and_certain(llama, tokenizer, questions):
    """Greedy decoding finds the canonical answer iff each token is the arg max when forced."""
    torch.manual_seed(0)
    model = type(llama)(llama.config).double()
    row = encode(questions[0], tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (prediction,) = score(model, tokenizer, questions[:1], named())
    assert prediction.correct
    assert prediction.prediction == questions[0].answer
    forced = teacher_forced(model.eval(), row)
    assert prediction.confidence["joint"] == pytest.approx(float(forced.sum().exp()), abs=1e-10)
    assert prediction.confidence["mean"] == pytest.approx(math.exp(-prediction.nll), abs=1e-10)
    assert prediction.confidence["joint"] > 0.5


def test_high_temperature_flattens(llama, tokenizer, questions):
    size = llama.config.vocab_size
    rows = score(llama, tokenizer, questions, named(temperature={"mean": 1e6, "nll": 1e6}))
    for row in rows:
        assert row.confidence["mean"] == pytest.approx(1 / size, rel=1e-3)
        assert row.nll == pytest.approx(math.log(size), rel=1e-3)


def test_log_probabilities_equal_teacher_forcing(model, tokenizer, questions):
    rows = [encode(e, tokenizer) for e in questions]
    backend = TransformersBackend(model, tokenizer, batch_size=3)
    prompts, answers = [row.prompt_ids for row in rows], [row.answer_ids for row in rows]
    for found, row in zip(backend.log_probabilities(prompts, answers), rows, strict=True):
        torch.testing.assert_close(found, teacher_forced(model, row), rtol=0, atol=1e-10)


def test_answer_logits_come_token_by_token(llama, tokenizer, questions):
    rows = [encode(e, tokenizer) for e in questions]
    logits, gold = answer_logits(llama, tokenizer, questions, named(batch_size=3))
    assert gold.tolist() == [token for row in rows for token in row.answer_ids]
    log_p = torch.from_numpy(logits).log_softmax(-1)[range(len(gold)), gold]
    forced = torch.cat([teacher_forced(llama, row) for row in rows])
    torch.testing.assert_close(log_p, forced.float(), rtol=0, atol=1e-4)


def test_bad_input_is_refused(llama, tokenizer, questions):
    with pytest.raises(ValueError, match=r"among mean, joint, nll, got \['vocab'\]"):
        score(llama, tokenizer, questions, named(temperature={"vocab": 1.0}))
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        score(llama, tokenizer, questions, named(max_new_tokens=0))
    with pytest.raises(ValueError, match=r"'q0': prompt and max_new_tokens take .* 160 positions"):
        score(llama, tokenizer, questions, named(max_new_tokens=150))


def test_model_without_cache_is_refused(llama, tokenizer):
    class Cacheless(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids, attention_mask, use_cache, past_key_values):
            output = llama(input_ids, attention_mask=attention_mask, use_cache=False)
            output.past_key_values = None
            return output

    backend = TransformersBackend(Cacheless(), tokenizer)
    with pytest.raises(ValueError, match="Cacheless gives no key-value cache"):
        backend.generate([[1, 2]], [2], 2)

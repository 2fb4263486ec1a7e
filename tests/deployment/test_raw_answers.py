"""A model's own answers are those of scoring, whatever is asked beside them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from cogcalib import load_task
from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.deployment.inputs import Question, RefusedInput, to_questions
from cogcalib.deployment.raw_answers import ask, check_room
from cogcalib.inference.backend import FirstToken
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import load_model, render_prompt
from cogcalib.scoring import ScoreSettings, score

OPTIONS = AnswerFormat("options", "options", preset="cogcalib")
OPEN = AnswerFormat("open-ended", "mean", preset="cogcalib", max_new_tokens=6)


def as_rows(examples):
    return [
        {"question": e.prompt, "options": {option.letter: option.text for option in e.options}}
        for e in examples
    ]


def test_options_have_the_log_probabilities_of_scoring_on_the_embedded_model() -> None:
    model, tokenizer = load_model("atlas", device="cpu")
    examples = load_task("atlas/country").splits["test"][:40]
    backend = TransformersBackend(model, tokenizer)
    found = ask(backend, to_questions(as_rows(examples), tokenizer, OPTIONS), OPTIONS)
    for answer, expected in zip(found, score(model, tokenizer, examples), strict=True):
        assert answer.logprobs == pytest.approx(expected.option_logprobs, abs=1e-6)
        assert answer.text == expected.prediction
        assert answer.confidence == pytest.approx({"options": expected.confidence["options"]})
        assert answer.chosen == "ABCD".index(expected.prediction)


def test_options_of_one_token_are_those_of_scoring(model, tokenizer, choices) -> None:
    backend = TransformersBackend(model, tokenizer)
    found = ask(backend, to_questions(as_rows(choices), tokenizer, OPTIONS), OPTIONS)
    for answer, expected in zip(found, score(model, tokenizer, choices), strict=True):
        assert answer.logprobs == pytest.approx(expected.option_logprobs, abs=1e-9)
        assert answer.text == expected.prediction


def test_options_of_several_tokens_are_those_of_scoring(model, tokenizer, choices) -> None:
    texts = [[f" {option.text}" for option in example.options] for example in choices]
    bare = [replace(e, options=None, answer="x") for e in choices]
    rows = [{"prompt": render_prompt(e), "options": t} for e, t in zip(bare, texts, strict=True)]
    backend = TransformersBackend(model, tokenizer)
    found = ask(backend, to_questions(rows, tokenizer, OPTIONS), OPTIONS)
    expected = score(model, tokenizer, choices, ScoreSettings(answer="text"))
    for answer, scored, row in zip(found, expected, texts, strict=True):
        assert answer.logprobs == pytest.approx(scored.option_logprobs, abs=1e-6)
        assert answer.text == row["ABCD".index(scored.prediction)]
        assert answer.confidence == pytest.approx(dict(scored.confidence), abs=1e-6)


def test_generated_answers_are_those_of_scoring(model, tokenizer, questions) -> None:
    backend = TransformersBackend(model, tokenizer)
    rows = [{"question": e.prompt} for e in questions]
    found = ask(backend, to_questions(rows, tokenizer, OPEN), OPEN)
    scored = score(model, tokenizer, questions, ScoreSettings(max_new_tokens=6))
    for answer, expected in zip(found, scored, strict=True):
        assert answer.text == expected.prediction
        assert answer.confidence == pytest.approx(dict(expected.confidence), rel=1e-9)
        assert answer.chosen is None
        total = sum(token.logprob for token in answer.tokens)
        assert torch.tensor(total).exp().item() == pytest.approx(answer.confidence["joint"])
        assert len(answer.tokens) <= 6


def test_line_break_ends_an_answer_unless_several_lines_were_trained_on(llama, tokenizer) -> None:
    backend = TransformersBackend(llama, tokenizer)
    questions = [Question((5, 6, token)) for token in range(20, 60)]
    one, several = (
        ask(backend, questions, replace(OPEN, max_new_tokens=30, multiline=m))
        for m in (False, True)
    )
    in_chat = ask(backend, [replace(q, chat=True) for q in questions], replace(OPEN))
    assert not any("\n" in answer.text for answer in one)
    assert all(len(a.tokens) <= len(b.tokens) for a, b in zip(one, several, strict=True))
    longer = ask(backend, questions, replace(OPEN, multiline=True))
    assert [answer.text for answer in in_chat] == [answer.text for answer in longer]


def test_mixed_questions_keep_their_order_and_progress_counts_them(llama, tokenizer) -> None:
    backend = TransformersBackend(llama, tokenizer, batch_size=2)
    prompts = [f"Question: {word}?\nAnswer:" for word in ("Lyon", "Pune", "Lima", "Ur", "Gdansk")]
    options = [
        [" A", " B"],
        [" France", " Peru"],
        [" C", " D", " E"],
        [" Iraq", " A"],
        [" A", " C"],
    ]
    rows = [{"prompt": p, "options": o} for p, o in zip(prompts, options, strict=True)]
    questions = to_questions(rows, tokenizer, OPTIONS)
    told: list[int] = []
    mixed = ask(backend, questions, OPTIONS, told.append)
    alone = [ask(backend, [question], OPTIONS)[0] for question in questions]
    for one, other in zip(mixed, alone, strict=True):
        assert one.question == other.question
        assert one.text == other.text
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-9)
    assert told == sorted(told)
    assert told[-1] == len(rows)


def test_long_questions_are_refused_before_any_is_asked(llama, tokenizer) -> None:
    def unasked(*args, **kwargs):
        raise AssertionError("asked")

    backend = TransformersBackend(llama, tokenizer)
    backend.first_tokens = backend.generate = unasked
    short, long = Question((5,) * 10, (" A", " B"), ((7,), (8,))), Question((5,) * 160)
    with pytest.raises(
        RefusedInput, match=r"input 4: .* 166 tokens \(160 \+ 6\), .* 160 positions"
    ):
        ask(backend, [short, long], OPEN, first=3)
    check_room([short, replace(long, options=("a", "b"), option_ids=((1,), (2,)))], 161, 6)
    check_room([long], None, 6)


def test_model_that_gives_no_number_is_refused(llama, tokenizer, choices) -> None:
    broken = copy.deepcopy(llama)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    questions = to_questions(as_rows(choices), tokenizer, OPTIONS)
    with pytest.raises(ValueError, match="nan logits; load it in float32"):
        ask(TransformersBackend(broken, tokenizer), questions, OPTIONS)
    impossible = TransformersBackend(llama, tokenizer)
    impossible.first_tokens = lambda prompts, wanted, progress: [
        FirstToken(0.0, dict.fromkeys(row, -math.inf)) for row in wanted
    ]
    with pytest.raises(RefusedInput, match="input 3: the model gives no number"):
        ask(impossible, questions, OPTIONS, first=3)


def test_nothing_asked_gives_nothing(llama, tokenizer) -> None:
    assert ask(TransformersBackend(llama, tokenizer), [], OPTIONS) == []

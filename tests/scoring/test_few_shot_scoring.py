"""Answered questions before each: the same numbers as gluing them on by hand, and never the own."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
from completion_server import CompletionServer, score_endpoint, serve

from cogcalib import cli
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.modeling import load_model
from cogcalib.modeling.prompts import render_prompt, render_shots
from cogcalib.modeling.shot_prompts import encode_asked, encode_open
from cogcalib.modeling.shots import draw_shots, same_question
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings, answer_logits, read_predictions, score
from cogcalib.scoring.config import ScoreTask
from cogcalib.scoring.score_run import score_task
from cogcalib.tasks import load_task

TASK = load_task("atlas/country")
OPEN = load_task("atlas/country-open")
ASKED = TASK.splits["test"][:12]
SHOTS = draw_shots(TASK.splits["train"], 2, seed=1)


def glued(example: Example, shots: str) -> Example:
    """The wording adds the first "Question: " itself."""
    joint = shots.removeprefix("Question: ") + "Question: "
    return replace(example, prompt=joint + example.prompt)


@pytest.fixture(scope="module")
def atlas():
    return load_model("atlas")


def test_letters_are_what_the_whole_text_gives(atlas):
    shown = render_shots(SHOTS.shots)
    expected = score(*atlas, [glued(example, shown) for example in ASKED])
    for share in (True, False):
        found = score(*atlas, ASKED, ScoreSettings(shots=SHOTS, share_prefix=share))
        for one, other in zip(found, expected, strict=True):
            assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)
            assert one.id in {example.id for example in ASKED}
    assert found[0].option_logprobs != pytest.approx(score(*atlas, ASKED[:1])[0].option_logprobs)


@pytest.mark.parametrize("answer", ["label", "text"])
def test_labels_and_texts_too(atlas, answer):
    found = score(*atlas, ASKED, ScoreSettings(shots=SHOTS, answer=answer))
    shots = SHOTS.shots
    if answer == "text":  # no options in the shots either, and their texts as answers
        shots = tuple(replace(s, options=None, answer=s.answer_text) for s in shots)
    asked = [glued(example, render_shots(shots)) for example in ASKED]
    expected = score(*atlas, asked, ScoreSettings(answer=answer))
    for one, other in zip(found, expected, strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)


def test_a_question_among_the_shots_gets_the_reserve(atlas):
    _, tokenizer = atlas
    asked = [*SHOTS.shots, *ASKED[:2]]
    rows = encode_asked(asked, tokenizer, None, SHOTS)
    assert SHOTS.reserve is not None
    for example, row in zip(asked, rows, strict=True):
        text = tokenizer.decode(row.prompt_ids)
        assert text.count(render_prompt(example)) == 1
        assert (render_prompt(SHOTS.reserve) in text) == (example in SHOTS.shots)
    assert len(score(*atlas, asked, ScoreSettings(shots=SHOTS))) == 4


def test_open_ended_answers_end_with_a_line_break(atlas):
    model, tokenizer = atlas
    shots = draw_shots(OPEN.splits["train"], 3)
    asked = OPEN.splits["test"][:8]
    rows, ends = encode_open(asked, tokenizer, None, shots)
    assert tokenizer.eos_token_id in ends
    assert any("\n" in tokenizer.decode([token]) for token in ends)
    assert all(tokenizer.eos_token_id not in row.answer_ids for row in rows)
    alone, last = encode_open(asked, tokenizer, None, None)
    assert last == ends
    assert all(row.answer_ids[-1] == tokenizer.eos_token_id for row in alone)
    verses = [replace(asked[0], aliases=("two\nlines",)), *asked[1:]]
    assert encode_open(verses, tokenizer, None, None)[1] == (tokenizer.eos_token_id,)
    found = score(model, tokenizer, asked, ScoreSettings(shots=shots, max_new_tokens=12))
    assert all("\n" not in row.prediction for row in found)
    _, gold = answer_logits(model, tokenizer, asked, ScoreSettings(shots=shots))
    assert gold.tolist() == [token for row in rows for token in row.answer_ids]


@pytest.mark.parametrize("kind", ["letters", "open"])
def test_an_endpoint_sees_the_same_shots(atlas, kind):
    model, tokenizer = atlas
    task = TASK if kind == "letters" else OPEN
    shots = draw_shots(task.splits["train"], 2)
    settings = ScoreSettings(shots=shots, model_name="tiny", max_new_tokens=8)
    asked = task.splits["test"][:5]
    local = score(model, tokenizer, asked, settings)
    with serve(CompletionServer(model, tokenizer)) as server:
        there = score_endpoint(Endpoint(url=server.url, model="tiny"), tokenizer, asked, settings)
    for one, other in zip(local, there, strict=True):
        assert one.prediction == other.prediction
        assert one.nll == pytest.approx(other.nll, abs=1e-3)


def test_shots_that_do_not_fit_are_refused(atlas, llama, tokenizer, choices):
    examples = [replace(e, id=f"{e.id}-{n}") for n in range(4) for e in choices]
    several = draw_shots(examples, 7)
    with pytest.raises(ValueError, match=r"7 shots, prompt and answer take .* use fewer shots"):
        score(llama, tokenizer, choices, ScoreSettings(shots=several))
    strange = draw_shots(load_task("atlas/country", prompt="laplace").splits["train"], 2)
    with pytest.raises(ValueError, match="own prompt preset and kind"):
        score(*atlas, ASKED, ScoreSettings(shots=strange))
    with pytest.raises(ValueError, match="pool must hold examples of one task"):
        draw_shots([], 2)


def test_the_command_draws_records_and_repeats(tmp_path, capsys):
    words = ["score", "--model", "atlas", "--task", "atlas/country", "--shots", "2"]
    words += ["--limit", "15", "--seed", "3"]
    outputs = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for output in outputs:
        assert cli.main([*words, "--output", str(output)]) == 0
    assert outputs[0].read_text() == outputs[1].read_text()
    assert len(read_predictions(outputs[0])) == 15
    assert "n = 15" in capsys.readouterr().out
    record = json.loads((tmp_path / "one.jsonl.record.json").read_text())
    assert (record["limit"], record["seed"], record["data"]["test"]["n"]) == (15, 3, 15)
    assert record["shots"]["split"] == "train"
    expected = draw_shots(TASK.splits["train"], 2, seed=3)
    assert record["shots"]["ids"] == [shot.id for shot in expected.shots]


def test_python_call_equals_the_settings(atlas):
    ask = partial(ScoreTask, model="atlas", task="atlas/country", limit=10)
    found = score_task(ask(shots=2, shot_split="test", seed=1), resamples=1)
    shots = draw_shots(TASK.splits["test"], 2, seed=1)
    ids = {row.id for row in found.predictions}
    asked = [example for example in TASK.splits["test"] if example.id in ids]
    expected = score(*atlas, asked, ScoreSettings(shots=shots, model_name="atlas"))
    assert found.predictions == expected
    keys = {same_question(shot) for shot in shots.shots}
    assert len(keys) == 2


def test_max_new_tokens_bounds_an_answer(tmp_path):
    output = tmp_path / "rows.jsonl"
    words = ["score", "--model", "atlas", "--task", "atlas/country-open", "--limit", "5"]
    assert cli.main([*words, "--max-new-tokens", "1", "--output", str(output)]) == 0
    record = json.loads((tmp_path / "rows.jsonl.record.json").read_text())
    assert (record["max_new_tokens"], record["answer"]) == (1, None)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--shots", "-1"], "shots must be at least 0"),
        (["--shots", "2", "--shot-split", "dev"], "shot_split must be one of train"),
        (["--shots", "1000000"], "shots must be fewer than the group's questions"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--limit", "1000000"], "limit for test must be at most"),
        (["--max-new-tokens", "0"], "max_new_tokens must be at least 1"),
    ],
)
def test_wrong_numbers_are_exit_code_2(words, what, capsys):
    assert cli.main(["score", "--model", "atlas", "--task", "atlas/country", *words]) == 2
    assert what in capsys.readouterr().err

"""Few-shot prompts as tokens: the same as tokenising the whole text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cogcalib.modeling import load_tokenizer, render_prompt
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.few_shot import after_shots, end_tokens
from cogcalib.records import PRESETS, Example
from cogcalib.tasks import load_task

TASK = load_task("atlas/country-open")
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def whole(shots: list[Example], examples: list[Example], tokenizer: object) -> list[list[int]]:
    rows = continuations(examples, [()] * len(examples), tokenizer, shots)  # type: ignore[arg-type]
    return [prompt for prompt, _ in rows]


@pytest.mark.parametrize("preset", PRESETS[:2])
@pytest.mark.parametrize("name", ["atlas/country-open", "atlas/country"])
def test_it_is_what_the_whole_text_gives(preset, name):
    tokenizer = load_tokenizer("atlas")
    task = load_task(name, prompt=preset)
    shots, asked = task.splits["train"][:4], task.splits["test"][:40]
    alone = [prompt for prompt, _ in continuations(asked, [()] * len(asked), tokenizer)]
    found = after_shots(shots, asked, alone, tokenizer)
    assert found == whole(shots, asked, tokenizer)
    assert after_shots((), asked, alone, tokenizer) == alone
    text = tokenizer.decode(found[0], skip_special_tokens=True)
    assert text.endswith("\n\n" + render_prompt(asked[0]))
    assert all(shot.answer in text for shot in shots)


def test_a_tokenizer_that_joins_lines_gets_the_whole_text(monkeypatch):
    tokenizer = load_tokenizer("atlas")
    shots, asked = TASK.splits["train"][:2], TASK.splits["test"][:3]
    alone = [[*row, 7] for row in whole([], asked, tokenizer)]  # as if a lone prompt were different
    assert after_shots(shots, asked, alone, tokenizer) == whole(shots, asked, tokenizer)


def test_in_a_chat_shots_are_earlier_turns():
    tokenizer = load_tokenizer("atlas")
    tokenizer.chat_template = TEMPLATE
    shot, asked = (replace(e, preset="cogcalib+chat") for e in TASK.splits["train"][:2])
    (tokens,) = after_shots([shot], [asked], [[]], tokenizer)
    text = tokenizer.decode(tokens)
    turns = f"<user>{render_prompt(shot)}\n<assistant>{shot.answer}\n<user>{render_prompt(asked)}"
    assert text == f"{turns}\n<assistant>"


def test_a_line_break_ends_an_answer_where_shots_have_shown_it():
    tokenizer = load_tokenizer("atlas")
    assert end_tokens(tokenizer, newline=False) == (tokenizer.eos_token_id,)
    ends = end_tokens(tokenizer, newline=True)
    assert tokenizer.eos_token_id in ends
    breaks = [tokenizer.decode([token]) for token in ends if token != tokenizer.eos_token_id]
    assert breaks
    assert all(text.strip(" \t").startswith("\n") for text in breaks)

"""A prompt is tokenised once, and nothing differs from tokenising every completion behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cogcalib.modeling import audit_labels, encode_batch, render_prompt, surface_ids
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.prompts import chat_prompt, in_chat
from cogcalib.records import Example

COMPLETIONS = (" A", "A", " Warsaw", " C D", " Kraków ", " B\n", ":A", " ", "\n\nB")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
words = st.text(st.sampled_from("AB :.?\n\u00e9\u2019yn"), max_size=12)


def whole(
    example: Example, completions: Sequence[str], tokenizer: Any
) -> tuple[list[int], list[list[int] | None]]:
    """By definition: the whole prompt, and the whole prompt with each completion."""
    chat = in_chat(example)
    prompt = chat_prompt(example, tokenizer) if chat else render_prompt(example)

    def ids(text: str) -> list[int]:
        row = tokenizer(text, add_special_tokens=not chat)["input_ids"]
        return row[:-1] if row and row[-1] == tokenizer.eos_token_id else row

    found: list[list[int] | None] = []
    for text in completions:
        joint = ids(prompt + text)
        if joint[: len(ids(prompt))] == ids(prompt):
            found.append(joint[len(ids(prompt)) :])
            continue
        for piece in (text, text.removeprefix(" ")):
            apart = tokenizer(piece, add_special_tokens=False)["input_ids"]
            if tokenizer.decode(ids(prompt) + apart) == tokenizer.decode(joint):
                found.append(apart)
                break
        else:
            found.append(None)
    return ids(prompt), found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(asked=words, passage=words)
def test_equals_the_whole_prompt_with_each_completion(tokenizer, choice, asked, passage):
    for example in (
        replace(choice, prompt=f"Is it {asked}?", context=passage),
        replace(choice, prompt=f"{asked} is", options=None, answer="Warsaw"),
        replace(choice, prompt=f"Is it {asked}", preset="laplace"),
    ):
        (row,) = continuations([example], [COMPLETIONS], tokenizer)
        assert row == whole(example, COMPLETIONS, tokenizer)


def test_chats_equal_the_whole_too(tokenizer, choice):
    tokenizer.chat_template = TEMPLATE
    try:
        example = replace(choice, preset="cogcalib+chat", context="A long passage.\nIt goes on.")
        (row,) = continuations([example], [COMPLETIONS], tokenizer)
        assert row == whole(example, COMPLETIONS, tokenizer)
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize("name", ["encode_batch", "surface_ids", "audit_labels"])
def test_a_passage_is_tokenised_once(tokenizer_of, choice, monkeypatch, name):
    """What counts is the characters: a BoolQ prompt is two thousand, its last line seven."""
    tokenizer = tokenizer_of("gpt2")
    call = {"encode_batch": encode_batch, "surface_ids": surface_ids, "audit_labels": audit_labels}
    examples = [
        replace(choice, id=str(n), prompt=f"Is it {n}?", context=f"{n} " + "On and on. " * 100)
        for n in range(5)
    ]
    seen: list[str] = []
    original = type(tokenizer)._encode_plus

    def counting(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend([text] if isinstance(text, str) else text)
        return original(self, text, *args, **kwargs)

    monkeypatch.setattr(type(tokenizer), "_encode_plus", counting)
    call[name](examples, tokenizer)
    assert seen
    prompts = sum(len(render_prompt(example)) for example in examples)
    assert prompts <= sum(map(len, seen)) < 1.1 * prompts

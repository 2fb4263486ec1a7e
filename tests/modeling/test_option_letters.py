"""Each question tokenised once gives what the full encoding gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_models import build_choices, build_tokenizer

from cogcalib.modeling import encode_batch, surface_ids
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.records import Option


@pytest.mark.parametrize("preset", ["cogcalib", "blob", "laplace", "cogcalib+chat"])
def test_choices_equal_the_full_encoding(preset, monkeypatch):
    tokenizer, choices = build_tokenizer(), build_choices()
    template = "user: {{ messages[0].content }} assistant:"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    examples = [replace(example, preset=preset) for example in choices]
    other = tuple(Option(letter, f"text {letter}") for letter in "FGH")
    examples.append(replace(examples[0], id="other", options=other, answer="H"))
    found = encode_choices(examples, tokenizer, 160)
    assert [row.prompt_ids for row in found] == [
        row.prompt_ids for row in encode_batch(examples, tokenizer)
    ]
    assert [row.forms for row in found] == surface_ids(examples, tokenizer)


def test_a_bad_letter_is_found_wherever_it_stands():
    tokenizer, choices = build_tokenizer(), build_choices()
    options = (*choices[-1].options[:-1], Option("?A", "x"))
    bad = replace(choices[-1], options=options, answer="A")
    with pytest.raises(ValueError, match=r"'\?A' must be one single token"):
        encode_choices([*choices[:-1], bad], tokenizer, None)
    long = replace(choices[-1], prompt="Lyon? " * 200)
    with pytest.raises(ValueError, match=r"'c7': prompt and answer take .* max_length is 160"):
        encode_choices([*choices[:-1], long], tokenizer, 160)

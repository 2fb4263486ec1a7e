"""Wordings, chat templates, long passages."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from cogcalib.modeling import encode, encode_batch, render_prompt, shorten_passages, surface_ids
from cogcalib.modeling.show import CLOSE, OPEN, show_audit, show_example
from cogcalib.records import Example, Option

CHAT = (
    "{% for m in messages %}<|end|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)


def choices(*texts: str, letters: str = "ABCDE", labels: str = "") -> tuple[Option, ...]:
    return tuple(
        Option(letters[i], text, labels[i] if labels else "") for i, text in enumerate(texts)
    )


def passage(letters: tuple[str, str] = ("A", "B"), preset: str = "cogcalib") -> Example:
    options = (Option(letters[0], "no"), Option(letters[1], "yes"))
    context = "Ice is cold. " * 100
    return Example("x", "boolq", "test", "is ice cold", options, letters[1], (), context, preset)


def test_cogcalib_puts_the_passage_first() -> None:
    example = replace(passage(), context="Ice is cold.")
    expected = "Passage: Ice is cold.\nQuestion: is ice cold\nA. no\nB. yes\nAnswer:"
    assert render_prompt(example) == expected


def test_blob_has_its_quirks() -> None:
    science = Example(
        "x", "arc_easy", "test", "What melts?", choices("ice", "iron", labels="12"), "A"
    )
    science = replace(science, preset="blob")
    head = "Return the label of the correct answer for the question below.\n\nQuestion: What melts?"
    assert render_prompt(science) == f"{head}\nChoices:\nice) 1\niron) 2\nAnswer:"
    obqa = replace(science, task="openbookqa", options=choices("ice", "iron"))
    assert render_prompt(obqa) == f"{head}\nChioces:\nice) A\niron) B\nAnswer:"
    other = replace(obqa, task="winogrande_s")
    assert render_prompt(other) == f"{head}\nChoices:\nA) ice\nB) iron\nAnswer:"
    asked = render_prompt(passage(("True", "False"), "blob"))
    assert asked == (
        "Read the passage below and answer the question with the words 'true' or 'false'.\n\n"
        f"Passage: {('Ice is cold. ' * 100)[:1024]}\nQuestion: is ice cold\n"
        "Answer (true or false):"
    )


def test_laplace_makes_sentences_of_the_options() -> None:
    example = Example(
        "x", "arc_easy", "test", "What melts?", choices("ice", "Iron."), "A", preset="laplace"
    )
    head = "Select one of the choices that answers the following question: What melts? Choices:"
    assert render_prompt(example) == f"{head} A. Ice. B. Iron. Answer:"
    pronoun = replace(example, task="winogrande_m", options=choices("ice", "iron"))
    assert render_prompt(pronoun) == f"{head} A. ice. B iron. Answer:"
    truth = replace(passage(("False", "True"), "laplace"), context="It is.")
    expected = "Answer the question with only True or False: is ice cold Context: It is."
    assert render_prompt(truth) == expected


@pytest.mark.parametrize("preset", ["blob", "laplace"])
def test_a_preset_without_a_wording_is_refused(preset: str, question: Example) -> None:
    with pytest.raises(ValueError, match="True and False only, got the letters"):
        render_prompt(passage(preset=preset))
    about_a_passage = replace(question, preset=preset, context="Warsaw is in Poland.")
    with pytest.raises(ValueError, match="open-ended"):
        render_prompt(about_a_passage)
    if preset == "laplace":
        with pytest.raises(ValueError, match="'seat' is open-ended"):
            render_prompt(replace(question, preset=preset))


def test_an_unknown_preset_is_refused(question: Example) -> None:
    for preset in ("haiku", "chat", "+chat", "blob+chat+chat"):
        with pytest.raises(ValueError, match="prompt preset must be one of"):
            replace(question, preset=preset)


def test_a_chat_is_the_template_and_the_answer_right_behind(tokenizer_of, choice, question) -> None:
    tokenizer = copy.deepcopy(tokenizer_of("gpt2"))
    chatting = replace(choice, preset="cogcalib+chat")
    with pytest.raises(ValueError, match=r"needs an instruct model.*'cogcalib' asks without one"):
        encode(chatting, tokenizer)
    tokenizer.chat_template = CHAT
    row = encode(chatting, tokenizer)
    text = f"<|end|>user: {render_prompt(choice)}\nassistant:\n"
    assert tokenizer.decode(row.prompt_ids) == text
    assert tokenizer.decode(row.answer_ids) == "B<|end|>"
    assert row.option_ids == tuple(tokenizer.convert_tokens_to_ids(list("ABCD")))
    (forms,) = surface_ids([chatting], tokenizer)
    assert [form[0] for form in forms] == list(row.option_ids)
    assert [form[1:] for form in forms] == [(i,) for i in encode(choice, tokenizer).option_ids]
    asked = replace(question, preset="cogcalib+chat")
    assert tokenizer.decode(encode(asked, tokenizer).answer_ids) == "Warsaw<|end|>"
    mixed = [choice, chatting, question, asked]
    assert encode_batch(mixed, tokenizer) == [encode(e, tokenizer) for e in mixed]


def test_a_chat_template_adds_the_first_token_itself(tokenizer_of, question) -> None:
    tokenizer = copy.deepcopy(tokenizer_of("atlas"))
    tokenizer.chat_template = "{{ bos_token }}" + CHAT.replace("<|end|>", "")
    row = encode(replace(question, preset="cogcalib+chat"), tokenizer)
    assert row.input_ids.count(tokenizer.bos_token_id) == 1
    assert row.input_ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("kind", ["atlas", "gpt2", "sentencepiece"])
def test_the_passage_is_shortened_never_the_question(tokenizer_of, choice, kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    long, short = passage(), replace(passage(), id="short", context="Ice is cold.")
    limit = len(encode(long, tokenizer).input_ids) - 30
    (first, second, third), count = shorten_passages([long, short, choice], tokenizer, limit)
    assert count == 1
    assert (second, third) == (short, choice)
    assert long.context.startswith(first.context)
    assert replace(first, context=long.context) == long
    assert len(encode(first, tokenizer, max_length=limit).input_ids) <= limit
    words = len(first.context.split())
    longer = " ".join(long.context.split()[: words + 1])
    assert len(encode(replace(long, context=longer), tokenizer).input_ids) > limit


def test_a_passage_of_which_no_word_fits_is_refused(tokenizer_of) -> None:
    tokenizer = tokenizer_of("gpt2")
    bare = len(encode(replace(passage(), context=""), tokenizer).input_ids)
    with pytest.raises(ValueError, match=r"'x': max_length is .* not one word of its passage"):
        shorten_passages([passage()], tokenizer, bare)
    one = replace(passage(), context="Ice")
    limit = len(encode(one, tokenizer).input_ids)
    (example,), count = shorten_passages([passage()], tokenizer, limit)
    assert (example.context, count) == ("Ice", 1)


def test_what_a_preset_cuts_counts_as_shortened(tokenizer_of) -> None:
    long = passage(("False", "True"), "blob")
    short = replace(long, id="short", context="Ice is cold.")
    ours = replace(long, preset="cogcalib")
    found, count = shorten_passages([long, short, ours], tokenizer_of("gpt2"), 10**6)
    assert (found, count) == ([long, short, ours], 1)


def test_what_is_supervised_is_marked(tokenizer_of, choice, question) -> None:
    tokenizer = tokenizer_of("gpt2")
    shown = show_example(choice, tokenizer)
    assert f"Answer:{OPEN} B<|end|>{CLOSE}" in shown
    assert shown.endswith(f"|:|{OPEN}\u0120B|<|end|>{CLOSE}")
    audit = show_audit([choice], tokenizer)
    assert "  A: \u0120A [" in audit
    assert "never look them up alone" in audit
    with pytest.raises(ValueError, match="no options"):
        show_audit([question], tokenizer)

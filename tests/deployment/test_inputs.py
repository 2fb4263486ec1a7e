"""Inputs become the tokens that training and scoring see, or are refused by their index."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset

from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.deployment.inputs import RefusedInput, to_questions
from cogcalib.modeling import encode_batch, load_tokenizer, render_prompt, resolve_model
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.records import InputError
from cogcalib.training import CogCalibConfig, CogCalibTrainer

OPTIONS = AnswerFormat("options", "options")
RECORDED = AnswerFormat("options", "options", options=(" A", " B"))
OPEN = AnswerFormat("open-ended", "mean")
ASK = "Question: Where is Lyon?\nAnswer:"

PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Trims, as Llama 3's does.
TRIMMED = PLAIN.replace("m['content']", "m['content'] | trim")
# Thinks without a word before it answers, as Qwen 3's does in training.
THINKING = (
    "{% for m in messages %}<{{ m['role'] }}>"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chat_tokenizer(template: str):
    tokenizer = load_tokenizer("atlas")
    tokenizer.chat_template = template
    return tokenizer


def trained_on(rows: list[dict[str, Any]], tokenizer, folder) -> list[tuple[list[int], Any]]:
    """What the trainer makes of rows: the tokens before the answer, and of the options."""
    args = CogCalibConfig(
        str(folder), use_cpu=True, bf16=False, gate="none", report_to="none", max_steps=1
    )
    trainer = CogCalibTrainer(
        resolve_model("atlas"),
        args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    found = []
    for row in trainer.train_dataset:
        start = next(t for t, label in enumerate(row["labels"]) if label != -100)
        found.append((row["input_ids"][:start], row.get("option_ids")))
    return found


def test_prompts_have_the_tokens_that_trl_makes_of_the_rows(tmp_path) -> None:
    prompts = [ASK, "Où est Zürich? \U0001f600\nAnswer:", "A\n\nB:", "One line only ->"]
    rows = [{"prompt": p, "completion": " B", "options": [" A", " B", " C"]} for p in prompts]
    tokenizer = load_tokenizer("atlas")
    found = to_questions(rows, tokenizer, OPTIONS)
    for question, (ids, options) in zip(found, trained_on(rows, tokenizer, tmp_path), strict=True):
        assert list(question.prompt_ids) == ids
        assert [ids for (ids,) in question.option_ids] == options
        assert question.options == (" A", " B", " C")


@pytest.mark.parametrize("template", [PLAIN, TRIMMED])
def test_messages_have_the_tokens_that_trl_makes_of_the_rows(tmp_path, template) -> None:
    tokenizer = chat_tokenizer(template)
    system = {"role": "system", "content": "Be short."}
    asked = [[{"role": "user", "content": text}] for text in ("Where is Lyon?", "Où?\nSay it:")]
    asked.append([system, *asked[0], {"role": "assistant", "content": "A"}, *asked[1]])
    rows = [
        {
            "prompt": messages,
            "completion": [{"role": "assistant", "content": "B"}],
            "options": ["A", "B"],
        }
        for messages in asked
    ]
    expected = trained_on(rows, tokenizer, tmp_path)
    as_messages = [{"messages": row["prompt"], "options": row["options"]} for row in rows]
    for inputs in (rows, as_messages):
        found = to_questions(inputs, tokenizer, OPTIONS)
        for question, (ids, options) in zip(found, expected, strict=True):
            assert list(question.prompt_ids) == ids
            assert [ids for (ids,) in question.option_ids] == options
            assert question.chat
    opened = to_questions(asked, tokenizer, OPEN)
    assert [list(question.prompt_ids) for question in opened] == [ids for ids, _ in expected]


def test_what_a_template_puts_before_an_answer_belongs_to_it() -> None:
    tokenizer = chat_tokenizer(THINKING)
    messages = [{"role": "user", "content": "Where?"}]
    (found,) = to_questions([{"messages": messages, "options": ["A", "B"]}], tokenizer, OPTIONS)
    whole = [*messages, {"role": "assistant", "content": "B"}]
    text = tokenizer.apply_chat_template(whole, tokenize=False).removesuffix("</s>")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [*found.prompt_ids, *found.option_ids[1]] == ids


def test_template_gets_tools_and_arguments_of_the_row() -> None:
    tokenizer = chat_tokenizer("{{ (tools or []) | length }}{{ style }}" + PLAIN)
    messages = [{"role": "user", "content": "Where?"}]
    row = {"messages": messages, "chat_template_kwargs": {"style": "s"}, "tools": [{"a": 1}]}
    plain, given = to_questions([messages, row], tokenizer, OPEN)
    ids = tokenizer("1s<user>Where?</s><assistant>", add_special_tokens=False)["input_ids"]
    assert list(given.prompt_ids) == ids
    assert plain.prompt_ids != given.prompt_ids
    row["tools"] = '[{"a": 1}]'
    assert to_questions([row], tokenizer, OPEN) == [given]


@pytest.mark.parametrize("preset", ["cogcalib", "blob", "laplace", "cogcalib+chat"])
def test_questions_are_worded_as_examples_are(choices, preset) -> None:
    tokenizer = chat_tokenizer(PLAIN)
    examples = [replace(each, preset=preset) for each in choices]
    answers = AnswerFormat("options", "options", preset=preset)
    expected = encode_choices(examples, tokenizer, None)
    shown = [{option.letter: option.text for option in each.options} for each in examples]
    rows = [{"question": e.prompt, "options": o} for e, o in zip(examples, shown, strict=True)]
    lists = [{**row, "options": list(row["options"].values())} for row in rows]
    for inputs in (rows, lists):
        found = to_questions(inputs, tokenizer, answers)
        for question, choice in zip(found, expected, strict=True):
            assert list(question.prompt_ids) == choice.prompt_ids
            assert [ids for (ids,) in question.option_ids] == [form[0] for form in choice.forms]
    assert to_questions(rows, tokenizer, answers)[0].options == ("A", "B")
    assert to_questions(lists, tokenizer, answers)[0].options == tuple(lists[0]["options"])


def test_passages_and_open_questions_are_worded_as_examples_are(questions) -> None:
    tokenizer = load_tokenizer("atlas")
    examples = [replace(each, context="It is far away.") for each in questions]
    rows = [{"question": e.prompt, "passage": e.context, "answer": e.answer} for e in examples]
    found = to_questions(rows, tokenizer, OPEN)
    expected = [row.prompt_ids for row in encode_batch(examples, tokenizer)]
    assert [list(question.prompt_ids) for question in found] == expected
    assert not any(question.options for question in found)


def test_recorded_options_answer_prompts_that_bring_none(choices) -> None:
    tokenizer = load_tokenizer("atlas")
    bare, own = to_questions([ASK, {"prompt": ASK, "options": [" B", " A"]}], tokenizer, RECORDED)
    assert bare.options == (" A", " B")
    assert own.options == (" B", " A")
    assert own.option_ids == tuple(reversed(bare.option_ids))


def test_generators_are_taken_and_nothing_gives_nothing() -> None:
    tokenizer = load_tokenizer("atlas")

    def coming() -> Iterator[str]:
        yield from (ASK, "Why?")

    assert len(to_questions(coming(), tokenizer, OPEN)) == 2
    assert to_questions([], tokenizer, OPEN) == []
    assert to_questions(Dataset.from_list([{"prompt": ASK}]), tokenizer, OPEN)


QUESTION = {"question": "Where?"}
TURN = {"role": "user", "content": "Where?"}


@pytest.mark.parametrize(
    ("value", "answers", "what"),
    [
        ("", OPEN, "the prompt is empty"),
        (" \n", OPEN, "the prompt is empty"),
        ({"prompt": ""}, OPEN, "the prompt is empty"),
        (None, OPEN, "must be a prompt, a list of messages, or a dict"),
        (math.nan, OPEN, "got nan"),
        (7, OPEN, "got 7"),
        (b"bytes", OPEN, "must be a prompt"),
        ([], OPEN, "there is no message"),
        ({}, OPEN, "just one of prompt, messages, question, got nothing"),
        ({"text": "x"}, OPEN, "got text"),
        ({"prompt": "a", "question": "b"}, OPEN, "got prompt, question"),
        (TURN, OPEN, "messages go into a list of their own"),
        ({"prompt": 3}, OPEN, "prompt must be a text or a list of messages"),
        ({"messages": "hi"}, OPEN, "messages must be a list of messages"),
        ([{"role": "user"}], OPEN, "message 0 must be"),
        (["hi"], OPEN, "message 0 must be"),
        ([TURN, {"role": "assistant", "content": "x"}], OPEN, "leave the answer out"),
        ([{"role": "user", "content": " "}], OPEN, "the messages are empty"),
        ({"messages": [TURN], "tools": "no JSON"}, OPEN, "tools: no valid JSON"),
        ({"messages": [TURN], "tools": {"a": 1}}, OPEN, "tools must be a list, or JSON of one"),
        ({"messages": [TURN], "chat_template_kwargs": "x"}, OPEN, "must hold keys and values"),
        ({"question": " "}, OPEN, "the question must be a text"),
        ({"question": math.nan}, OPEN, "the question must be a text"),
        ({**QUESTION, "passage": 3}, OPEN, "the passage must be a text"),
        ("lone \ud800 half", OPEN, "half a character"),
        ({**QUESTION, "options": ["A", "B"]}, OPEN, "calibrated on generated answers"),
        ({"prompt": ASK, "options": [" A", " B"]}, OPEN, "calibrated on generated answers"),
        (ASK, OPTIONS, "needs options"),
        (QUESTION, OPTIONS, "needs options, which the question shows"),
        (QUESTION, RECORDED, "needs options, which the question shows"),
        ({"prompt": ASK, "options": []}, OPTIONS, "two or more different texts"),
        ({"prompt": ASK, "options": [" A"]}, OPTIONS, "two or more different texts"),
        ({"prompt": ASK, "options": [" A", " A"]}, OPTIONS, "two or more different texts"),
        ({"prompt": ASK, "options": [" A", "A "]}, OPTIONS, "two or more different texts"),
        ({"prompt": ASK, "options": [" A", ""]}, OPTIONS, "none of them empty"),
        ({"prompt": ASK, "options": [" A", math.nan]}, OPTIONS, "options must be texts"),
        ({"prompt": ASK, "options": " A"}, OPTIONS, "must be a list of texts"),
        ({"prompt": ASK, "options": {"A": "x", "B": "y"}}, OPTIONS, "letters and texts go with"),
        ({"prompt": ASK, "options": ["A", "B"]}, RECORDED, "must be written ' A'"),
        ({**QUESTION, "options": ["x"]}, OPTIONS, "two or more different texts"),
        ({**QUESTION, "options": {"A": "x", "B": None}}, OPTIONS, "two or more different texts"),
        ({**QUESTION, "options": {"A": "x", "A ": "y"}}, OPTIONS, "letters of their own"),
        ({**QUESTION, "options": [f"o{i}" for i in range(27)]}, OPTIONS, "letters for 26"),
        ({"prompt": ASK, "options": [" No", " No way"]}, OPTIONS, "is the beginning of option"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_index(value, answers, what) -> None:
    good = {"question": "Where?", "options": ["x", "y"]} if answers.kind == "options" else ASK
    with pytest.raises(RefusedInput, match="input 12: ") as refused:
        to_questions([good, good, value], chat_tokenizer(PLAIN), answers, first=10)
    assert what in refused.value.problem
    assert refused.value.index == 12


@pytest.mark.parametrize("inputs", [ASK, b"x", {"prompt": ASK}, pd.DataFrame({"prompt": [ASK]})])
def test_what_is_no_list_of_inputs_is_refused(inputs) -> None:
    with pytest.raises(InputError, match="must be a list, got a"):
        to_questions(inputs, load_tokenizer("atlas"), OPEN)


def test_messages_need_a_chat_template_that_takes_them() -> None:
    with pytest.raises(RefusedInput, match="no chat template"):
        to_questions([[TURN]], load_tokenizer("atlas"), OPEN)
    strict = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(RefusedInput, match="roles must alternate"):
        to_questions([[TURN]], chat_tokenizer(strict), OPEN)
    cut = PLAIN.replace("m['content']", "m['content'][:30]")
    row = {"messages": [TURN], "options": ["A" * 40, "B"]}
    (found,) = to_questions([row], chat_tokenizer(cut), OPTIONS)
    assert found.option_ids[0] == tuple(
        load_tokenizer("atlas")("A" * 30, add_special_tokens=False)["input_ids"]
    )
    numbered = PLAIN.replace("m['content']", "(m['content'] | length) ~ m['content']")
    with pytest.raises(RefusedInput, match="does not show the answer 'AA' as a whole"):
        to_questions(
            [{"messages": [TURN], "options": ["AA", "B"]}], chat_tokenizer(numbered), OPTIONS
        )


def test_prompt_of_an_example_is_the_same_as_text_and_as_question(choices) -> None:
    tokenizer = load_tokenizer("atlas")
    example = choices[0]
    shown = {option.letter: option.text for option in example.options}
    text, question = to_questions(
        [
            {"prompt": render_prompt(example), "options": [" A", " B"]},
            {"question": example.prompt, "options": shown},
        ],
        tokenizer,
        OPTIONS,
    )
    assert text.prompt_ids == question.prompt_ids
    assert text.option_ids == question.option_ids

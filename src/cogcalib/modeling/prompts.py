"""Wordings of a question: one function per preset, and the model's chat template around it.

``cogcalib`` is ours. ``blob`` and ``laplace`` are the wordings of two published code bases, quirks
included, for comparison with their numbers; docs/tasks.md says which parts were checked.
``verbatim`` is none: rows to train on, as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from cogcalib.modeling.conversations import opened_text
from cogcalib.records import CHAT, VERBATIM, Example, Option, is_verbatim

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOB_PASSAGE = 1024
"""Characters of a passage that the ``blob`` preset keeps."""

DATE = "26 Jul 2024"
"""Today, to a chat template that asks: a prompt must not change from one day to the next."""

SHOT_END = "\n\n"
"""What separates an answered question from the next one."""


class Worded(Protocol):
    """What is worded: an `Example`, or a question to which nobody has the answer."""

    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def options(self) -> tuple[Option, ...] | None: ...
    @property
    def context(self) -> str: ...
    @property
    def preset(self) -> str: ...


_TEXT_BEFORE_LETTER = ("openbookqa", "arc_challenge", "arc_easy")


def render_prompt(example: Worded) -> str:
    """The text a model is asked with, up to where the answer begins; as `Example.preset` says.

    Raises:
        ValueError: If the preset has no wording for such a question.
    """
    return _WORDINGS[example.preset.removesuffix(CHAT)](example)


def render_completion(example: Example) -> str:
    """The text that answers the prompt: the letter or the answer string, a space in front.

    In a chat the answer opens the assistant's turn, without a space.
    """
    return completion(example, example.answer)


def completion(example: Worded, answer: str) -> str:
    """`answer` as it would follow the prompt; of a conversation the message's content."""
    if is_verbatim(example.preset):
        return answer
    return answer.strip() if in_chat(example) else f" {answer.strip()}"


def shown_passage(example: Worded) -> str:
    """As much of the passage as the preset shows."""
    blob = example.preset.removesuffix(CHAT) == "blob"
    return example.context[:BLOB_PASSAGE] if blob else example.context


def in_chat(example: Worded) -> bool:
    """Whether the prompt goes through the model's chat template."""
    return example.preset.endswith(CHAT)


def is_conversation(example: Worded) -> bool:
    """Whether it stands as messages of its own, in no wording of ours."""
    return in_chat(example) and is_verbatim(example.preset)


def render_shots(shots: Sequence[Example]) -> str:
    """Questions with their answers, to stand before another question in the same wording."""
    return "".join(f"{render_prompt(e)}{render_completion(e)}{SHOT_END}" for e in shots)


def chat_prompt(
    example: Worded, tokenizer: PreTrainedTokenizerBase, shots: Sequence[Example] = ()
) -> str:
    """The prompt as the user's turn of a chat, the assistant's turn opened behind it.

    A thinking model is asked not to think, so that the answer span follows at once. `shots` are
    earlier turns: the user asked, the assistant answered.

    Raises:
        ValueError: If the tokenizer has no chat template.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            f"prompt preset {example.preset!r} needs an instruct model: the tokenizer has no chat "
            f"template; {example.preset.removesuffix(CHAT)!r} asks without one"
        )
    turns = [
        {"role": role, "content": text}
        for shot in shots
        for role, text in (("user", render_prompt(shot)), ("assistant", render_completion(shot)))
    ]
    asked = [*turns, {"role": "user", "content": render_prompt(example)}]
    return opened_text(asked, tokenizer, {"enable_thinking": False, "date_string": DATE})


def _cogcalib(example: Worded) -> str:
    lines = [f"Passage: {example.context.strip()}"] if example.context else []
    lines.append(f"Question: {example.prompt.strip()}")
    lines += [f"{option.letter}. {option.text}" for option in example.options or ()]
    return "\n".join([*lines, "Answer:"])


def _blob(example: Worded) -> str:
    question = example.prompt.strip()
    if example.context:
        _check_truth_values(example)
        return (
            "Read the passage below and answer the question with the words 'true' or 'false'.\n\n"
            f"Passage: {shown_passage(example)}\nQuestion: {question}\n"
            "Answer (true or false):"
        )
    if example.options is None:
        return f"Answer the question below. Question: {question} Answer:"
    # Their code swaps the two names while it formats these data sets, and misspells one heading.
    swapped = example.task in _TEXT_BEFORE_LETTER
    heading = "Chioces" if example.task == "openbookqa" else "Choices"
    shown = "\n".join(
        f"{option.text}) {option.label or option.letter}"
        if swapped
        else f"{option.letter}) {option.text}"
        for option in example.options
    )
    return (
        "Return the label of the correct answer for the question below.\n\n"
        f"Question: {question}\n{heading}:\n{shown}\nAnswer:"
    )


def _laplace(example: Worded) -> str:
    question = example.prompt.strip()
    if example.options is None:
        raise ValueError(
            f"example {example.id!r} is open-ended: the prompt preset 'laplace' knows choices only"
        )
    if example.context:
        _check_truth_values(example)
        return f"Answer the question with only True or False: {question} Context: {example.context}"
    if example.task.startswith("winogrande"):
        first, second = example.options
        shown = f"A. {first.text}. B {second.text}."
    else:
        shown = " ".join(f"{option.letter}. {_as_sentence(option)}" for option in example.options)
    return (
        "Select one of the choices that answers the following question: "
        f"{question} Choices: {shown} Answer:"
    )


def _as_sentence(option: Option) -> str:
    text = option.text if option.text.endswith(".") else f"{option.text}."
    return text[:1].upper() + text[1:]


def _check_truth_values(example: Worded) -> None:
    letters = [option.letter for option in example.options or ()]
    if sorted(letters) != ["False", "True"]:
        came = f"the letters {letters}" if letters else "an open-ended question"
        raise ValueError(
            f"example {example.id!r}: the prompt preset {example.preset!r} asks about a passage "
            f"with True and False only, got {came}"
        )


_WORDINGS: dict[str, Callable[[Worded], str]] = {
    "cogcalib": _cogcalib,
    "blob": _blob,
    "laplace": _laplace,
    VERBATIM: lambda example: example.prompt,
}

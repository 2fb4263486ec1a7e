"""Inputs of a prediction: prompts, conversations and questions, made ready to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, NamedTuple

from cogcalib.deployment.calibration_file import ANEW, OPTIONS, AnswerFormat
from cogcalib.modeling.continuations import Text, prompt_texts, text_continuations
from cogcalib.modeling.conversations import (
    TEMPLATE_KEYS,
    Messages,
    conversation_texts,
    template_inputs,
)
from cogcalib.modeling.prompts import completion
from cogcalib.records import PRESETS, InputError, Option
from cogcalib.suggest import any_meant, slip

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS_OF_INPUT = ("prompt", "messages", "question")
"""Keys of an input, of which it has just one."""

_BESIDE = {
    "prompt": ("options", *TEMPLATE_KEYS),
    "messages": ("options", *TEMPLATE_KEYS),
    "question": ("options", "passage"),
}
"""Keys that may stand beside each of them, and would be missed by nobody."""


class RefusedInput(InputError):
    """An input that cannot be asked.

    Attributes:
        index: Its place among the inputs, from 0.
        problem: What is wrong with it, and what would be right.
    """

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(f"input {index}: {problem}")
        self.index, self.problem = index, problem


@dataclass(frozen=True, slots=True)
class Question:
    """One input, ready to be asked.

    Attributes:
        prompt_ids: Tokens of the prompt.
        options: What may be answered, as given; empty if the answer is generated.
        option_ids: Tokens of each option behind the prompt.
        chat: Whether the prompt went through the chat template: then a line break ends no answer.
    """

    prompt_ids: tuple[int, ...]
    options: tuple[str, ...] = ()
    option_ids: tuple[tuple[int, ...], ...] = ()
    chat: bool = False

    @property
    def one_token(self) -> bool:
        """Whether its options differ in their last token alone: all are in one distribution."""
        return len({(*ids[:-1], None) for ids in self.option_ids}) == 1


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question without its answer, as `cogcalib.modeling.prompts` words it.

    Attributes:
        id, task: For messages, and for a preset that words tasks differently.
        prompt: The question.
        options: Options to show, None if it shows none.
        context: A passage that it is about; empty without one.
        preset: One of `PRESETS`, ``+chat`` behind it or not.
    """

    id: str
    task: str
    prompt: str
    options: tuple[Option, ...] | None
    context: str
    preset: str


class _Asked(NamedTuple):
    """The text of an input, its options as given, and as they would follow the text."""

    text: Text
    options: Sequence[str]
    completions: Sequence[str]


def to_questions(
    inputs: Iterable[Any],
    tokenizer: PreTrainedTokenizerBase,
    answers: AnswerFormat,
    *,
    first: int = 0,
) -> list[Question]:
    """Inputs as tokens, the same that training and scoring make of them.

    Args:
        inputs: Each a prompt as a string, taken as it is; a list of messages
            ``{"role", "content"}``; or a mapping with just one of

            - ``prompt``: a string or messages, as in rows to train on;
            - ``messages``: the last not the assistant's;
            - ``question``: put into words by the recorded preset, with ``passage`` if it has one;

            and, where the answer is not generated, ``options``: a list of completions as they
            follow a prompt (``" A"``) or are an assistant's message (``"A"``), if `answers` records
            none; of a question a list of texts, or a mapping of letters to texts, which it shows
            under letters. Other keys are not looked at, but one that is all but one of these is
            refused.
        tokenizer: Of the model.
        answers: How the model is asked.
        first: Index of the first input, for messages.

    Raises:
        RefusedInput: Naming the index of the first input that cannot be asked.
        InputError: As `check_inputs`.
    """
    check_inputs(inputs)
    asked = []
    for index, value in enumerate(inputs, start=first):
        try:
            asked.append(_read(value, tokenizer, answers))
            _check_text(asked[-1])
        except ValueError as error:
            raise RefusedInput(index, str(error)) from error
    found = text_continuations(
        [each.text for each in asked], [each.completions for each in asked], tokenizer
    )
    questions = []
    for index, (each, (prompt, options)) in enumerate(zip(asked, found, strict=True), start=first):
        try:
            option_ids = _option_tokens(each, options, tokenizer.unk_token_id)
            if not prompt:
                raise ValueError("the tokenizer finds no tokens in the prompt")
        except ValueError as error:
            raise RefusedInput(index, str(error)) from error
        questions.append(Question(tuple(prompt), tuple(each.options), option_ids, each.text[1]))
    return questions


def check_inputs(inputs: Any) -> None:
    """Raise InputError for one input that is in no list, and what only looks like a list."""
    # A data frame gives the names of its columns, which are texts.
    if isinstance(inputs, (str, bytes, Mapping)) or hasattr(inputs, "iterrows"):
        raise InputError(
            f"inputs must be a list, got a {type(inputs).__name__}; put one input into a list, and "
            'take the rows of a data frame as to_dict("records")'
        )


def _read(value: Any, tokenizer: PreTrainedTokenizerBase, answers: AnswerFormat) -> _Asked:
    if isinstance(value, str):
        return _prompt(value, _completions(None, answers))
    if isinstance(value, (list, tuple)):
        return _conversation(value, _completions(None, answers), tokenizer, {})
    if not isinstance(value, Mapping):
        raise ValueError(
            "must be a prompt, a list of messages, or a dict with one of "
            f"{', '.join(KINDS_OF_INPUT)}, got {value!r}"
        )
    given = {key: value[key] for key in KINDS_OF_INPUT if value.get(key) is not None}
    if len(given) != 1:
        names = [str(key) for key in given or value]
        hint = "" if given else any_meant(names, KINDS_OF_INPUT)
        if "role" in value:
            hint = " (messages go into a list of their own)"
        raise ValueError(
            f"must have just one of {', '.join(KINDS_OF_INPUT)}, "
            f"got {', '.join(names) or 'nothing'}{hint}"
        )
    ((key, content),) = given.items()
    if told := slip([str(name) for name in value], _BESIDE[key]):
        raise ValueError(told)
    if key == "question":
        return _question(content, value, tokenizer, answers)
    options = _completions(value.get("options"), answers)
    if key == "prompt" and isinstance(content, str):
        return _prompt(content, options)
    if not isinstance(content, (list, tuple)):
        kinds = "a text or a list of messages" if key == "prompt" else "a list of messages"
        raise ValueError(f"{key} must be {kinds}, got {content!r}")
    return _conversation(content, options, tokenizer, value)


def _check_text(asked: _Asked) -> None:
    try:
        "".join((asked.text[0], *asked.completions)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character, which is no text: {error}") from error


def _prompt(text: str, options: Sequence[str]) -> _Asked:
    if not text.strip():
        raise ValueError("the prompt is empty")
    return _Asked((text, False), options, options)


def _conversation(
    messages: Messages,
    options: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    row: Mapping[str, Any],
) -> _Asked:
    if not messages:
        raise ValueError("there is no message")
    for number, message in enumerate(messages):
        keys = isinstance(message, Mapping) and message.get("role")
        if not keys or (message.get("content") is None and not message.get("tool_calls")):
            raise ValueError(
                f'message {number} must be {{"role": ..., "content": ...}}, got {message!r}'
            )
    if not any(str(each.get("content") or "").strip() for each in messages):
        raise ValueError("the messages are empty")
    if messages[-1]["role"] == "assistant":
        raise ValueError("the last message is the assistant's: leave the answer out")
    given = template_inputs(row)
    prompt, completions = conversation_texts(messages, options, tokenizer, given)
    return _Asked((prompt, True), options, completions)


def _question(
    text: Any, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, answers: AnswerFormat
) -> _Asked:
    passage = row.get("passage")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the question must be a text, got {text!r}")
    if not isinstance(passage, str | None):
        raise ValueError(f"the passage must be a text, got {passage!r}")
    shown, labels = _shown(row.get("options"))
    if shown:
        _check_kind(answers)
    elif answers.kind == OPTIONS:
        raise ValueError(
            "needs options, which the question shows under letters: a list of texts under the key "
            "options"
        )
    asked = Unanswered("here", "", text, shown, passage or "", answers.preset or PRESETS[0])
    (prompt,) = prompt_texts([asked], tokenizer)
    return _Asked(prompt, labels, [completion(asked, option.letter) for option in shown or ()])


def _shown(options: Any) -> tuple[tuple[Option, ...] | None, list[str]]:
    """The options that a question shows, and what an answer calls them."""
    if options is None:
        return None, []
    if isinstance(options, Mapping):
        # A table has a column for every letter that any of its rows has.
        texts = {letter: text for letter, text in options.items() if text is not None}
        labels = [str(letter) for letter in texts]
        letters = [label.strip() for label in labels]
        contents = list(texts.values())
    else:
        contents = labels = _texts(options)
        letters = list(ascii_uppercase[: len(contents)])
    _check_texts(contents, options)
    if len(letters) < len(contents):
        raise ValueError(f"there are letters for {len(letters)} options, got {len(contents)}")
    if not all(letters) or len(set(letters)) < len(letters):
        raise ValueError(f"options must have letters of their own, got {letters}")
    shown = (Option(letter, text) for letter, text in zip(letters, contents, strict=True))
    return tuple(shown), labels


def _completions(options: Any, answers: AnswerFormat) -> list[str]:
    """The options that are to follow a prompt, none if the answer is to be generated."""
    if options is None:
        if answers.kind == OPTIONS and answers.options is None:
            raise ValueError(
                "needs options: the model was calibrated on answers chosen among options, and "
                "its calibration.json records none that all questions share"
            )
        return list(answers.options or ()) if answers.kind == OPTIONS else []
    _check_kind(answers)
    if isinstance(options, Mapping):
        raise ValueError(
            "options of a prompt must be a list of completions such as ' A'; letters and texts go "
            f"with a question, got {options!r}"
        )
    texts = _texts(options)
    _check_texts(texts, options)
    recorded = {option.strip(): option for option in answers.options or ()}
    for text in texts:
        usual = recorded.get(text.strip(), text)
        if usual != text:
            raise ValueError(f"option {text!r} must be written {usual!r}, as in the calibration")
    return texts


def _texts(options: Any) -> list[Any]:
    if isinstance(options, (str, bytes)) or not isinstance(options, Iterable):
        raise ValueError(f"options must be a list of texts, got {options!r}")
    return list(options)


def _check_texts(texts: Sequence[Any], given: Any) -> None:
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"options must be texts, none of them empty, got {given!r}")
    if len(texts) < 2 or len({text.strip() for text in texts}) < len(texts):
        raise ValueError(f"options must be two or more different texts, got {given!r}")


def _check_kind(answers: AnswerFormat) -> None:
    if answers.kind != OPTIONS:
        raise ValueError(
            "brings options, but the model was calibrated on generated answers; leave them out, or "
            f"{ANEW} on questions with options"
        )


def _option_tokens(
    asked: _Asked, found: Sequence[list[int] | None], unknown: int | None
) -> tuple[tuple[int, ...], ...]:
    """The tokens of each option.

    Raises:
        ValueError: If an option has none of its own, or its tokens are the beginning of another's:
            the longer one could never be chosen.
    """
    tokens: list[tuple[int, ...]] = []
    for option, text, ids in zip(asked.options, asked.completions, found, strict=True):
        if not ids or ids == [unknown]:
            raise ValueError(
                f"option {option!r} has no tokens of its own behind the prompt (as {text!r}); a "
                "completion begins as it does in the text, its leading space included"
            )
        tokens.append(tuple(ids))
    spelt = list(zip(asked.options, tokens, strict=True))
    for option, own in spelt:
        for other, more in spelt:
            if other != option and more[: len(own)] == own:
                problem = "has the same tokens as" if more == own else "is the beginning of"
                raise ValueError(
                    f"option {option!r} {problem} option {other!r}, which could never be chosen; "
                    "show the options under letters, as a question"
                )
    return tuple(tokens)

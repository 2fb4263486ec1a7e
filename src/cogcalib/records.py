"""Records that travel between rooms: examples, predictions, thresholds, probe and run records.

Plain frozen data classes without any dependency, so that every room can read what another wrote.
Fractions are in [0, 1], log-probabilities and NLL in nats.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PRESETS = ("cogcalib", "blob", "laplace")
"""Wordings of a prompt that `cogcalib.modeling.prompts` renders, the default first."""

DTYPES = ("float32", "bfloat16", "float16", "float64")
"""Number formats that weights may be loaded in, the library's default first."""

AUTO = "auto"
"""In place of a number format: the one that the weights are stored in."""

CHAT = "+chat"
"""Suffix of a preset: the prompt goes through the model's own chat template."""

VERBATIM = "verbatim"
"""Preset of rows to train on: no wording, prompt and options stand as they are written."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message is for people and says what would be."""


_PATH_ERRORS = (
    errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR,
    errno.ELOOP, errno.ENOSPC, errno.EDQUOT,
)  # fmt: skip


@contextmanager
def input_errors() -> Iterator[None]:
    """Around checks: what they raise is the user's to mend, and told with one traceback."""
    try:
        with path_errors():
            yield
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)).with_traceback(error.__traceback__) from None


@contextmanager
def path_errors() -> Iterator[None]:
    """Around what reads or writes where the user said: such paths are theirs to mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in _PATH_ERRORS:
            raise
        told = InputError(f"{error.filename or 'the output'}: {error.strerror}")
        raise told.with_traceback(error.__traceback__) from None


def check_preset(preset: str) -> None:
    """Raise if there is no prompt preset of that name.

    Raises:
        ValueError: Naming those there are.
    """
    if preset.removesuffix(CHAT) not in PRESETS:
        raise ValueError(
            f"prompt preset must be one of {', '.join(PRESETS)}, with or without {CHAT}, "
            f"got {preset!r}"
        )


def is_verbatim(preset: str) -> bool:
    """Whether questions of a preset stand as they are written."""
    return preset.removesuffix(CHAT) == VERBATIM


def asked_text(question: Any) -> str:
    """A question as it is compared: white space squeezed, in the normal form C of Unicode.

    Of two that are equal in this form one must not be trained on and the other tested. Case counts:
    "Who owns Riverside station?" and "... Riverside Station?" are two stations. Of messages each
    text is compared so, whatever the order of their keys; one that holds nothing is none.
    """
    if isinstance(question, str):
        return " ".join(unicodedata.normalize("NFC", question).split())
    return json.dumps(_squeezed(question), sort_keys=True, default=str)


def _squeezed(value: Any) -> Any:
    if isinstance(value, str):
        return asked_text(value)
    if isinstance(value, Mapping):
        return {str(key): _squeezed(each) for key, each in value.items() if each is not None}
    return [_squeezed(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Option:
    """One answer option of a multiple-choice question: its letter and its text.

    Attributes:
        letter: What the model answers with.
        text: What the letter stands for.
        label: The data set's own label, such as ``1``, where that is not the letter.
    """

    letter: str
    text: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One question and its accepted answers.

    Attributes:
        id: Stable identifier; `content_hash` of the example where the source has none.
        task: Name of the task, such as ``atlas/country``.
        split: ``train``, ``calibration`` or ``test``.
        prompt: The question, without options and without the answer cue
            (`cogcalib.modeling.encoding` renders both). With `VERBATIM` the whole prompt, in a
            chat a JSON object with its ``messages`` and what their template takes besides.
        options: The answer options in the order shown, or None for an open-ended question. With
            `VERBATIM` the letters are completions, their leading space included.
        answer: The letter of the correct option, or the canonical answer string if open-ended.
        aliases: Other accepted answer strings of an open-ended question.
        context: A passage the question is about; empty without one.
        preset: One of `PRESETS` or `VERBATIM`, `CHAT` behind it or not. It travels with the
            question, so that no model is scored under another prompt than it was trained with.
    """

    id: str
    task: str
    split: str
    prompt: str
    options: tuple[Option, ...] | None
    answer: str
    aliases: tuple[str, ...] = ()
    context: str = ""
    preset: str = PRESETS[0]

    def __post_init__(self) -> None:
        if not is_verbatim(self.preset):
            check_preset(self.preset)
        if not self.prompt.strip():
            raise ValueError(f"example {self.id!r}: prompt is empty")
        if not self.answer.strip():
            raise ValueError(f"example {self.id!r}: answer is empty")
        if self.options is not None:
            letters = [option.letter for option in self.options]
            if len(letters) < 2 or len(set(letters)) != len(letters):
                raise ValueError(
                    f"example {self.id!r}: options need at least two distinct letters, "
                    f"got {letters}"
                )
            if self.answer not in letters:
                raise ValueError(
                    f"example {self.id!r}: answer must be one of the option letters {letters}, "
                    f"got {self.answer!r}"
                )

    @property
    def answer_text(self) -> str:
        """The text of the correct option, or the canonical answer string if open-ended."""
        if self.options is None:
            return self.answer
        return next(option.text for option in self.options if option.letter == self.answer)

    def reordered(self, order: Sequence[int]) -> Example:
        """The same question with its option texts in another order under the same letters.

        Args:
            order: A permutation of ``range(len(options))``; position *k* shows the text that
                stood at ``order[k]``.

        Raises:
            ValueError: For an open-ended example, or if `order` is not a permutation.
        """
        if self.options is None:
            raise ValueError(f"example {self.id!r} is open-ended: it has no options to reorder")
        if is_verbatim(self.preset):
            raise ValueError(f"example {self.id!r}: its prompt shows the options as they stand")
        if sorted(order) != list(range(len(self.options))):
            raise ValueError(
                f"order must be a permutation of 0..{len(self.options) - 1}, got {list(order)}"
            )
        letters = [option.letter for option in self.options]
        options = tuple(
            replace(shown, text=self.options[source].text)
            for shown, source in zip(self.options, order, strict=True)
        )
        gold = letters.index(self.answer)
        return replace(self, options=options, answer=letters[list(order).index(gold)])

    @property
    def asked(self) -> str:
        """What is asked, as `asked_text` compares it."""
        own_messages = is_verbatim(self.preset) and self.preset.endswith(CHAT)
        return asked_text(json.loads(self.prompt) if own_messages else self.prompt)

    def content_hash(self) -> str:
        """Hash of what is asked, whatever the split, the id and the order of the options."""
        texts = sorted(option.text for option in self.options) if self.options else []
        content = [self.prompt, texts, self.answer_text]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One scored example: the row format in which anybody's model can be evaluated.

    Attributes:
        id, task, split, answer: As in the `Example`.
        prediction: The chosen letter, or the generated text if open-ended.
        correct: Whether the prediction is correct.
        nll: Mean negative log-likelihood of the gold answer's tokens, nats. Multiple choice: of
            the gold letter under the softmax over the options.
        confidence: Confidence definition (``vocab``, ``options``, ``surface``; open-ended
            ``mean``, ``joint``) -> fraction.
        option_logprobs: Log-probability of each option's token under the whole vocabulary, in the
            order shown; None if open-ended.
        model: The model scored (a name or a path the user gave).
        run: The run it belongs to.
    """

    id: str
    task: str
    split: str
    answer: str
    prediction: str
    correct: bool
    nll: float
    confidence: Mapping[str, float]
    option_logprobs: tuple[float, ...] | None
    model: str
    run: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cut on the NLL below which an example counts as known.

    Attributes:
        value: The cut in nats; +inf if every calibration example is known, -inf if none is.
        separation: TPR + TNR - 1 on the calibration split, in [0, 1]; 0 if only one class exists.
        accuracy: Share of calibration examples the cut classifies correctly.
        n_known: Number of calibration examples labelled known.
        n_unknown: Number labelled unknown.
        step: Optimiser step at which it was estimated, or None outside training.
    """

    value: float
    separation: float
    accuracy: float
    n_known: int
    n_unknown: int
    step: int | None = None


KNOWN, DOUBTFUL, UNKNOWN = KNOWLEDGE = ("known", "doubtful", "unknown")
"""What a model knows of an example, see `ProbeRecord.category`."""


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What a model knows of one example, before any training.

    Attributes:
        id: As in the `Example`.
        category: One of `KNOWLEDGE`, whatever the source. ``known``: the greedy answer is correct
            in every rendering that the source asked. ``unknown``: nothing that the source measures
            speaks for knowledge; it is correct in no rendering, or in multiple choice no more often
            than by always choosing the same letter. ``doubtful``: between.
        share_right: Share of the renderings answered correctly.
        p_gold: Mean probability of the gold answer over the renderings; of the source ``slick``,
            in the original rendering alone.
        nll: Mean NLL of the supervised tokens of the original rendering, nats.
        source: What asked, and so which renderings: ``rotations`` (zero-shot, every rotation of the
            options), ``teacher-forcing`` (open-ended, zero-shot, the gold answer token by token),
            ``slick`` (`cogcalib probe`: its prompts, and rotations in multiple choice; known is
            HighlyKnown, unknown is Unknown, for which it looks at sampled answers too). Empty in
            rows written before it was kept.
    """

    id: str
    category: str
    share_right: float
    p_gold: float
    nll: float
    source: str = ""

    def __post_init__(self) -> None:
        if self.category not in KNOWLEDGE:
            raise ValueError(
                f"category must be one of {', '.join(KNOWLEDGE)}, got {self.category!r}"
            )

    @property
    def known(self) -> bool:
        """Whether the example counts as known: to the gate ``oracle`` and to ``drop_known``."""
        return self.category == KNOWN

    @property
    def unknown(self) -> bool:
        """Whether the example counts as unknown: to ``drop_unknown``."""
        return self.category == UNKNOWN


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write, which then takes the place of `path`, or vanishes on any error.

    A reader sees the old file or the whole new one, never half.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # of a full disk, say
            error.filename = str(path)
        raise


def write_text(path: Path | str, text: str) -> Path:
    """Write `text` to `path`, atomically."""
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path | str, content: Any) -> Path:
    """Write `content` as indented JSON, atomically. Non-finite floats become ``Infinity`` etc."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

"""What travels between rooms: examples, predictions, thresholds, probe and run records.

Plain frozen data classes without any dependency, so that every room can read what another wrote.
Fractions are in [0, 1], log-probabilities and NLL in nats.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PRESETS = ("cogcalib", "blob", "laplace")
"""Wordings of a prompt that `cogcalib.modeling.prompts` renders, the default first."""

DTYPES = ("float32", "bfloat16", "float16", "float64")
"""Number formats that weights may be loaded in, the default first."""

CHAT = "+chat"
"""Suffix of a preset: the prompt goes through the model's own chat template."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message is for people and says what would be."""


@contextmanager
def input_errors() -> Iterator[None]:
    """Around checks: what they raise is the user's to mend, not a failure while running."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error


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
            (`cogcalib.modeling.encoding` renders both).
        options: The answer options in the order shown, or None for an open-ended question.
        answer: The letter of the right option, or the canonical answer string if open-ended.
        aliases: Other accepted answer strings of an open-ended question.
        context: A passage the question is about; empty without one.
        preset: One of `PRESETS`, `CHAT` behind it or not. It travels with the question, so that no
            model is scored under another prompt than it was trained with.
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
        """The text of the right option, or the canonical answer string if open-ended."""
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
        correct: Whether the prediction is right.
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
        accuracy: Share of calibration examples the cut classifies rightly.
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


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What a model knows of one example, before any training.

    Attributes:
        id: As in the `Example`.
        category: ``known`` (right under every re-rendered option order, or by teacher forcing if
            open-ended), ``unknown`` (right once or never: no more often than by always choosing the
            same letter; open-ended: not right), ``doubtful`` (between). Of a ``cogcalib probe``:
            HighlyKnown, Unknown, and what lies between.
        share_right: Share of the renderings answered rightly; the prompts of a ``cogcalib probe``.
        p_gold: Mean probability of the gold answer over the renderings; of a ``cogcalib probe``, in
            the original rendering alone.
        nll: Mean NLL of the supervised tokens of the original rendering, nats.
    """

    id: str
    category: str
    share_right: float
    p_gold: float
    nll: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything a result depends on. Equal records on one machine mean equal results.

    Attributes:
        config: The validated configuration.
        model: ``{"path": as configured, "sha256": of its files}``, or a hub commit in its place.
        data: Split -> ``{"n": rows, "sha256": hash of the rows}``.
        versions: Package -> version, of whatever takes part in a result.
        code: ``{"commit": hash or None, "dirty": bool or None}`` of a git checkout.
        seeds: Seeds of the run.
        hardware: Processor, cores, memory, accelerator.
        timings: Stage -> wall seconds.
        metrics: The rows of ``metrics.json``.
        tasks: Task -> its version, source, repeats dropped, passages shortened and the audit of
            its option labels' tokens.
    """

    config: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    code: Mapping[str, Any]
    seeds: Sequence[int]
    hardware: Mapping[str, Any]
    timings: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = field(default_factory=list)
    tasks: Mapping[str, Any] = field(default_factory=dict)


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
    except BaseException:
        temporary.unlink(missing_ok=True)
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


def write_jsonl(path: Path | str, rows: Iterable[Any]) -> Path:
    """Write data classes or mappings, one JSON object a line, atomically."""
    lines = [
        json.dumps(dict(row) if isinstance(row, Mapping) else asdict(row), ensure_ascii=False)
        for row in rows
    ]
    return write_text(path, "".join(line + "\n" for line in lines))


def read_jsonl(path: Path | str, kind: type[T]) -> list[T]:
    """Read back what `write_jsonl` wrote.

    Raises:
        ValueError: Naming file and line if a row is no JSON or misses or adds a field.
    """
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    rows: list[T] = []
    # Not splitlines: JSON leaves U+2028 and its like inside a string as they are.
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            values = json.loads(line)
            unknown = set(values) - names
            if unknown:
                raise TypeError(f"unknown fields {sorted(unknown)}")
            rows.append(kind(**{name: _frozen(name, value) for name, value in values.items()}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: no valid {kind.__name__}: {error}") from error
    return rows


def json_lines(path: Path, begin: int = 0, row: int = 1) -> Iterator[tuple[int, int, Any]]:
    """What stands in a JSONL file by anybody, line by line; blank lines at the end do not count.

    Args:
        path: Of the file.
        begin: Byte at which to begin.
        row: Number of the row there.

    Yields:
        Number of a row, the byte at which it begins, its value.

    Raises:
        ValueError: Naming file and row of what is no UTF-8, no JSON or blank.
    """
    blank = None
    # Binary lines end at a line feed alone: JSON leaves U+2028 and its like as they are.
    with path.open("rb") as file:
        file.seek(begin)
        for number, line in enumerate(file, start=row):
            at, begin = begin, begin + len(line)
            if not line.strip():
                blank = blank or number
                continue
            if blank is not None:
                raise ValueError(f"{path}, row {blank}: no valid JSON: the line is empty")
            try:
                value = json.loads(line.decode("utf-8-sig" if at == 0 else "utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, row {number}: no UTF-8 text, save it as UTF-8: {error}"
                ) from error
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: no valid JSON: {error}") from error
            yield number, at, value


def _frozen(name: str, value: Any) -> Any:
    if name == "options" and value is not None:
        return tuple(Option(**option) for option in value)
    return tuple(value) if isinstance(value, list) else value

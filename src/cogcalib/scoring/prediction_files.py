"""Files of predictions, one row per question: JSONL or Parquet, ours or anybody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from sys import intern
from typing import Any

from cogcalib.artifacts import check_writable, is_number
from cogcalib.jsonl import collector_paused, json_lines, write_jsonl
from cogcalib.records import Example, Prediction
from cogcalib.scoring.confidence_names import MULTIPLE_CHOICE, OPEN_ENDED
from cogcalib.suggest import NEAR, cut, did_you_mean, hint_first
from cogcalib.tasks.splits import drawn_as_one, halve

FORMATS = (".jsonl", ".parquet")
"""Endings of the files that can be written and read."""


def check_output(path: Path | str) -> Path:
    """Check that predictions can be written to `path`, before anything is computed.

    Raises:
        ValueError: If the ending is none of `FORMATS`, something lies there already, or nothing can
            be written there.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"output must end in {' or '.join(FORMATS)}, got {path}")
    check_writable(path)
    if path.exists():
        raise ValueError(f"output {path} already exists; remove it or choose another name")
    return path


def write_predictions(path: Path | str, predictions: Sequence[Prediction]) -> Path:
    """Write predictions, atomically; nothing is ever overwritten.

    Raises:
        ValueError: As `check_output`.
    """
    path = check_output(path)
    if path.suffix == ".jsonl":
        return write_jsonl(path, predictions)
    import pyarrow as pa

    from cogcalib.parquet import write_table

    rows = [asdict(row) for row in predictions]
    columns: dict[str, Any] = {
        "confidence": pa.map_(pa.string(), pa.float64()),
        "option_logprobs": pa.list_(pa.float64()),
        "correct": pa.bool_(),
        "nll": pa.float64(),
    }
    names = [field.name for field in fields(Prediction)]
    table = pa.Table.from_pylist(
        [{**row, "confidence": list(row["confidence"].items())} for row in rows],
        schema=pa.schema([(name, columns.get(name, pa.string())) for name in names]),
    )
    return write_table(path, table)


def read_predictions(path: Path | str) -> list[Prediction]:
    """Read predictions in the format of `cogcalib.records.Prediction`, and check every value.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming file, row (the first is 1) and key of what does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: predictions must end in {' or '.join(FORMATS)}")
    jsonl = path.suffix == ".jsonl"
    predictions: list[Prediction] = []
    seen: set[tuple[str, ...]] = set()
    with collector_paused():
        # Row by row: a million of them as JSON has them take more memory than as predictions.
        rows = (row for _, _, row in json_lines(path)) if jsonl else iter(_parquet_rows(path))
        for number, row in enumerate(rows, start=1):
            try:
                of = _checked(row)
                identity = (of.task, of.split, of.model, of.run, of.id)
                if identity in seen:
                    raise ValueError(f"id must be distinct, {of.id!r} comes more than once")
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: {error}") from error
            seen.add(identity)
            predictions.append(of)
    if not predictions:
        raise ValueError(f"{path}: there is no row")
    return predictions


@dataclass(frozen=True, slots=True)
class SplitQuestions:
    """What predictions of one task and split must answer.

    Attributes:
        task, split: Of every row.
        answers: Id -> the gold answer.
        one: Id -> of the first that asks the same (`drawn_as_one`).
    """

    task: str
    split: str
    answers: Mapping[str, str]
    one: Mapping[str, str]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> SplitQuestions:
        """What the examples ask, all of one task and split, at least one."""
        answers = {each.id: each.answer for each in examples}
        return cls(examples[0].task, examples[0].split, answers, drawn_as_one(examples))

    def for_choice(self, seed: int) -> SplitQuestions:
        """The half of a calibration split that a seed's predictions are judged on.

        Runs of before there were halves predicted the whole split.
        """
        chosen = halve(self.one.values(), seed)[1]
        answers = {id: answer for id, answer in self.answers.items() if self.one[id] in chosen}
        return replace(self, answers=answers)


def check_answers(path: Path, predictions: Sequence[Prediction], questions: SplitQuestions) -> None:
    """Check that predictions answer each question once, and no other.

    Raises:
        ValueError: Naming the file and the first row or question that does not fit.
    """
    where, counts = f"{questions.task}, {questions.split}", Counter(row.id for row in predictions)
    for row in predictions:
        if (row.task, row.split) != (questions.task, questions.split):
            raise ValueError(
                f"{path}: row {row.id!r} is of {row.task}, {row.split}, not of {where}"
            )
        if row.id not in questions.answers:
            raise ValueError(f"{path}: row {row.id!r} answers no question of {where}")
        if counts[row.id] > 1:
            raise ValueError(f"{path}: row {row.id!r} comes {counts[row.id]} times")
        if row.answer != questions.answers[row.id]:
            raise ValueError(
                f"{path}: row {row.id!r} has the answer {row.answer!r}, the question "
                f"{questions.answers[row.id]!r}"
            )
    if len(predictions) != len(questions.answers):
        missing = next(id for id in questions.answers if id not in counts)
        raise ValueError(
            f"{path}: {len(predictions)} rows for the {len(questions.answers)} questions of "
            f"{where}, the first that is missing {missing!r}"
        )


def _parquet_rows(path: Path) -> list[Any]:
    from cogcalib.parquet import read_table

    rows: list[Any] = read_table(path).to_pylist(maps_as_pydicts="strict")
    for row in rows:
        confidence = row.get("confidence")
        if isinstance(confidence, dict):  # a struct names every definition in every row
            row["confidence"] = {name: x for name, x in confidence.items() if x is not None}
    return rows


def _checked(row: Any) -> Prediction:
    """The row as a prediction.

    Raises:
        ValueError: Naming the key, what was allowed and what came.
    """
    if not isinstance(row, Mapping):
        raise ValueError(
            f"must be an object with the keys {', '.join(_NAMES)}, got {cut(str(row))}"
        )
    if row.keys() != _NAMES:
        keys = f"the keys are {', '.join(_NAMES)}"
        unknown = sorted(row.keys() - _NAMES)
        slips = [name for name in row if did_you_mean(str(name), _OWN, likeness=NEAR)]
        if not row.keys() & _OWN and not slips:
            there = cut(", ".join(map(str, row)) or "none")
            raise ValueError(f"not a prediction as cogcalib score writes it; {keys}, got {there}")
        if unknown:
            meant = did_you_mean(unknown[0], _NAMES - row.keys())
            raise ValueError(hint_first(f"unknown key {unknown[0]!r}", meant, keys))
        missing = [repr(name) for name in _NAMES if name not in row]
        keys = "key" if len(missing) == 1 else "keys"
        raise ValueError(f"{keys} {', '.join(missing)} {'is' if keys == 'key' else 'are'} missing")
    for name, (kind, fits, what) in _RULES.items():
        value = row[name]
        # A string or a truth value, as most are, is told by its type alone.
        if type(value) is not kind and not (fits and fits(value)):
            raise ValueError(f"{name} must be {what}, got {cut(repr(value))}")
    logprobs = row["option_logprobs"]
    prediction = Prediction(
        id=row["id"],
        # Of a million rows each says the same: kept once.
        task=intern(row["task"]),
        split=intern(row["split"]),
        answer=intern(row["answer"]),
        prediction=intern(row["prediction"]),
        correct=row["correct"],
        nll=row["nll"],
        confidence={intern(name): value for name, value in row["confidence"].items()},
        option_logprobs=None if logprobs is None else tuple(logprobs),
        model=intern(row["model"]),
        run=intern(row["run"]),
    )
    _check_agreement(prediction)
    return prediction


def _check_agreement(row: Prediction) -> None:
    """Raise where a row contradicts itself or has no confidence that anything here reads.

    Raises:
        ValueError: Naming the key.
    """
    if row.confidence.keys().isdisjoint(_DEFINITIONS):
        raise ValueError(
            f"confidence must have at least one of {', '.join(_DEFINITIONS)}, "
            f"got {sorted(row.confidence)}"
        )
    if row.prediction == row.answer != "" and not row.correct:
        raise ValueError(f"correct is false, but prediction and answer are both {row.answer!r}")
    choice = row.option_logprobs is not None or not row.confidence.keys().isdisjoint(
        MULTIPLE_CHOICE
    )
    if choice and row.prediction != row.answer and row.correct:
        raise ValueError(
            f"correct is true, but the prediction is {row.prediction!r} and the answer "
            f"{row.answer!r}"
        )


def _is_number(value: Any) -> bool:
    # Nearly all are floats, of which nan alone is not equal to itself.
    return value == value if type(value) is float else is_number(value)


def _is_confidence(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(_is_number(fraction) and 0 <= fraction <= 1 for fraction in value.values())


def _are_logprobs(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, (list, tuple)):
        return False
    return all(_is_number(each) and each <= 1e-06 for each in value)


_NAMES = dict.fromkeys(field.name for field in fields(Prediction)).keys()
_OWN = dict.fromkeys(("prediction", "correct", "confidence")).keys()
"""Keys one of which a prediction has, and a question does not."""
_DEFINITIONS = (*MULTIPLE_CHOICE, *OPEN_ENDED)
_RULES: dict[str, tuple[type | None, Callable[[Any], bool] | None, str]] = {
    **dict.fromkeys(_NAMES, (str, None, "a string")),
    "id": (
        None,
        lambda value: isinstance(value, str) and value != "",
        "a string that is not empty",
    ),
    "correct": (bool, None, "true or false"),
    "nll": (None, lambda value: _is_number(value) and value >= 0, "a number of nats, 0 or more"),
    "confidence": (None, _is_confidence, "an object of definition -> fraction in [0, 1]"),
    "option_logprobs": (None, _are_logprobs, "a list of log-probabilities (0 or less), or null"),
}
"""Key -> the type that fits as it is, what else fits, and what to call it."""

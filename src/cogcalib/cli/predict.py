"""The verb ``predict``: answers with a confidence, from questions in a file, a pipe or typed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cogcalib.cli.console import check_new, endpoint_errors, progress_bar, screen, shown
from cogcalib.cli.options import add_access, read_fields
from cogcalib.records import InputError, input_errors, replacing

if TYPE_CHECKING:
    from cogcalib.deployment import Answer, Calibration, Predictor
    from cogcalib.deployment.opened import FoundModel
    from cogcalib.deployment.question_files import QuestionRow

HELP = "answer questions with a calibrated confidence, or abstain"

LATE = "questions"
"""May stand behind options, too; before Python 3.13 argparse finds it missing at the first one."""
MOST_ROWS = 100
"""Rows of the table on the screen."""
WIDEST = 60
"""Characters of a question on the screen."""

Pair = tuple["QuestionRow", "Answer"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of an adapter or a model with its calibration.json, or a hub id",
    )
    parser.add_argument(
        "questions",
        nargs="?",
        metavar="QUESTIONS",
        help="a .jsonl, .csv or .parquet file, one question typed, or - (or nothing) for a pipe",
    )
    parser.add_argument("--jsonl", action="store_true", help="print a JSON object per answer")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the JSON objects to a new file instead"
    )
    parser.add_argument(
        "--target-error",
        type=float,
        metavar="X",
        help="obey the recorded rule with this target (0.05) instead of the one in force",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="DIR", help="folder of another calibration.json"
    )
    add_access(parser)


def execute(options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """Open the model, answer, print or write; returns the answers where ``--json`` wants them.

    Without it none is kept: there may be any number.
    """
    from cogcalib.deployment.access import ModelAccess

    with input_errors():
        check_new("--output", options.output)
        if options.questions is None and sys.stdin.isatty():
            raise InputError("there is no question: name a file, type one, or pipe some in")
        _check_there(options.questions)
        access = ModelAccess(**read_fields(options, ModelAccess))
    from cogcalib.deployment.predictor import open_predictor

    asked = Asking(options)
    kept: list[dict[str, Any]] | None = None if options.json is None else []
    try:
        with endpoint_errors(), input_errors():
            predictor = open_predictor(options.model, access, options.calibration, asked.check)
            calibration = predictor.obeying(options.target_error)
            answered = _keeping(asked.answered(predictor), kept)
            if options.output is not None:
                _write(options.output, answered, calibration)
            elif options.jsonl:
                _print_lines(answered)
            else:
                _print_table(answered, calibration)
    except BrokenPipeError as error:  # whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from error
    return kept


def _check_there(words: str | None) -> None:
    """Raise InputError for a file that is missing, before torch is loaded."""
    from cogcalib.deployment.question_files import is_file_name

    if words is not None and is_file_name(words) and not Path(words).is_file():
        raise InputError(f"{words}: no such data file")


def _keeping(pairs: Iterable[Pair], kept: list[dict[str, Any]] | None) -> Iterator[Pair]:
    """The same pairs, the record of each kept as it passes."""
    for row, answer in pairs:
        if kept is not None:
            kept.append(_record(row, answer))
        yield row, answer


class Asking:
    """The questions of a command: of a file or typed, checked before the model is loaded, or piped.

    Args:
        options: Of the command.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.words, self.target = options.questions, options.target_error
        self.piped = self.words in (None, "-")
        self.hidden = options.jsonl and sys.stdout.isatty()
        self.total = 0

    def check(self, calibration: Calibration, found: FoundModel) -> None:
        """Check every question that is there already.

        Raises:
            InputError: Naming the row of one that cannot be asked.
        """
        from cogcalib.deployment.inputs import to_questions
        from cogcalib.deployment.predictor import obeying
        from cogcalib.deployment.raw_answers import check_room

        obeying(calibration, self.target)
        if self.piped:
            return
        positions, answers = found.positions(), calibration.answers
        for rows in self._there(calibration):
            with _placed(rows):
                asked = to_questions([row.value for row in rows], found.tokenizer, answers)
                check_room(asked, positions, answers.max_new_tokens)
            self.total += len(rows)
        if not self.total:
            raise InputError(f"{self.words}: there is no row")

    def answered(self, predictor: Predictor) -> Iterator[Pair]:
        """Each question and its answer, in order, as they come."""
        from cogcalib.deployment.question_files import arriving_rows

        if self.piped:
            worded = predictor.calibration.answers.preset is not None
            for rows in arriving_rows(sys.stdin.fileno(), worded=worded):
                yield from _ask(predictor, rows, self.target)
            return
        with _progress(self.hidden) as told:
            done = 0
            for rows in self._there(predictor.calibration):
                yield from _ask(predictor, rows, self.target)
                done += len(rows)
                told(done, self.total)

    def _there(self, calibration: Calibration) -> Iterator[list[QuestionRow]]:
        from cogcalib.deployment.predictor import CHUNK
        from cogcalib.deployment.question_files import (
            is_file_name,
            read_question_file,
            typed_question,
        )

        if is_file_name(self.words):
            coming = read_question_file(Path(self.words))
            while part := list(islice(coming, CHUNK)):
                yield part
        else:
            yield [typed_question(self.words, worded=calibration.answers.preset is not None)]


def _ask(predictor: Predictor, rows: Sequence[QuestionRow], target: float | None) -> Iterator[Pair]:
    with _placed(rows):
        answers = predictor.predict([row.value for row in rows], target_error=target)
    yield from zip(rows, answers, strict=True)


@contextmanager
def _placed(rows: Sequence[QuestionRow]) -> Iterator[None]:
    """Around work on rows: what is refused is named by its place."""
    from cogcalib.deployment.inputs import RefusedInput

    try:
        yield
    except RefusedInput as error:
        raise InputError(f"{rows[error.index].place}: {error.problem}") from error


@contextmanager
def _progress(hidden: bool) -> Iterator[Any]:
    """A bar, unless it would run through what is printed meanwhile."""
    if hidden:
        yield lambda done, total: None
        return
    with progress_bar("predict") as told:
        yield told


def _record(row: QuestionRow, answer: Answer) -> dict[str, Any]:
    return {"id": row.id, **asdict(answer)}


def _line(row: QuestionRow, answer: Answer, *, ascii_only: bool = False) -> str:
    return json.dumps(_record(row, answer), ensure_ascii=ascii_only) + "\n"


def _write(path: Path, pairs: Iterable[Pair], calibration: Calibration) -> None:
    counted = Counted(calibration)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row, answer in pairs:
            file.write(_line(row, answer))
            counted.add(answer)
        file.flush()
        check_new("--output", path)
    print(shown(f"{counted}\nAnswers: {path}"))


def _print_lines(pairs: Iterable[Pair]) -> None:
    out: IO[str] = sys.stdout
    terminal = out.isatty()  # what a model says must not move its cursor
    last = None
    for row, answer in pairs:
        out.write(_line(row, answer, ascii_only=terminal))
        if row is not last:
            out.flush()
        last = row


class Counted:
    """How many answers there were, and how many of them abstained, in a line."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration, self.answers, self.abstained, self.total = calibration, 0, 0, 0.0

    def add(self, answer: Answer) -> None:
        """Count one."""
        self.answers += 1
        self.abstained += answer.abstain
        self.total += answer.confidence

    def __str__(self) -> str:
        mean = 100 * self.total / max(1, self.answers)
        many = f"{self.answers:,} answer{'s' * (self.answers != 1)}, mean confidence {mean:.1f} %"
        return f"{many}; {_rule_line(self.calibration, self.abstained)}"


def _rule_line(calibration: Calibration, abstained: int) -> str:
    rules, fitted = calibration.rules, calibration.map
    read = "as the model has it" if fitted is None else f"by {fitted.method}, n = {fitted.n:,}"
    if not rules:
        return f"confidence {read}; no rule to abstain by (`cogcalib guard` makes one)"
    rule = rules[0]
    target = f"an error of at most {100 * rule.target_error:g} %"
    if rule.threshold is None:
        return f"confidence {read}; all abstain, for {target} could not be promised: {rule.reason}"
    return (
        f"confidence {read}; abstained from {abstained:,}, below {100 * rule.threshold:.1f} %, for "
        f"{target} among the answered (delta {100 * rule.delta:g} %)"
    )


def _print_table(pairs: Iterable[Pair], calibration: Calibration) -> None:
    from rich.table import Table
    from rich.text import Text

    from cogcalib.harness.terminal_tables import show_table

    counted = Counted(calibration)
    table = Table("id", "question", "answer")
    for name in ("confidence %", "raw %"):
        table.add_column(name, justify="right")
    table.add_column("next best")
    asked: list[str] = []
    cells: list[tuple[str, ...]] = []
    for row, answer in pairs:
        counted.add(answer)
        if counted.answers > MOST_ROWS:
            continue
        said = answer.answer.strip()
        said = f"abstains ({said})" if answer.abstain else said
        others = [each for each in answer.alternatives if each.answer != answer.answer][:2]
        asked.append(_asked(row.value))
        rest = (
            said,
            f"{100 * answer.confidence:.1f}",
            f"{100 * answer.raw_confidence:.1f}",
            ", ".join(f"{each.answer.strip()} {100 * each.probability:.1f}" for each in others),
        )
        cells.append((str(row.id), *rest))
    for question, (id, *beside) in zip(_short(asked), cells, strict=True):
        table.add_row(*(Text(shown(cell)) for cell in (id, question, *beside)))
    show_table(table, screen())
    if counted.answers > MOST_ROWS:
        print(f"These are the first {MOST_ROWS}; --jsonl prints all, --output writes them.")
    print(shown(str(counted)))


def _asked(value: Any) -> str:
    """The question of an input, for the screen."""
    if isinstance(value, str):
        return value
    text = next((value[key] for key in ("question", "prompt", "messages") if value.get(key)), "")
    return text if isinstance(text, str) else str(text[-1].get("content"))


def _short(texts: Sequence[str]) -> list[str]:
    """Questions that are at most `WIDEST`, without the words with which all begin if some are not.

    What is left of them tells them apart.
    """
    lines = [" ".join(text.split()) for text in texts]
    if len(lines) > 1 and max(map(len, lines)) > WIDEST:
        words = [line.split() for line in lines]
        columns = zip(*(each[:-1] for each in words), strict=False)
        same = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
        lines = [" ".join(["...", *each[same:]]) for each in words] if same else lines
    return [line if len(line) <= WIDEST else line[: WIDEST - 3] + "..." for line in lines]

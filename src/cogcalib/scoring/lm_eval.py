"""Predictions read from what lm-evaluation-harness writes with ``--log_samples``.

The harness (format as of 0.4.13) writes one ``samples_<task>_<date>.jsonl`` per task, a row per
document and filter. The log-likelihoods of a multiple-choice row give its ``options`` confidence,
so that every metric and report here works on a model that was scored there.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cogcalib.jsonl import json_lines
from cogcalib.records import Prediction

_FILE_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.+-]+)\.jsonl")

Row = Mapping[str, Any]


def is_samples(path: Path | str) -> bool:
    """Whether a file is one of ``--log_samples``, judged by the keys of its first row.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as lines:
        first = next(lines, "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and {"doc_id", "filtered_resps"} <= row.keys()


def read_samples(
    path: Path | str,
    *,
    task: str | None = None,
    split: str = "test",
    model: str | None = None,
    run: str | None = None,
    filter: str | None = None,
) -> list[Prediction]:
    """The predictions in a ``--log_samples`` file.

    Multiple choice: options are lettered A, B, C ... in the order of the requests. Prediction is
    the most likely option, as in the harness' ``acc`` (not ``acc_norm``, which divides by length);
    ``options`` confidence is its share, p_k / sum_j p_j over the options' likelihoods, and `nll`
    that of the correct one. Of a task with ``acc_mutual_info`` the conditional likelihoods count.

    Generation (``generate_until``): right where ``exact_match`` is 1. The harness keeps no
    probabilities of generated text, so that these rows have no confidence and a `nll` of nan:
    their accuracy can be had, their calibration cannot.

    Args:
        path: The file.
        task: Name of the task; from the file's name if None.
        split: The split that was scored, of which the harness keeps no record.
        model: Name of the model; that of the file's folder if None, as the harness lays it out.
        run: Name of the run; the date in the file's name if None.
        filter: Which filter's rows to read, where the file has those of several.

    Returns:
        One prediction per document, `id` its ``doc_id``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming file, row and key, if a row is not of this format, its correct option
            cannot be told or disagrees with ``acc``, or a document comes twice.
    """
    path = Path(path)
    name = _FILE_NAME.fullmatch(path.name)
    if name is None and task is None:
        raise ValueError(
            f"{path}: samples of lm-evaluation-harness are called samples_<task>_<date>.jsonl, "
            "which says what their task is; give the file its name back, or the argument task"
        )
    labels = {
        "task": task or (name["task"] if name else ""),
        "split": split,
        "model": model or path.resolve().parent.name,
        "run": run or (name["date"] if name else path.stem),
    }
    predictions: dict[str, Prediction] = {}
    for number, row in _select(path, filter):
        try:
            prediction = _predict(row, labels)
            if prediction.id in predictions:
                raise ValueError(f"doc_id: {prediction.id} came before")
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
        predictions[prediction.id] = prediction
    return list(predictions.values())


def _select(path: Path, filter: str | None) -> Iterator[tuple[int, Row]]:
    """Number (from 1) and content of the rows of one filter."""
    rows = list(_rows(path))
    filters = list(dict.fromkeys(str(row["filter"]) for _, row in rows))
    if not filters:
        raise ValueError(f"{path}: has no rows")
    if filter is None and len(filters) > 1:
        raise ValueError(f"{path}: filter must be chosen among {', '.join(filters)}")
    if filter is not None and filter not in filters:
        raise ValueError(f"{path}: filter must be among {', '.join(filters)}, got {filter!r}")
    return ((number, row) for number, row in rows if filter in (None, row["filter"]))


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, _, row in json_lines(path):
        required = ("doc_id", "target", "arguments", "filtered_resps", "filter")
        if not isinstance(row, dict) or any(key not in row for key in required):
            found = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise ValueError(f"{path}, row {number}: needs {', '.join(required)}, got {found}")
        yield number, row


def _predict(row: Row, labels: Mapping[str, str]) -> Prediction:
    responses = row["filtered_resps"]
    if not isinstance(responses, list) or not responses:
        raise ValueError(f"filtered_resps: must be a list of responses, got {responses!r}")
    if all(isinstance(each, str) for each in responses):
        return _generated(row, responses[0], labels)
    if len(responses) < 2:
        raise ValueError(
            "filtered_resps: one log-likelihood (output_type loglikelihood) is no choice among "
            "options"
        )
    return _multiple_choice(row, _logprobs(row, responses), labels)


def _generated(row: Row, text: str, labels: Mapping[str, str]) -> Prediction:
    return Prediction(
        id=str(row["doc_id"]),
        answer=str(row["target"]),
        prediction=text,
        correct=_score(row, "exact_match"),
        nll=math.nan,
        confidence={},
        option_logprobs=None,
        **labels,
    )


def _multiple_choice(row: Row, logprobs: Sequence[float], labels: Mapping[str, str]) -> Prediction:
    top = max(logprobs)
    # The first of equals, as numpy's arg max that the harness uses.
    chosen = logprobs.index(top)
    correct = _score(row, "acc") if "acc" in row else None
    gold = _gold(row, len(logprobs), chosen, correct)
    if correct not in (None, chosen == gold):
        raise ValueError(
            f"acc: is {row['acc']}, but option {_letter(chosen)} is the most likely and target "
            f"{row['target']!r} is {_letter(gold)}"
        )
    total = math.fsum(math.exp(each - top) for each in logprobs)
    return Prediction(
        id=str(row["doc_id"]),
        answer=_letter(gold),
        prediction=_letter(chosen),
        correct=chosen == gold,
        nll=top - logprobs[gold] + math.log(total),
        confidence={"options": 1.0 / total},
        option_logprobs=tuple(logprobs),
        **labels,
    )


def _logprobs(row: Row, responses: Sequence[Any]) -> list[float]:
    """Log-likelihood of each option, from pairs of log-likelihood and "is greedy", as strings."""
    if "acc_mutual_info" in row:  # a second half without the question
        responses = responses[: len(responses) // 2]
    values = []
    for number, pair in enumerate(responses):
        try:
            value, _ = pair
            values.append(float(value))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"filtered_resps[{number}]: must be [log-likelihood, is greedy], got {pair!r}"
            ) from error
        if not values[-1] <= 0.0:
            raise ValueError(f"filtered_resps[{number}]: must be at most 0, got {value}")
    if max(values) == -math.inf:
        raise ValueError("filtered_resps: every option has a log-likelihood of -inf")
    return values


def _gold(row: Row, options: int, chosen: int, correct: bool | None) -> int:
    """Index of the correct option. ``target`` holds it as an index or as the option's text."""
    contexts, texts = zip(*_arguments(row, options), strict=True)
    if len(set(texts)) == 1 and len(set(contexts)) > 1:
        # The options stand in the contexts (WinoGrande): ``target`` is what follows each of them.
        if correct:
            return chosen
        if correct is False and options == 2:
            return 1 - chosen
        raise ValueError(
            f"target: does not tell which context is correct, nor does acc, {row.get('acc')!r}"
        )
    # The harness turns digits into an index before it looks for the text.
    target, choices = str(row["target"]).strip(), [text.strip() for text in texts]
    index = _literal(target)
    if isinstance(index, list):
        if len(index) != 1:
            raise ValueError(f"target: must be one correct option, got {target!r}")
        index = index[0]
    if index is not None and 0 <= index < options:
        return index
    if target in choices:
        return choices.index(target)
    raise ValueError(
        f"target: must be an index below {options} or one of the options {choices}, got {target!r}"
    )


def _arguments(row: Row, options: int) -> list[tuple[str, str]]:
    """Context and continuation of each option's request."""
    pairs = []
    for number in range(options):
        key = f"gen_args_{number}"
        try:
            request = row["arguments"][key]
            pairs.append((str(request["arg_0"]), str(request["arg_1"])))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"arguments: needs {key} with arg_0 and arg_1 for each of {options} options"
            ) from error
    return pairs


def _literal(target: str) -> int | list[int] | None:
    """A target that is an integer or a list of them, as the harness writes it; otherwise None."""
    if re.fullmatch(r"-?\d+", target):
        return int(target)
    if re.fullmatch(r"\[-?\d+(, -?\d+)*\]", target):
        return [int(each) for each in target[1:-1].split(",")]
    return None


def _score(row: Row, key: str) -> bool:
    value = row.get(key)
    if value not in (0, 1):
        raise ValueError(f"{key}: must be 0 or 1, got {value!r}")
    return bool(value)


def _letter(index: int) -> str:
    return string.ascii_uppercase[index] if index < 26 else str(index + 1)

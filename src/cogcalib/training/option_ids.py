"""Options as text: the token of each, where an example's answer begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset

from cogcalib.modeling.continuations import last_line
from cogcalib.training.collator import OPTION_IDS
from cogcalib.training.supervision import Unit, competing_start
from cogcalib.training.text import touch

OPTIONS = "options"

T = TypeVar("T")
Row = Mapping[str, Any]
Pair = tuple[int, str]
"""Number of an example, and one of its options."""


def resolve_options(
    dataset: Dataset,
    tokenised: Dataset,
    tokenise: Callable[[Dataset], Dataset],
    name: str,
    unit: Unit,
    *,
    by_line: bool = True,
) -> Dataset:
    """Turn the column ``options`` (completion strings such as " A", " B") into ``option_ids``.

    Each option is put in the answer's place and tokenised as the answer itself is, so that merges
    across the boundary and chat templates are the model's own: behind the last line of its prompt,
    which many examples share, or with the whole example where that line does not show how the
    example goes on.

    Args:
        dataset: The examples as text.
        tokenised: The same examples, tokenised by `tokenise`.
        tokenise: Turns text into ``input_ids`` and ``labels``.
        name: Of the data set, for the error.
        unit: What is judged as one; the options belong to an example's last unit.
        by_line: False where `tokenise` makes other text of an example than prompt and completion.

    Raises:
        ValueError: Naming the example whose option is not one token, the first supervised
            one of its last unit, or that has too few options.
    """
    _check_texts(dataset, name)
    rows = list(dataset.remove_columns(OPTIONS))
    pairs = [(i, option) for i, options in enumerate(dataset[OPTIONS]) for option in options or ()]
    originals = list(tokenised.select_columns(["input_ids", "labels"])) if pairs else []
    found = {
        (i, option): _differing_token(originals[i], originals[i]["input_ids"], unit)
        for i, option in pairs
        if _answered(rows[i], option) == rows[i]
    }
    if by_line:
        absent = [pair for pair in pairs if found.get(pair) is None]
        found |= _behind_last_lines(rows, originals, absent, tokenise, unit)
    absent = [pair for pair in pairs if found.get(pair) is None]
    if absent:
        variants = tokenise(Dataset.from_list([_answered(rows[i], option) for i, option in absent]))
        for (index, option), variant in zip(absent, variants["input_ids"], strict=True):
            found[index, option] = _differing_token(originals[index], variant, unit)
            if found[index, option] is None:
                raise ValueError(
                    f"{name} data set, example {index}: option {option!r} must be one token, the "
                    f"first supervised one of the {unit}, when it stands in the answer's place, "
                    "and be written as the answer is, its leading space included. Of options that "
                    "are several tokens ask for letters: options [' A', ' B'], their texts in the "
                    "prompt; or train without the column"
                )
    option_ids = [
        [found[index, option] for option in options or ()]
        for index, options in enumerate(dataset[OPTIONS])
    ]
    for index, ids in enumerate(option_ids):
        if len(set(ids)) != len(ids) or len(ids) == 1:
            raise ValueError(
                f"{name} data set, example {index}: needs two or more options that are different "
                f"tokens, got {dataset[OPTIONS][index]}{_joined(rows[index])}"
            )
    return tokenised.remove_columns(OPTIONS).add_column(OPTION_IDS, option_ids)


def shared_options(rows: Iterable[Sequence[T] | None]) -> tuple[T, ...] | None:
    """The options that all rows have, in the same order; None if they differ."""
    first: tuple[T, ...] | None = None
    for row in rows:  # not a set: what is no text is refused later, and may not be hashable
        own = tuple(row or ())
        if first is not None and own != first:
            return None
        first = own
    return first or None


def _check_texts(dataset: Dataset, name: str) -> None:
    """Raise ValueError for options that are no lists of texts, or beside tokens; an example may
    have none."""
    if "input_ids" in dataset.column_names:
        raise ValueError(
            f"{name} data set: a column {OPTIONS!r} goes with text only; drop it and give "
            f"{OPTION_IDS!r}"
        )
    if OPTION_IDS in dataset.column_names:
        raise ValueError(
            f"{name} data set: of {OPTIONS!r} and {OPTION_IDS!r} only one can say what competes; "
            "drop the other column"
        )
    for index, options in enumerate(dataset[OPTIONS]):
        if options is None:
            continue
        texts = isinstance(options, list) and all(isinstance(each, str) for each in options)
        if not texts or not all(options):
            raise ValueError(
                f"{name} data set, example {index}: {OPTIONS} must be a list of completions such "
                f"as ' A', none of them None or empty, got {options!r}"
                + "; read a list that a CSV holds as text with json.loads"
                * isinstance(options, str)
            )
    columns = [name for name in ("completion", "messages") if name in dataset.column_names]
    for column in columns[:1]:
        for index, (answer, options) in enumerate(
            zip(dataset[column], dataset[OPTIONS], strict=True)
        ):
            _check_answer(f"{name} data set, example {index}", answer, options or ())


def _check_answer(where: str, answer: Any, options: Sequence[str]) -> None:
    """Raise ValueError unless the answer is one of its options, written as it is."""
    if isinstance(answer, list) and answer and isinstance(answer[-1], Mapping):
        answer = str(answer[-1].get("content")).strip()  # the template spaces it
        options = [option.strip() for option in options]
    if not isinstance(answer, str) or not options or answer in options:
        return
    near = next((option for option in options if option.strip() == answer.strip()), None)
    if near is not None:
        raise ValueError(
            f"{where}: the completion is {answer!r} and the option {near!r}; both must be written "
            "alike, the leading space included, as ' A' behind 'Answer:'"
        )
    raise ValueError(
        f"{where}: the completion must be one of its options {list(options)}, got {answer!r}"
    )


def _joined(row: Row) -> str:
    """What to do about an answer without its space, behind an error; empty if it has one."""
    if not _is_plain(row) or not touch(row["prompt"], row["completion"]):
        return ""
    return (
        f"; the space between prompt and answer is missing, as in "
        f"{row['prompt'][-12:] + row['completion']!r}: begin completions and options with it, "
        "as ' A' and ' B'"
    )


def _behind_last_lines(
    rows: Sequence[Row],
    originals: Sequence[Row],
    pairs: Sequence[Pair],
    tokenise: Callable[[Dataset], Dataset],
    unit: Unit,
) -> dict[Pair, int | None]:
    """The options' tokens behind the last line of a prompt; None or absent: it does not show them.

    It shows them if the example's own answer has the tokens there that it has behind the whole.
    """
    lines = {i: last_line(rows[i]["prompt"]) for i, _ in pairs if _is_plain(rows[i])}
    pairs = [(i, option) for i, option in pairs if i in lines and lines[i] != rows[i]["prompt"]]
    short = {(lines[i], text) for i, option in pairs for text in (rows[i]["completion"], option)}
    if not short:
        return {}
    texts = sorted(short)
    prepared = tokenise(Dataset.from_list([{"prompt": p, "completion": c} for p, c in texts]))
    tokens = dict(zip(texts, prepared.select_columns(["input_ids", "labels"]), strict=True))
    return {
        (i, option): _differing_token(answer, tokens[lines[i], option]["input_ids"], unit)
        for i, option in pairs
        for answer in [tokens[lines[i], rows[i]["completion"]]]
        if _ends_alike(originals[i], answer, unit)
    }


def _is_plain(row: Row) -> bool:
    return isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)


def _ends_alike(original: Row, short: Row, unit: Unit) -> bool:
    """Whether two tokenised examples are equal from the token before the answer on."""
    first, there = (competing_start(each["labels"], unit) for each in (original, short))
    if first is None or there is None:
        return False
    alike: bool = original["input_ids"][first - 1 :] == short["input_ids"][there - 1 :]
    return alike and original["labels"][first:] == short["labels"][there:]


def _answered(row: Mapping[str, Any], option: str) -> dict[str, Any]:
    """The example with another answer.

    Raises:
        ValueError: If it has no answer that could be replaced.
    """
    column = "completion" if "completion" in row else "messages"
    if column not in row:
        raise ValueError(
            f"a column {OPTIONS!r} needs 'prompt' and 'completion', or 'messages', got "
            f"{sorted(row)}"
        )
    answer = row[column]
    if isinstance(answer, str):
        return {**row, column: option}
    return {**row, column: [*answer[:-1], {**answer[-1], "content": option}]}


def _differing_token(
    original: Mapping[str, Sequence[int]], variant: Sequence[int], unit: Unit
) -> int | None:
    """The first token of the variant's answer, or None if the two differ anywhere else."""
    ids, first = original["input_ids"], competing_start(original["labels"], unit)
    if first is None or len(variant) != len(ids):
        return None
    alike = list(variant[:first]) == list(ids[:first])
    alike = alike and list(variant[first + 1 :]) == list(ids[first + 1 :])
    return variant[first] if alike else None

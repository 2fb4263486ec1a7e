"""Hashes of the questions that a model was trained on, so that no held-out set repeats them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.deployment.calibration_file import ANEW
from cogcalib.records import InputError, asked_text, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "trained_on.txt"
CALIBRATED_ON = "calibrated_on.txt"
"""Those that the training looked at without learning them, or that a map was fitted to."""


def question_hashes(
    prompts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Hashes of questions: of their tokens up to where the answer begins.

    Tokens are compared as the text that they make, in the form of `asked_text`: a space at the end,
    or behind a start token, or an accent that is a character of its own, makes other tokens and no
    other question. Tokens that the tokenizer has no text for are compared as numbers.
    """
    texts = _spaced_texts(prompts, tokenizer)
    size = len(tokenizer)
    return [
        _hash(" ".join(map(str, ids)) if _LOST in text or max(ids, default=0) >= size else text)
        for ids, text in zip(prompts, texts, strict=True)
    ]


def _spaced_texts(
    prompts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """The text of each prompt, a space on either side of every special token: what it begins with
    would else stick to white space that says nothing."""
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}
    rows = [
        [list(piece) for _, piece in groupby(ids, lambda i: i if i in special else None)]
        for ids in prompts
    ]
    texts = iter(tokenizer.batch_decode([piece for row in rows for piece in row], **_AS_IT_IS))
    return [" ".join(islice(texts, len(row))) for row in rows]


_AS_IT_IS: dict[str, Any] = {"clean_up_tokenization_spaces": False}
_LOST = "\ufffd"
"""What a tokenizer shows for bytes that are no text."""


def _hash(question: str) -> str:
    return hashlib.sha256(asked_text(question).encode()).hexdigest()[:16]


def set_hash(hashes: Iterable[str]) -> str:
    """Hash of a set of questions, whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def write_seen(folder: Path, hashes: Iterable[str], name: str = FILE) -> Path:
    """Write the hashes beside a model, a line each, sorted."""
    return write_text(folder / name, "".join(f"{each}\n" for each in sorted(set(hashes))))


def read_seen(folder: Path, name: str = FILE) -> frozenset[str]:
    """The hashes that lie beside a model; none where cogcalib did not write them."""
    path = folder / name
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def carry_seen(source: Path, folder: Path) -> None:
    """Copy the hashes that lie beside one calibration to another that is made of it."""
    if source.resolve() != folder.resolve():
        for name in (FILE, CALIBRATED_ON):
            if (source / name).is_file():
                write_seen(folder, read_seen(source, name), name)


def read_proven(folder: Path, sha256: str | None, name: str = FILE) -> frozenset[str]:
    """The hashes that lie beside a model, if they are those that its calibration was made with.

    Args:
        folder: Of the model.
        sha256: Of the set, as the calibration has it; None if it has none.
        name: Of the file.

    Raises:
        InputError: If the file is gone or another one: nobody could tell which questions are new.
    """
    found = read_seen(folder, name)
    if sha256 is not None and set_hash(found) != sha256:
        raise InputError(
            f"{folder / name} is missing or was changed, so that nobody can tell which questions "
            f"the model has seen; take it from where the model was saved, or {ANEW}"
        )
    return found

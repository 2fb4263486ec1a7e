"""Answers of the base model, and its labels: asked once for every run folder of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from cogcalib.harness.remedies import damaged
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.records import Example, Prediction, ProbeRecord

Row = TypeVar("Row", ProbeRecord, Prediction)


def asked_once(
    shared: Path,
    of: Any,
    kind: type[Row],
    examples: Sequence[Example],
    ask: Callable[[list[Example]], list[Row]],
    say: Callable[[str], object],
) -> list[Row]:
    """A row for each example: those that another run left, and what `ask` gives for the rest.

    Processes that ask the same wait for each other.

    Args:
        shared: Folder of the files; their ids are hashes of whole examples.
        of: What the rows depend on besides, as JSON: the model and how it is loaded.
        kind: Of the rows.
        examples: The questions.
        ask: Rows of those that are new, in their order.
        say: Told, once, that another process is waited for.

    Raises:
        FolderError: If a file is damaged, naming it and the row.
    """
    shared.mkdir(parents=True, exist_ok=True)
    name, names = _hash(of), [_hash(asdict(example)) for example in examples]
    file = shared / f"{name}.jsonl"
    with _locked(shared / f"{name}.lock", say):
        with damaged(f"remove {file}, and the same command asks again"):
            held = {row.id: row for row in read_jsonl(file, kind)} if file.exists() else {}
        new = {key: each for key, each in zip(names, examples, strict=True) if key not in held}
        if new:
            found = zip(new, ask(list(new.values())), strict=True)
            held |= {key: replace(row, id=key) for key, row in found}
            write_jsonl(file, held.values())
    return [replace(held[key], id=each.id) for key, each in zip(names, examples, strict=True)]


@contextmanager
def _locked(path: Path, say: Callable[[str], object]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process that asks the same, which holds {path}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _hash(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Answers that runs share: a damaged file, and another process that asks the same."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from cogcalib.harness.stages.asked_once import asked_once
from cogcalib.owned_folder import FolderError
from cogcalib.records import Example, ProbeRecord

EXAMPLE = Example("a", "t", "train", "Who?", None, "Ada")


def ask(examples: list[Example]) -> list[ProbeRecord]:
    return [ProbeRecord(each.id, "known", 1.0, 0.9, 0.1) for each in examples]


def test_a_damaged_file_is_named_and_what_to_do(tmp_path: Path) -> None:
    said: list[str] = []
    asked_once(tmp_path, "model", ProbeRecord, [EXAMPLE], ask, said.append)
    (file,) = tmp_path.glob("*.jsonl")
    file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(FolderError, match=rf"remove {file}, and the same command asks again"):
        asked_once(tmp_path, "model", ProbeRecord, [EXAMPLE], ask, said.append)
    assert said == []


def test_waiting_is_said_once_with_the_lock(tmp_path: Path) -> None:
    asked_once(tmp_path, "model", ProbeRecord, [EXAMPLE], ask, print)
    (path,) = tmp_path.glob("*.jsonl")
    path = path.with_suffix(".lock")
    held, said = threading.Event(), threading.Event()
    texts: list[str] = []

    def hold() -> None:
        with FileLock(path):
            held.set()
            said.wait(60)

    def say(text: str) -> None:
        texts.append(text)
        said.set()

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    found = asked_once(tmp_path, "model", ProbeRecord, [EXAMPLE], ask, say)
    other.join()
    assert [row.id for row in found] == ["a"]
    assert texts == [f"waiting for another process that asks the same, which holds {path}"]

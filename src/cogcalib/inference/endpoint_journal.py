"""Answers already got from an endpoint, on disk: what was answered once is never asked again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from cogcalib.inference.endpoint_replies import Answer

ENDING = ".journal"
"""What a journal's name has behind that of the file it belongs to."""


class Journal:
    """An append-only file: one line that says what is scored, then one line an answer.

    Every line is flushed to the disk before the next request goes out. A last line without its end,
    as a killed process leaves it, is cut off; its request is asked again.

    Args:
        path: The file; continued if it exists, else made at the first answer.
        identity: What the answers depend on beside each request: model, task, settings.

    Raises:
        ValueError: If the file is the journal of something else, naming what differs, or none.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._identity = dict(identity)
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self._file: Any = None
        if path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    @staticmethod
    def key(request: Any) -> str:
        """Hash of a request's content."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        """The answer under `key`, None if there is none yet."""
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        with self._lock:
            if self._file is None:
                self._open()
            self._write({"key": key, **answer.to_json()})
            self._answers[key] = answer

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists() or self.path.stat().st_size == 0
        self._file = self.path.open("a", encoding="utf-8", newline="\n")
        if new:
            self._write(self._identity)

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        rows = []
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                rows.append(json.loads(line))
                if number > 1:
                    key = rows[-1].pop("key")
                    self._answers[key] = Answer.from_json(rows[-1])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{self.path}, line {number}: no journal's: {error!r}") from error
        if rows:
            self._check(rows[0])
        # Only now: nothing of a file that is no journal may be cut off.
        elif content and not content.startswith(b'{"journal"'):
            raise ValueError(f"{self.path} is no journal; remove it or choose another output")
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _check(self, found: Any) -> None:
        if not isinstance(found, dict) or "journal" not in found:
            raise ValueError(f"{self.path} is no journal; remove it or choose another output")
        for name, value in self._identity.items():
            if found.get(name) != value:
                raise ValueError(
                    f"the journal {self.path} belongs to another scoring: {name} is "
                    f"{found.get(name)!r} there and {value!r} here; finish that one, remove its "
                    "journal or choose another output"
                )

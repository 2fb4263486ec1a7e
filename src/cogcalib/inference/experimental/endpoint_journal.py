"""Answers already got from an endpoint, on disk: what was answered once is never asked again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogcalib.inference.experimental.endpoint_replies import Answer

ENDING = ".journal"
"""What a journal's name has behind that of the file it belongs to."""

FORMAT = 3
"""Of the journal; one of another number is not continued."""


class Journal:
    """A SQLite file: what is asked for, and every answer so far.

    An answer is on the disk before the next request goes out, or not at all.

    Args:
        path: The file; continued if it exists, else made at the first answer.
        identity: What the answers depend on beside each request: model, task, settings.

    Raises:
        ValueError: If the file is the journal of something else, naming what differs, or none.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._identity = {"journal": FORMAT, **identity}
        self._lock = threading.Lock()
        self._rows: sqlite3.Connection | None = None
        if path.exists():
            self._open()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows is not None:
            self._rows.close()

    @staticmethod
    def key(request: Any) -> str:
        """Hash of a request's content."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        """The answer under `key`, None if there is none yet."""
        with self._lock:
            if self._rows is None:
                return None
            query = "SELECT content FROM answers WHERE key = ?"
            found = self._rows.execute(query, (key,)).fetchone()
        return None if found is None else Answer.from_json(json.loads(found[0]))

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        with self._lock:
            if self._rows is None:
                self._open()
            assert self._rows is not None
            row = (key, json.dumps(answer.to_json()))
            self._rows.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Every statement is committed by itself. Threads take turns by the lock.
        rows = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            if rows.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                rows.execute("BEGIN")  # a file without its identity would be nobody's
                rows.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, content TEXT)")
                rows.execute("CREATE TABLE identity (content TEXT)")
                rows.execute("INSERT INTO identity VALUES (?)", (json.dumps(self._identity),))
                rows.execute("COMMIT")
            self._check(json.loads(rows.execute("SELECT content FROM identity").fetchone()[0]))
        except (sqlite3.DatabaseError, TypeError) as error:
            rows.close()
            raise ValueError(
                f"{self.path} is no journal of answers; remove it or choose another output"
            ) from error
        except ValueError:
            rows.close()
            raise
        self._rows = rows

    def _check(self, found: Mapping[str, Any]) -> None:
        for name, value in self._identity.items():
            if found.get(name) != value:
                raise ValueError(
                    f"the journal {self.path} belongs to another scoring: {name} is "
                    f"{found.get(name)!r} there and {value!r} here; finish that one, remove its "
                    "journal or choose another output"
                )

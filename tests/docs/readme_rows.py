"""Questions of the embedded world, written as README shows a row to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cogcalib import load_task
from cogcalib.modeling import render_prompt


def rows_of(split: str, start: int, stop: int) -> list[dict[str, Any]]:
    """Rows `start` to `stop` of a split, of those whose answer is one of README's two options."""
    asked = [e for e in load_task("atlas/country").splits[split] if e.answer in "AB"]
    return [
        {"prompt": render_prompt(e), "completion": f" {e.answer}", "options": [" A", " B"]}
        for e in asked[start:stop]
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")

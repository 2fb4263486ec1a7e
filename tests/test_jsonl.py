"""JSON lines by anybody: what Python's reader would take without a word is refused."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from cogcalib.artifacts import parse_json
from cogcalib.jsonl import collector_paused, json_lines, read_jsonl
from cogcalib.records import Threshold


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes more than once"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' comes more than once"),
        ('[{"b": 1, "b": 1}]', "the key 'b' comes more than once"),
        (r'{"a": "x\ud800"}', r"half a character, '\\ud800'"),
        (r'{"\uDC00": 1}', r"half a character, '\\udc00'"),
    ],
)
def test_repeated_keys_and_half_characters_are_refused(
    line: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 2: no valid JSON: {told}"):
        list(json_lines(path))


def test_whole_characters_and_equal_keys_of_different_objects_are_read() -> None:
    text = r'{"a": "\ud83d\ude00 \\ud800", "b": [{"a": 1}, {"a": 2}]}'
    assert parse_json(text) == {"a": "\U0001f600 \\ud800", "b": [{"a": 1}, {"a": 2}]}


def test_the_collector_is_on_again_after_a_row_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"cut": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="row 1: no valid Threshold"):
        read_jsonl(path, Threshold)
    assert gc.isenabled()
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()  # whoever paused it first lets it go on
    assert gc.isenabled()

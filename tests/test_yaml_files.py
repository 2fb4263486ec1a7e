"""YAML: numbers are numbers everywhere, nothing is dropped in silence, nothing blows up."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogcalib.harness.config import ConfigError, load_config, parse_config
from cogcalib.harness.reproduce import load_preset
from cogcalib.records import InputError
from cogcalib.tasks.task_file import read_definition
from cogcalib.yaml_files import DEEPEST, LARGEST, MOST_BYTES, dump_yaml, parse_yaml, read_yaml

TASK = """
name: own
description: for tests
kind: multiple-choice
source: {parts: {all: {file: rows.csv}}}
question: "{question}"
options: {texts: ["{a}", "{b}"], labels: [yes, no]}
answer: answer
splits: {test: {part: all, share: 5e-1}}
"""
PRESET = """
name: small
about: for tests
parameters: 1E5
tokens: 20
rate: {device: cpu, flops: 1e9}
config: {model: {path: atlas}, train: {learning_rate: 5e-4}}
tasks: {country: {tasks: {train: atlas/country}}}
"""
BOMB = "anchors: [&a [x, x], &b [*a, *a, *a]]\n"
TWICE = "train: {steps: 8}\ntrain: {steps: 4}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4), ("1e-3", 1e-3), ("1E5", 1e5), ("+2.5e+3", 2500.0), (".5", 0.5), ("3.", 3.0),
        ("0", 0), ("-12", -12), ("+7", 7), (str(LARGEST), LARGEST), ("-.inf", -math.inf),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("y", "y"), ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"), ("010", "010"), ("0x1F", "0x1F"), ("0o17", "0o17"),
        ("1_000", "1_000"), ("1e", "1e"), ("'5e-4'", "5e-4"), ('"true"', "true"), ("=", "="),
    ],
)  # fmt: skip
def test_a_plain_scalar_means_what_it_looks_like(text: str, value: Any) -> None:
    (found,) = parse_yaml(f"a: {text}", "here").values()
    assert (found, type(found)) == (value, type(value))


def test_a_number_is_one_in_a_run_in_a_preset_and_in_a_task(tmp_path: Path) -> None:
    assert parse_config("name: x\ntrain: {learning_rate: 5e-4}").train.learning_rate == 5e-4
    (tmp_path / "small.yaml").write_text(PRESET)
    preset = load_preset(str(tmp_path / "small.yaml"))
    assert preset.config["train"]["learning_rate"] == 5e-4
    assert (preset.parameters, preset.rate.flops) == (1e5, 1e9)
    (tmp_path / "own.yaml").write_text(TASK)
    definition = read_definition(tmp_path / "own.yaml")
    assert definition.splits["test"].share == 0.5
    assert definition.options is not None
    assert definition.options.labels == ["yes", "no"]


def test_keys_are_text() -> None:
    assert parse_yaml("{no: 1, 1: 2, 0.25: 3, true: 4}", "x") == {
        "no": 1, "1": 2, "0.25": 3, "true": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (TWICE, 2, "the key 'train' stands twice, first in line 1"),
        ("a: {b: 1, 'b': 2}", 1, "the key 'b' stands twice"),
        (BOMB, 1, "anchors are not allowed, got &a"),
        ("a: 1\nb: *a", 2, "aliases are not allowed"),
        ("a: 1\n<<: {b: 2}", 2, "merge keys are not allowed"),
        ("a: !!python/tuple [1]", 1, "tags are not allowed"),
        ("a: !mine 1", 1, "tags are not allowed, got !mine"),
        ("a: !!str 1", 1, "tags are not allowed"),
        ("? [a]\n: 1", 1, "a key must be text"),
        ("a: 1\n--- \nb: 2", 2, "a second document begins"),
        ("[" * 3000, 1, f"at most {DEEPEST} levels"),
        ("a:\n" + "- " * 3000, 2, f"at most {DEEPEST} levels"),
        ("a: 1\nb: " + "9" * 5000, 2, "must fit into 64 bits"),
        (f"a: {LARGEST + 1}", 1, "must fit into 64 bits"),
        ("a: 1e999", 1, "is too large"),
        ("a: 1\nb: c\0d", 2, r"holds the character U\+0000"),
        ('a: "\\0"', 1, "no NUL"),
        ('a: "\\ud800"', 1, "no surrogate"),
        ('a: "\\U00110000"', 1, "no valid YAML"),
        (f"%YAML 1.{'9' * 5000}\n--- a", 1, "no valid YAML"),
        ("a: 1\nb: [", 2, "no valid YAML"),
        ("a: 1\n\tb: 2", 2, "no valid YAML"),
        ("a: b: c", 1, "no valid YAML"),
    ],
)
def test_what_is_no_yaml_of_ours_is_one_error_naming_the_line(
    text: str, line: int, what: str
) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=rf"^here, line {line}: .*{what}") as caught:
        parse_yaml(text, "here")
    assert len(str(caught.value).splitlines()) == 1
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a: 1\nb: \xff\n", "line 2: no UTF-8 text"),
        ("a: 1".encode("utf-16"), "line 1: no UTF-8 text"),
        (b"a: 1\n" + b"#" * MOST_BYTES, "line 1: must hold at most 1,000,000 bytes"),
    ],
)
def test_bytes_that_are_no_text_are_told(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.yaml, {what}"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize("trick", [BOMB, TWICE, "a: " + "9" * 5000 + "\n", "a: " + "[" * 3000])
def test_every_file_of_ours_is_read_that_strictly(trick: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for read, whole in (
        (load_config, "name: x\n"),
        (read_definition, TASK),
        (lambda path: load_preset(str(path)), PRESET),
    ):
        path.write_text(f"{trick}\n{whole}", encoding="utf-8")
        with pytest.raises(InputError, match=r"x\.yaml, line \d+: "):
            read(path)
    with pytest.raises(ConfigError, match=r"-o a=.*, line 1: "):
        parse_config("name: x", ["a=" + trick.partition("\n")[0].replace("train", "&a", 1)])


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: text\r\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": 1, "b": "text"}


def test_what_ships_says_all_it_means() -> None:
    """Each file reads back the same from what we write of it."""
    found = sorted(Path(str(files("cogcalib"))).rglob("*.yaml"))
    assert len(found) > 20
    for path in found:
        values = read_yaml(path)
        assert parse_yaml(dump_yaml(values), path.name) == values


@pytest.mark.parametrize("text", ["5e-4", "1E5", "no", "true", "12:30", "2024-01-31", "~", "", "7"])
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert re.fullmatch(rf"a: (['\"]){re.escape(text)}\1\n", dump_yaml({"a": text}))


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_LIKE_NUMBERS = st.from_regex(r"[-+]?[0-9_:.]{0,4}([eE][-+]?[0-9]{1,3})?", fullmatch=True)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-LARGEST - 1, LARGEST)
    | st.floats(allow_nan=False)
    | _TEXT
    | _LIKE_NUMBERS
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(_VALUES)
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    found = parse_yaml(dump_yaml(value), "x")
    assert found == value
    assert repr(found) == repr(value), "1 is no 1.0 and no True"


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("[]{}:,-?&*!|>'\"%@`#ab1e.\n \t\\<=~\0\ud800\x85\ufeff"), max_size=30)
)
def test_no_text_ends_in_another_error(text: str) -> None:
    with suppress(InputError):
        parse_yaml(text, "x")

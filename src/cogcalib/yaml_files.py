"""YAML read strictly, and written so that it reads back the same.

The subset is that of people who write settings: mappings, lists, text, numbers, ``true`` and
``false``, ``null``. Keys are text as written. Numbers are decimal, as in YAML 1.2: ``5e-4`` and
``1E5`` are numbers; ``no``, ``on``, ``12:30``, ``010``, ``1_000`` and ``2024-01-31`` are text.
Whatever a reader could misread, or that could blow up in memory, is an error: keys given twice,
anchors, aliases, tags, merge keys, deep nesting, large files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cogcalib.records import InputError

DEEPEST = 50
"""Levels of lists and mappings inside each other."""
MOST_BYTES = 1_000_000
LARGEST = 2**63 - 1

_NULL = re.compile(r"(?:~|null|Null|NULL)?")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?"
)
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NO_NUMBER = re.compile(r"\.(?:nan|NaN|NAN)")


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Raises:
        InputError: Naming file and line of what is no UTF-8, no YAML, or more than the subset.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = content[:MOST_BYTES].decode("utf-8")
    except UnicodeDecodeError as error:
        if len(content) <= MOST_BYTES:
            line = content.count(b"\n", 0, error.start) + 1
            raise InputError(f"{path}, line {line}: no UTF-8 text, save it as UTF-8") from error
        text = ""
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}, line 1: must hold at most {MOST_BYTES:,} bytes")
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Read YAML text; see the module for what may stand in it.

    Args:
        text: The text.
        source: Of the text, for errors.

    Raises:
        InputError: Naming source and line.
    """
    if len(text) > MOST_BYTES:
        raise InputError(f"{source}, line 1: must hold at most {MOST_BYTES:,} characters")
    return _Builder(text, source).read()


def dump_yaml(value: Any) -> str:
    """Mappings, lists, text, numbers, truth values and None as YAML, mappings in their order.

    `parse_yaml` gives `value` back, tuples as lists and keys as text.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or our reader would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Line breaks of Unicode would be folded into blanks unless they are escaped.
    style = '"' if set("\x85\u2028\u2029") & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _pattern in (_FLOAT, _INTEGER):
    _Dumper.add_implicit_resolver(
        "tag:yaml.org,2002:text-like-a-number", re.compile(f"(?:{_pattern.pattern})$"), None
    )


class _Builder:
    """Builds values from the parser's events, so that no alias is ever followed."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.depth = 0
        self.line = 1
        try:
            self.parser = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            self.line = text.count("\n", 0, error.position) + 1
            raise self._error(
                f"no valid YAML: holds the character U+{error.character:04X}"
            ) from error

    def read(self) -> Any:
        self._next()  # of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        value = self._value(self._next())
        self._next()  # of the document
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise self._error("a second document begins, one is allowed")
        return value

    def _next(self) -> yaml.Event:
        try:
            event = self.parser.get_event()
        except yaml.MarkedYAMLError as error:
            if mark := error.problem_mark or error.context_mark:
                self.line = mark.line + 1
            told = ", ".join(part for part in (error.context, error.problem) if part)
            raise self._error(f"no valid YAML: {told}") from error
        except (ValueError, OverflowError) as error:
            self.line = self.parser.get_mark().line + 1
            raise self._error("no valid YAML: the number of a character or version") from error
        self.line = event.start_mark.line + 1
        self._check(event)
        return event

    def _check(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise self._error(f"aliases are not allowed, write out what *{event.anchor} stands for")
        if (anchor := getattr(event, "anchor", None)) is not None:
            raise self._error(f"anchors are not allowed, got &{anchor}")
        if (tag := getattr(event, "tag", None)) is not None:
            raise self._error(f"tags are not allowed, got {tag}")

    def _value(self, event: yaml.Event) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._error(f"at most {DEEPEST} levels of nesting are allowed")
        value = self._list() if isinstance(event, yaml.SequenceStartEvent) else self._mapping()
        self.depth -= 1
        return value

    def _list(self) -> list[Any]:
        values = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            values.append(self._value(event))
        return values

    def _mapping(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error("a key must be text, got a list or a mapping")
            key = self._text(event)
            if key == "<<" and event.style is None:
                raise self._error("merge keys are not allowed, got <<")
            if key in values:
                first = lines[key]
                raise self._error(f"the key {key!r} stands twice, first in line {first}")
            lines[key] = self.line
            values[key] = self._value(self._next())
        return values

    def _text(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise self._error("text must hold no NUL and no surrogate")
        return text

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = self._text(event)
        if event.style is not None:
            return text
        for pattern, read in _PLAIN:
            if pattern.fullmatch(text):
                return read(self, text)
        return text

    def _integer(self, text: str) -> int:
        # The length first: Python refuses thousands of digits by another error.
        if len(text) > 20 or not -LARGEST - 1 <= int(text) <= LARGEST:
            raise self._error(f"the number {text[:20]}... must fit into 64 bits")
        return int(text)

    def _float(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise self._error(f"the number {text[:20]} is too large")
        return value

    def _error(self, message: str) -> InputError:
        return InputError(f"{self.source}, line {self.line}: {message}")


_PLAIN: tuple[tuple[re.Pattern[str], Callable[[_Builder, str], Any]], ...] = (
    (_NULL, lambda _, text: None),
    (_TRUE, lambda _, text: True),
    (_FALSE, lambda _, text: False),
    (_INTEGER, _Builder._integer),
    (_FLOAT, _Builder._float),
    (_INFINITE, lambda _, text: -math.inf if text[0] == "-" else math.inf),
    (_NO_NUMBER, lambda _, text: math.nan),
)

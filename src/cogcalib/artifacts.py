"""Artifacts that commands leave to each other: whether they can be written, and what they hold."""

from __future__ import annotations

import json
import re
import tempfile
import types
from collections.abc import Callable, Mapping, Set
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from cogcalib.records import InputError

T = TypeVar("T")


def check_writable(path: Path | str) -> None:
    """Check that a file or folder can be made at `path`, before anything is computed.

    A temporary file is made in the nearest folder there is: permissions alone do not tell.

    Raises:
        InputError: Naming the path and the reason.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} cannot be written: no name holds a NUL")
    try:
        # Of a folder itself if it is there, else of what it would be made in.
        folder = path if path.is_dir() else path.absolute().parent
        while not folder.exists():
            if folder.is_symlink():
                raise InputError(f"{path} cannot be written: the link {folder} leads nowhere")
            folder = folder.parent
        # The file itself may be too long a name, or lie below a file.
        path.exists()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}; choose another output"
        ) from error


def read_json(path: Path, kind: type[T], remedy: str = "") -> T:
    """The content of a JSON file.

    Args:
        path: Of the file.
        kind: What it must hold: dict or list.
        remedy: What to do where it is damaged, for people.

    Raises:
        InputError: Naming the file.
    """
    behind = f"; {remedy}" if remedy else ""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no valid JSON: {error}{behind}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}{behind}") from error
    if not isinstance(content, kind):
        raise InputError(f"{path}: must hold {_NAMES[kind]}, got {named_kind(content)}{behind}")
    return content


def read_record(path: Path, kind: type[T], remedy: str = "") -> T:
    """A data class from a JSON file, see `read_json` and `to_record`.

    Raises:
        InputError: Naming the file.
    """
    values = read_json(path, dict, remedy)
    try:
        return to_record(kind, values)
    except ValueError as error:
        behind = f"; {remedy}" if remedy else ""
        raise InputError(f"{path}: {error}{behind}") from error


def parse_json(text: str) -> Any:
    """What JSON text says.

    Raises:
        ValueError: If it is no JSON, gives an object a key twice (Python's own reader takes the
            last), or holds half a surrogate pair, which no file could be written with.
        RecursionError: If it is too deep.
    """
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark, save it as UTF-8 without one")
    content = _READER.decode(text)
    # Nearly all text is without such an escape, and most that has some has whole pairs.
    if _HALVES.search(text):
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"half a character, {half!a}, which is no text") from error
    return content


_HALVES = re.compile(r"\\u[dD][89a-fA-F]")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {again!r} comes more than once")
    return made


# Made once: of a file of predictions every line is read by it.
_READER = json.JSONDecoder(object_pairs_hook=_without_repeats)


def to_record(kind: type[T], values: Any) -> T:
    """A data class from a mapping as JSON has it, every value of the type that its field says.

    Raises:
        ValueError: If `values` is no mapping, or misses, adds or has a wrong value in a field.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"must be an object, got {_shown(values)}")
    of: Any = kind
    known, needed = _fields(of)
    if not values.keys() <= known.keys():
        raise ValueError(f"unknown fields {sorted(set(values) - known.keys())}")
    if not needed <= values.keys():
        missing = [name for name in known if name in needed and name not in values]
        raise ValueError(f"missing fields {missing}")
    return kind(**{name: known[name](name, each) for name, each in values.items()})


Fitting = Callable[[str, Any], Any]
"""A value as a field of some name has it."""


@cache
def _fields(kind: Any) -> tuple[dict[str, Fitting], Set[str]]:
    """How the value of each field is made to fit, and the fields that must be given."""
    hints = get_type_hints(kind)
    known = {field.name: _fitting(hints[field.name]) for field in fields(kind)}
    needed = {
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }
    return known, needed


@cache
def _fitting(hint: Any) -> Fitting:
    """How a value is made to fit a type; worked out once, as files have many values of few types.

    The function it returns raises ValueError where a value is of another type.
    """
    empty, parts = False, get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        empty = type(None) in parts
        (hint,) = (each for each in parts if each is not type(None))
        parts = get_args(hint)
    origin = get_origin(hint) or hint
    is_record = hasattr(origin, "__dataclass_fields__")
    each_of = _fitting(parts[0 if origin is tuple else 1]) if origin in (tuple, Mapping) else None
    wanted = (int, float) if origin is float else origin
    alike = {parts[0]} if origin is tuple and parts else None

    def fitted(name: str, value: Any) -> Any:
        if type(value) is hint or (empty and value is None):  # as nearly all are
            return value
        if origin is tuple and each_of and isinstance(value, list):
            if set(map(type, value)) == alike:  # as nearly all are
                return tuple(value)
            return tuple([each_of(name, each) for each in value])
        if origin is Mapping and each_of and isinstance(value, dict):
            return {key: _entry(each_of, name, key, each) for key, each in value.items()}
        if is_record and isinstance(value, dict):
            return to_record(origin, value)
        fits = origin is Any or (
            isinstance(wanted, (type, tuple))
            and isinstance(value, wanted)
            and isinstance(value, bool) == (origin is bool)
        )
        if not fits or (origin is float and not is_number(value)):
            what = _NAMES.get(origin, "an object")
            raise ValueError(f"{name} must be {what}, got {_shown(value)}")
        return value

    return fitted


def _entry(fitted: Fitting, name: str, key: str, value: Any) -> Any:
    return fitted(f"{name}.{key}", value)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def named_kind(value: Any) -> str:
    """What a value of a JSON or YAML file is, in words: ``a list``, ``nothing``."""
    return _NAMES.get(type(value), type(value).__name__)


_NAMES: dict[type, str] = {
    type(None): "nothing",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    list: "a list",
    dict: "keys and values",
}


def _shown(value: Any) -> str:
    from cogcalib.suggest import cut  # not loaded with the trainer

    return cut(repr(value))

"""Command-line options made from a dataclass of settings: its names, types, defaults and help."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

METAVARS = {int: "N", float: "X", Path: "PATH"}

SHARED: Mapping[str, Any] = {
    "--data-dir": {"type": Path, "metavar": "DIR", "help": "folder of local data sets"},
    "--runs": {
        "type": Path,
        "default": Path("runs"),
        "metavar": "DIR",
        "help": "folder of run folders (runs)",
    },
    "--rule": {
        "choices": ("nll", "ece"),
        "default": "nll",
        "help": "what alphas are chosen by, at SFT's accuracy: the lowest NLL or ECE (nll)",
    },
    "-o": {
        "dest": "overrides",
        "action": "append",
        "default": [],
        "metavar": "section.key=value",
        "help": "change one value of the configuration; may be given several times",
    },
}
"""Options that several verbs have."""


def add_fields(
    parser: argparse._ActionsContainer,
    settings: type,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    values: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Add an option for each field; a field without a default is required.

    A bool is a flag, a Literal a choice, a sequence takes several words; None in a type only says
    that the option may be absent.

    Args:
        parser: A parser or a group of one.
        settings: A dataclass whose docstring says under ``Attributes`` what each field is.
        only: These fields; all if None.
        without: No option for these.
        values: Field -> what it may be, for the help; the dataclass itself refuses other values.
    """
    hints, texts = get_type_hints(settings), attribute_texts(settings)
    for field in fields(settings):
        if field.name in without or (only is not None and field.name not in only):
            continue
        option, default = _of_type(hints[field.name]), _default(field)
        if shown := (values or {}).get(field.name):
            option["metavar"] = f"{{{','.join(shown)}}}"
        option |= {"required": True} if default is MISSING else {"default": default}
        option["help"] = _help(texts.get(field.name, ""), default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", **option)


def read_fields(options: argparse.Namespace, settings: type) -> dict[str, Any]:
    """Field -> its value on the command line, for those fields that have an option."""
    return {f.name: getattr(options, f.name) for f in fields(settings) if hasattr(options, f.name)}


def add_json(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Add ``--json``, which every verb has."""
    text = "write the results to a new file; - prints them, and all else to stderr"
    parser.add_argument("--json", type=Path, metavar="FILE", help=text, **more)


def add_shared(parser: argparse.ArgumentParser, *flags: str) -> None:
    """Add some of the `SHARED` options."""
    for flag in flags:
        parser.add_argument(flag, **SHARED[flag])


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ModelAccess`, which every verb has that asks a saved model."""
    from cogcalib.deployment.access import REMOTE, ModelAccess
    from cogcalib.records import AUTO, DTYPES

    add_fields(parser, ModelAccess, without=REMOTE, values={"dtype": (AUTO, *DTYPES)})
    remote = parser.add_argument_group(
        "endpoint", "ask an OpenAI-compatible server that has the model (vLLM, SGLang, llama.cpp)"
    )
    add_fields(remote, ModelAccess, only=REMOTE)


def attribute_texts(settings: type) -> dict[str, str]:
    """Field -> what the section ``Attributes`` of the docstring says of it, in one line.

    A dataclass has its base's texts, too.
    """
    texts: dict[str, str] = {}
    for base in settings.__mro__[-2:0:-1]:
        texts |= attribute_texts(base)
    _, _, section = (inspect.cleandoc(settings.__doc__ or "")).partition("\nAttributes:\n")
    section = re.split(r"\n(?=\S)", section, maxsplit=1)[0]
    for entry in re.split(r"\n(?=    \S)", section):
        names, _, text = entry.partition(": ")
        texts |= {name.strip(): " ".join(text.split()) for name in names.split(",")}
    return texts


def _of_type(hint: Any) -> dict[str, Any]:
    """The arguments of argparse for a type."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is not None:
        return {**_of_type(get_args(hint)[0]), "nargs": "+"}
    return {"type": hint, **({"metavar": METAVARS[hint]} if hint in METAVARS else {})}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _help(text: str, default: Any) -> str:
    """The text without marks of reStructuredText, and the default behind it."""
    plain = text.replace("`", "").removesuffix(".").replace("%", "%%")
    if not plain[1:2].isupper():
        plain = plain[:1].lower() + plain[1:]
    told = default is not MISSING and default is not None and not isinstance(default, bool)
    return f"{plain} ({default})" if told and default != () else plain

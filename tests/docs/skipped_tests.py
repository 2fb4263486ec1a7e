"""Which tests are skipped where an optional library is missing: read off their files."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASK = ("importorskip", "find_spec")


def always_installed() -> set[str]:
    """Distributions that `make dev` installs, by the names of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["dev"]]
    named += [
        each for extra in re.findall(r"cogcalib\[(\w+)\]", str(named)) for each in extras[extra]
    ]
    return {re.split(r"[\[<>=~ ]", each)[0].lower().replace("-", "_") for each in named}


def needed(path: Path, test: str, parameter: str | None = None) -> set[str]:
    """Modules without which `test` is skipped, or that run of it.

    A file asks for them at its top (all its tests), within a test, or in a mark, which a test wears
    itself or gives to some of its parameters.

    Args:
        path: File of the test.
        test: Its name.
        parameter: Of the run.

    Raises:
        LookupError: If there is no such test, or no such parameter, or it depends on the parameter
            and none is given.
    """
    found: set[str] = set()
    marks: dict[str, set[str]] = {}
    listed: dict[str, tuple[set[str], set[str]]] = {}  # parameters, and what those need
    function = None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            function = node if node.name == test else function
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            modules, used = _asked_for(node), _names(node) & set(marks)
            if "importorskip" in ast.dump(node):
                found |= modules
            elif modules:
                marks[name] = modules
            elif used:
                listed[name] = (_strings(node), set().union(*(marks[mark] for mark in used)))
        elif isinstance(node, ast.Expr):
            found |= _asked_for(node)
    if function is None:
        raise LookupError(f"{path.name} has no test {test}")
    names = set().union(*map(_names, function.decorator_list))
    found |= _asked_for(function).union(*(marks[name] for name in names & set(marks)))
    for name in names & set(listed):
        parameters, modules = listed[name]
        if parameter is None:
            raise LookupError(f"{path.name}::{test} is skipped for some parameters: name one")
        found |= modules if parameter in parameters else set()
    if parameter is not None and parameter not in _strings(function).union(
        *(listed[name][0] for name in names & set(listed))
    ):
        raise LookupError(f"{path.name}::{test} has no parameter {parameter}")
    return found


def _asked_for(node: ast.AST) -> set[str]:
    """Modules whose presence is asked for in `node`."""
    return {
        str(call.args[0].value).partition(".")[0]
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ASK
        and isinstance(call.args[0], ast.Constant)
    }


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _strings(node: ast.AST) -> set[str]:
    constants = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return {value for value in constants if isinstance(value, str)}

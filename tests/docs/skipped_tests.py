"""Tests that are skipped where an optional library is missing: read off their files."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASK = ("importorskip", "find_spec")


def always_installed() -> set[str]:
    """Distributions that `make dev` installs, by the names of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["dev"]]
    for own in re.findall(r"cogcalib\[([\w,]+)\]", str(named)):
        named += [each for extra in own.split(",") for each in extras[extra]]
    return {re.split(r"[\[<>=~ ]", each)[0].lower().replace("-", "_") for each in named}


@dataclass
class Skips:
    """What a file asks for outside its tests, and how that gets to them.

    Attributes:
        always: Modules that all its tests need.
        marks: Mark -> modules.
        parameters: List of parameters -> those in it, and the modules that they need.
    """

    always: set[str] = field(default_factory=set)
    marks: dict[str, set[str]] = field(default_factory=dict)
    parameters: dict[str, tuple[set[str], set[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: ast.Module) -> Skips:
        """Read off the statements at the top of a file."""
        found = cls()
        for node in tree.body:
            modules = _asked_for(node)
            if isinstance(node, ast.Expr):
                found.always |= modules
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name, used = node.targets[0].id, _names(node) & set(found.marks)
                modules |= set().union(*(found.marks[mark] for mark in used))
                if name == "pytestmark" or "importorskip" in ast.dump(node):
                    found.always |= modules
                elif used:
                    found.parameters[name] = (_strings(node), modules)
                elif modules:
                    found.marks[name] = modules
        return found


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
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if test not in functions:
        raise LookupError(f"{path.name} has no test {test}")
    function, skips = functions[test], Skips.of(tree)
    worn = set().union(*map(_names, function.decorator_list))
    lists = [skips.parameters[name] for name in worn & set(skips.parameters)]
    if lists and parameter is None:
        raise LookupError(f"{path.name}::{test} is skipped for some parameters: name one")
    known = _strings(function).union(*(parameters for parameters, _ in lists))
    if parameter is not None and parameter not in known:
        raise LookupError(f"{path.name}::{test} has no parameter {parameter}")
    return set().union(
        skips.always,
        _asked_for(function),
        *(skips.marks[name] for name in worn & set(skips.marks)),
        *(modules for parameters, modules in lists if parameter in parameters),
    )


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

"""The house in figures: files, lines, names, imports. The limits stand in test_house.py.

    python tests/house.py                 # of this checkout
    python tests/house.py SRC/cogcalib    # of another one

Standard library only, and nothing of the package is imported, but for one figure: the modules that
importing the trainer executes, which a fresh interpreter counts.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "cogcalib"
QUESTIONS = ("What", "Which", "Who", "Whether", "When", "How")
"""Words that open a docstring which names nothing."""
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Module:
    """A source file, read and parsed.

    Attributes:
        name: Dotted, a package standing for its ``__init__``.
        path: The file.
        text: Its text.
        tree: The same, parsed.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """All its lines."""
        return len(self.text.splitlines())

    def code_lines(self) -> int:
        """Lines that hold code: no blank lines, no comments, no docstrings."""
        with self.path.open("rb") as file:
            tokens = [each for each in tokenize.tokenize(file.readline) if each.type not in NO_CODE]
        code = {row for each in tokens for row in range(each.start[0], each.end[0] + 1)}
        for node in ast.walk(self.tree):
            # A string that stands by itself documents what it stands under or behind.
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return len(code)

    def docstring(self) -> str:
        """Its own docstring, or nothing."""
        return ast.get_docstring(self.tree) or ""


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def read_modules(package: Path) -> dict[str, Module]:
    """Dotted name -> module, of every module below `package`."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, path, text, _parsed(text))
    return modules


_parsed = cache(ast.parse)


def imports_of(module: Module, modules: Iterable[str]) -> set[str]:
    """Dotted names of all that a module imports, the project's and others', wherever it does so.

    Args:
        module: The importing module.
        modules: Names of the project's modules, to tell a module of a package from a name in it.
    """
    package = module.path.name == "__init__.py"
    here = module.name if package else module.name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), here)
            members = {f"{source}.{alias.name}" for alias in node.names}
            found |= {member if member in modules else source for member in members}
        elif isinstance(node, ast.Call) and node.args:
            function, argument = node.func, node.args[0]
            called = getattr(function, "attr", getattr(function, "id", None))
            if called in {"import_module", "__import__"} and isinstance(argument, ast.Constant):
                found.add(resolve_name(str(argument.value), here))
    return found


def import_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Module -> the project's modules that it imports."""
    return {
        name: {each for each in imports_of(module, modules) if each in modules and each != name}
        for name, module in modules.items()
    }


def find_cycles(modules: Mapping[str, Module]) -> list[str]:
    """``a imports b imports a``: the first cycle, if there is one."""
    try:
        TopologicalSorter(import_graph(modules)).prepare()
    except CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def library_to_harness(modules: Mapping[str, Module]) -> list[str]:
    """``a -> b`` for every import of the harness or the command line by the library."""
    return [
        f"{name} -> {target}"
        for name, targets in import_graph(modules).items()
        for target in sorted(targets)
        if in_library(name) and in_harness(target)
    ]


def in_harness(name: str) -> bool:
    """Whether a module belongs to configured runs and papers."""
    return name.split(".")[1:2] == ["harness"]


def in_library(name: str) -> bool:
    """Whether a module belongs to a room of the library, not to what stands on the harness."""
    above = ([], ["harness"], ["cli"], ["pipeline"], ["__main__"])
    return name.split(".")[1:2] not in above


def functions(modules: Mapping[str, Module]) -> list[tuple[int, str]]:
    """(lines, ``module.function``) of every function, the longest first; decorators count."""
    found = []
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, FUNCTIONS):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                found.append(((node.end_lineno or first) - first + 1, f"{module.name}.{node.name}"))
    return sorted(found, reverse=True)


def reused(names: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Name -> where it stands, for names that stand in more than one place."""
    places = defaultdict(list)
    for name, place in names:
        places[name].append(place)
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def reused_basenames(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    """File name -> modules, for those used more than once; ``__init__`` apart."""
    stems = ((module.path.stem, module.name) for module in modules.values())
    return reused(pair for pair in stems if pair[0] != "__init__")


def reused_classes(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    """Class name -> modules, for those defined more than once."""
    return reused(
        (node.name.lstrip("_"), module.name)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    )


def imported_once(modules: Mapping[str, Module]) -> tuple[int, int]:
    """Files that exactly one other imports, and all files, packages' ``__init__`` apart.

    A name that a package passes on counts for the module which imports it, not for the package.
    """
    importers: dict[str, set[str]] = defaultdict(set)
    for name, targets in import_graph(modules).items():
        for target in targets:
            importers[target].add(name)
    plain = [name for name, each in modules.items() if each.path.stem != "__init__"]
    return sum(len(importers[name]) == 1 for name in plain), len(plain)


def unnamed(modules: Mapping[str, Module]) -> list[str]:
    """Modules whose docstring opens with a question word."""
    return [
        name
        for name, module in modules.items()
        if module.docstring().split(maxsplit=1)[:1] and module.docstring().split()[0] in QUESTIONS
    ]


TRAINER = "from cogcalib.training import CogCalibTrainer, fit"


def executed(package: Path, statement: str = TRAINER) -> list[str]:
    """The project's modules that a fresh interpreter executes for a statement.

    Raises:
        RuntimeError: If it fails.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(package.parent)!r}); {statement}; "
        f"print(*(name for name in sys.modules if name.split('.')[0] == {package.name!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{statement} failed: {done.stderr}")
    return done.stdout.split()


def report(package: Path) -> Iterator[str]:
    """Lines: every figure, with the names behind it."""
    modules = read_modules(package)
    files = sorted((module.lines, module.name) for module in modules.values())
    once, plain = imported_once(modules)
    asked = unnamed(modules)
    yield f"files                          {len(files)}"
    yield f"lines                          {sum(lines for lines, _ in files):,}"
    yield f"  of code                      {sum(m.code_lines() for m in modules.values()):,}"
    yield f"median file                    {median(lines for lines, _ in files):g} lines"
    yield f"longest file                   {files[-1][0]} lines, {files[-1][1]}"
    longest, where = functions(modules)[0]
    yield f"longest function               {longest} lines, {where}"
    yield f"files that one other imports   {once} of {plain}"
    for title, found in (
        ("reused basenames", reused_basenames(modules)),
        ("reused class names", reused_classes(modules)),
    ):
        yield f"{title:<30} {len(found)}, by {sum(map(len, found.values()))}"
        yield from (f"  {name}: {', '.join(places)}" for name, places in found.items())
    yield f"modules behind the trainer     {len(executed(package))}"
    for title, lines in (
        ("imports library -> harness", library_to_harness(modules)),
        ("import cycles", find_cycles(modules)),
        ("docstrings that ask", asked),
    ):
        yield f"{title:<30} {len(lines)}"
        yield from (f"  {each}" for each in lines)


if __name__ == "__main__":
    print("\n".join(report(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PACKAGE)))

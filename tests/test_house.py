"""The limits of the house, and proof that the figures of `house.py` are what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import house
import pytest

LONGEST_FILE, LONGEST_FUNCTION = 350, 70
REUSED_BASENAMES, REUSED_CLASSES = 6, 4
MODULES_OF_TRAINING = 60

Build = Callable[[dict[str, str]], Path]


@pytest.fixture(scope="module")
def modules() -> dict[str, house.Module]:
    return house.read_modules(house.PACKAGE)


def test_files_fit_one_idea(modules: dict[str, house.Module]) -> None:
    long = {name: each.lines for name, each in modules.items() if each.lines > LONGEST_FILE}
    assert long == {}


def test_functions_fit_one_screen(modules: dict[str, house.Module]) -> None:
    assert [each for each in house.functions(modules) if each[0] > LONGEST_FUNCTION] == []


def test_names_tell_things_apart(modules: dict[str, house.Module]) -> None:
    files, classes = house.reused_basenames(modules), house.reused_classes(modules)
    assert len(files) <= REUSED_BASENAMES, files
    assert len(classes) <= REUSED_CLASSES, classes


def test_docstrings_name_a_thing(modules: dict[str, house.Module]) -> None:
    assert house.unnamed(modules) == []


def test_training_stands_on_little() -> None:
    found = house.executed(house.PACKAGE)
    assert "cogcalib.training.trainer" in found
    assert len(found) <= MODULES_OF_TRAINING, sorted(found)


def test_contributing_shows_every_room(modules: dict[str, house.Module]) -> None:
    """The tree under "The house" has a line for each room, and no line for another."""
    root = house.PACKAGE.parents[1]
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.partition("## The house")[2].partition("```text\n")[2].partition("```")[0]
    shown = re.findall(r"^ +([\w/.]+?)/?  ", tree, re.MULTILINE)
    files = {path.name for path in house.PACKAGE.glob("*.py")} - {"__main__.py"}
    rooms = {path.parent.name for path in house.PACKAGE.glob("*/__init__.py")} - {"harness"}
    harness = {f"harness/{path.stem}" for path in (house.PACKAGE / "harness").glob("[!_]*.py")}
    harness |= {
        f"harness/{path.parent.name}" for path in house.PACKAGE.glob("harness/*/__init__.py")
    }
    assert sorted(shown) == sorted({*files, *rooms, *harness})


def test_figures_of_a_small_house(write_package: Build) -> None:
    package = write_package(
        {
            "records.py": '"""What travels."""\n\nA = 1  # one\n\nB = """two\nlines"""\n"""B."""\n',
            "losses/gate.py": "class Gate:\n    pass\n",
            "training/gate.py": "from cogcalib.losses.gate import Gate\n\nclass _Gate(Gate): ...\n",
            "training/__init__.py": "@property\ndef f():\n    import cogcalib.records\n\n    1\n",
        }
    )
    modules = house.read_modules(package)
    assert modules["cogcalib.records"].lines == 7
    assert modules["cogcalib.records"].code_lines() == 3
    assert house.unnamed(modules) == ["cogcalib.records"]
    assert house.reused_basenames(modules) == {
        "gate": ["cogcalib.losses.gate", "cogcalib.training.gate"]
    }
    assert list(house.reused_classes(modules)) == ["Gate"]
    assert house.functions(modules) == [(5, "cogcalib.training.f")]
    assert house.imported_once(modules) == (2, 3)
    assert house.executed(package, "import cogcalib.training.gate") == [
        "cogcalib",
        "cogcalib.training",
        "cogcalib.losses",
        "cogcalib.losses.gate",
        "cogcalib.training.gate",
    ]
    assert "longest function               5 lines, cogcalib.training.f" in house.report(package)

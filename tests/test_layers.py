"""The direction of the imports, read from the code itself: downward only.

Every import counts, wherever it stands: inside a function, under TYPE_CHECKING, relative, or
through `import_module` with a fixed name. The last tests prove that the checks can fail.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "cogcalib"

LAYERS = {
    "records": 0,
    "owned_folder": 0,
    "provenance": 0,
    "losses": 0,
    "metrics": 0,
    "posthoc": 0,
    "tasks": 1,
    "modeling": 1,
    "inference": 2,
    "knowledge": 3,
    "scoring": 3,
    "training": 4,
    "baselines": 4,
    "atlas": 4,
    "harness": 5,
    "harness.config": 5,
    "harness.progress": 5,
    "harness.run_folder": 6,
    "harness.selection": 6,
    "harness.report": 7,
    "harness.stages": 8,
    "harness.tuning": 9,
    "harness.reproduce": 10,
    "pipeline": 11,
    "__init__": 12,
    "cli": 12,
    "__main__": 13,
}
LIBRARY = [room for room, layer in LAYERS.items() if layer < LAYERS["harness"]]

# Rooms of one layer that may import each other all the same: (importing room, imported room).
EXCEPTIONS = {
    # SliCK and the probe ask a model questions and judge its answers: that is what scoring does.
    ("knowledge", "scoring"),
}

# What the numerics may stand on besides the standard library: whoever computes a metric or a loss
# needs no hub, no tokenizer and no trainer.
NUMERICS = {"numpy", "scipy", "torch"}


def find_modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below `package`, a package standing for its __init__."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def find_imports(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Dotted names of all that the module imports, the project's and others'."""
    here = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def room_of(name: str) -> str:
    """The part of the package a dotted name of it belongs to."""
    parts = name.split(".")
    if parts[1:2] == ["harness"]:
        return ".".join(parts[1:3])
    return parts[1] if len(parts) > 1 else "__init__"


def check_direction(package: Path) -> Iterator[str]:
    """One line for each room missing in the table and each import that does not point downward."""
    modules = find_modules(package)
    for name, path in modules.items():
        room = room_of(name)
        if room not in LAYERS:
            yield f"{name}: room {room} has no layer"
            continue
        for target in sorted(find_imports(name, path, modules)):
            if target.split(".")[0] != package.name:
                continue
            other = room_of(target)
            if other not in LAYERS:
                yield f"{name} imports {target}: room {other} has no layer"
            elif other in {room, "records"} or (room, other) in EXCEPTIONS:
                continue
            elif LAYERS[other] >= LAYERS[room]:
                yield f"{name} ({LAYERS[room]}) imports {target} ({LAYERS[other]})"


def check_lowest_layer(package: Path) -> Iterator[str]:
    """One line for each import with which layer 0 leaves the numerics or records the library."""
    modules = find_modules(package)
    for name, path in modules.items():
        room = room_of(name)
        if LAYERS.get(room) != 0:
            continue
        allowed = sys.stdlib_module_names | (set() if room == "records" else NUMERICS)
        for target in sorted(find_imports(name, path, modules)):
            top = target.split(".")[0]
            # Where in the project layer 0 may look is for check_direction to say.
            if top != package.name and top not in allowed:
                yield f"{name} imports {target}"


def check_cycles(package: Path) -> Iterator[str]:
    """The first cycle of modules that import each other, if there is one."""
    modules = find_modules(package)
    graph = {
        name: {
            target
            for target in find_imports(name, path, modules)
            if target in modules and target != name
        }
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " imports ".join(reversed(error.args[1]))


@pytest.mark.parametrize("check", [check_direction, check_lowest_layer, check_cycles])
def test_package_keeps_its_layers(check):
    assert len(find_modules(PACKAGE)) > len(LAYERS) // 2, "the check looks at the wrong folder"
    assert list(check(PACKAGE)) == []


def test_exceptions_are_between_rooms_of_one_layer():
    for room, other in EXCEPTIONS:
        assert LAYERS[room] == LAYERS[other]
        assert (other, room) not in EXCEPTIONS


def test_lowest_layer_loads_no_transformers():
    rooms = [room for room, layer in LAYERS.items() if layer == 0]
    imports = "; ".join(f"import cogcalib.{room}" for room in rooms)
    run_python(
        f"import sys; {imports}; "
        "loaded = sorted({'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules)); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )


def test_import_is_light():
    run_python("import sys, cogcalib; sys.exit('torch' in sys.modules)")
    cost = best_time("import cogcalib") - best_time("pass")
    assert cost < 0.3, f"import cogcalib takes {cost:.2f} s"


def run_python(code: str) -> float:
    """Seconds a fresh interpreter takes to run `code`."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return seconds


def best_time(code: str) -> float:
    return min(run_python(code) for _ in range(3))


@pytest.fixture
def build(tmp_path):
    """Write a package `cogcalib` from file -> source, an empty __init__ in each folder."""

    def write(files: dict[str, str]) -> Path:
        package = tmp_path / "cogcalib"
        for name, source in files.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        for folder in [package, *(path.parent for path in package.rglob("*.py"))]:
            (folder / "__init__.py").touch()
        return package

    return write


def test_checks_pass_what_is_allowed(build):
    package = build(
        {
            "records.py": "import json\n",
            "metrics/scores.py": "import numpy as np\nfrom cogcalib.records import Prediction\n",
            "metrics/__init__.py": "from .scores import brier_score\n",
            "scoring/choice.py": "from cogcalib import metrics\n",
            "knowledge/probe.py": "import transformers\nimport cogcalib.scoring.choice\n",
            "__init__.py": "def f():\n    from cogcalib.knowledge import probe\n",
        }
    )
    for check in (check_direction, check_lowest_layer, check_cycles):
        assert list(check(package)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import cogcalib.training.trainer",
        "from cogcalib.training import trainer",
        "from cogcalib.training.trainer import CogCalibTrainer",
        "from cogcalib import training",
        "from ..training import trainer",
        "from .. import training",
        "def f():\n    from cogcalib.training import trainer",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cogcalib.training.trainer",
        "import importlib\nimportlib.import_module('cogcalib.training.trainer')",
        "from importlib import import_module\nimport_module('..training', __package__)",
        "__import__('cogcalib.training')",
    ],
)
def test_upward_import_is_found_however_written(build, source):
    package = build({"metrics/scores.py": source, "training/trainer.py": ""})
    (line,) = check_direction(package)
    assert line.startswith("cogcalib.metrics.scores (0) imports cogcalib.training")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param(
            {"tasks/world.py": "from cogcalib.atlas import facts", "atlas/facts.py": ""},
            "cogcalib.tasks.world (1) imports cogcalib.atlas.facts (4)",
            id="tasks read the atlas' data file, not its code",
        ),
        pytest.param(
            {"losses/terms.py": "import cogcalib.metrics", "metrics/__init__.py": ""},
            "cogcalib.losses.terms (0) imports cogcalib.metrics (0)",
            id="rooms of one layer",
        ),
        pytest.param(
            {"scoring/choice.py": "import cogcalib.knowledge", "knowledge/__init__.py": ""},
            "cogcalib.scoring.choice (3) imports cogcalib.knowledge (3)",
            id="the exception holds one way only",
        ),
        pytest.param(
            {"harness/report/html.py": "from cogcalib import load_task"},
            "cogcalib.harness.report.html (7) imports cogcalib (12)",
            id="the public names are for users",
        ),
        pytest.param(
            {"helpers.py": ""}, "cogcalib.helpers: room helpers has no layer", id="unknown room"
        ),
        pytest.param(
            {"cli.py": "import cogcalib.plots"},
            "cogcalib.cli imports cogcalib.plots: room plots has no layer",
            id="import of an unknown room",
        ),
    ],
)
def test_wrong_direction_is_found(build, files, found):
    assert list(check_direction(build(files))) == [found]


@pytest.mark.parametrize("library", ["transformers", "trl", "peft", "datasets", "pydantic"])
def test_heavy_library_in_the_lowest_layer_is_found(build, library):
    package = build({"posthoc/platt.py": f"def fit():\n    import {library}.utils\n"})
    assert list(check_lowest_layer(package)) == [f"cogcalib.posthoc.platt imports {library}.utils"]


def test_records_beyond_the_standard_library_are_found(build):
    package = build({"records.py": "import numpy"})
    assert list(check_lowest_layer(package)) == ["cogcalib.records imports numpy"]


def test_records_importing_a_room_of_their_layer_are_found(build):
    package = build({"records.py": "import cogcalib.metrics", "metrics/__init__.py": ""})
    assert list(check_direction(package)) == ["cogcalib.records (0) imports cogcalib.metrics (0)"]


@pytest.mark.parametrize("indent", ["", "def f():\n    "], ids=["at the top", "in a function"])
def test_cycle_is_found(build, indent):
    package = build(
        {
            "metrics/a.py": "from cogcalib.metrics import b",
            "metrics/b.py": "from cogcalib.metrics.c import name",
            "metrics/c.py": f"{indent}import cogcalib.metrics.a",
        }
    )
    (cycle,) = check_cycles(package)
    assert cycle.count(" imports ") == 3
    assert {f"cogcalib.metrics.{name}" for name in "abc"} == set(cycle.split(" imports "))
    assert "cogcalib.metrics.a imports cogcalib.metrics.b" in cycle

"""The direction of the imports, read from the code itself: downward only.

Every import counts, wherever it stands: inside a function, under TYPE_CHECKING, relative, or
through `import_module` with a fixed name. The last tests prove that the checks can fail.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import house
import pytest

# From the ground up. Rooms of one layer do not import each other.
LIBRARY = (
    (
        "lazy",
        "arrays",
        "records",
        "suggest",
        "owned_folder",
        "termination",
        "provenance",
        "hub",
        "artifacts",
        "jsonl",
        "yaml_files",
        "losses",
        "metrics",
        "posthoc",
    ),
    ("tasks", "modeling", "parquet", "drawing"),
    ("inference",),
    ("knowledge", "scoring"),
    ("deployment",),
    ("training", "baselines", "atlas"),
    ("serving",),
)
HARNESS = (
    (
        "harness",
        "harness.config",
        "harness.progress",
        "harness.remedies",
        "harness.terminal_tables",
    ),
    ("harness.run_folder", "harness.selection"),
    ("harness.report",),
    ("harness.stages",),
    ("harness.tuning",),
    ("harness.reproduce",),
)
ENTRANCES = (("pipeline",), ("__init__",), ("cli",), ("__main__",))
LAYERS = {
    room: layer for layer, rooms in enumerate((*LIBRARY, *HARNESS, *ENTRANCES)) for room in rooms
}

# What the numerics may stand on besides the standard library: whoever computes a metric or a loss
# needs no hub, no tokenizer and no trainer.
NUMERICS = {"numpy", "scipy", "torch"}
# What other modules of that layer may stand on.
ALLOWED: dict[str, set[str]] = {
    "records": set(),
    "artifacts": set(),
    "jsonl": set(),
    "lazy": set(),
    "suggest": set(),
    "termination": set(),
    "hub": {"huggingface_hub"},
    "yaml_files": {"yaml"},
}
# What every room may import, those of their own layer included.
EVERYWHERE = {"arrays", "artifacts", "lazy", "records", "suggest"}
HEAVY = {"datasets", "numpy", "torch", "transformers", "trl"}

Build = Callable[[dict[str, str]], Path]


def room_of(name: str) -> str:
    """The part of the package a dotted name of it belongs to."""
    parts = name.split(".")
    if parts[1:2] == ["harness"]:
        return ".".join(parts[1:3])
    return parts[1] if len(parts) > 1 else "__init__"


def check_direction(package: Path) -> Iterator[str]:
    """One line for each room missing in the table and each import that does not point downward."""
    modules = house.read_modules(package)
    for name, module in modules.items():
        room = room_of(name)
        if room not in LAYERS:
            yield f"{name}: room {room} has no layer"
            continue
        for target in sorted(house.imports_of(module, modules)):
            if target.split(".")[0] != package.name:
                continue
            other = room_of(target)
            if other not in LAYERS:
                yield f"{name} imports {target}: room {other} has no layer"
            elif other not in {room, *EVERYWHERE} and LAYERS[other] >= LAYERS[room]:
                yield f"{name} ({LAYERS[room]}) imports {target} ({LAYERS[other]})"


def check_lowest_layer(package: Path) -> Iterator[str]:
    """One line for each import with which layer 0 leaves the numerics or records the library."""
    modules = house.read_modules(package)
    for name, module in modules.items():
        room = room_of(name)
        if LAYERS.get(room) != 0:
            continue
        allowed = sys.stdlib_module_names | ALLOWED.get(room, NUMERICS)
        for target in sorted(house.imports_of(module, modules)):
            top = target.split(".")[0]
            # Where in the project layer 0 may look is for check_direction to say.
            if top != package.name and top not in allowed:
                yield f"{name} imports {target}"


def check_library(package: Path) -> Iterator[str]:
    """One line for each import of the harness by the library."""
    yield from house.library_to_harness(house.read_modules(package))


def check_cycles(package: Path) -> Iterator[str]:
    """The first cycle of modules that import each other, if there is one."""
    yield from house.find_cycles(house.read_modules(package))


CHECKS = (check_direction, check_lowest_layer, check_library, check_cycles)


@pytest.mark.parametrize("check", CHECKS)
def test_package_keeps_its_layers(check: Callable[[Path], Iterator[str]]) -> None:
    assert len(house.read_modules(house.PACKAGE)) > len(LAYERS), "the check looks elsewhere"
    assert list(check(house.PACKAGE)) == []


def test_every_layer_is_lived_in() -> None:
    rooms = {room_of(name) for name in house.read_modules(house.PACKAGE)}
    assert set(LAYERS) - rooms == set()


def test_lowest_layer_loads_no_transformers() -> None:
    imports = "; ".join(f"import cogcalib.{room}" for room in LIBRARY[0])
    run_python(
        f"import sys; {imports}; "
        "loaded = sorted({'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules)); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )


def test_import_is_light() -> None:
    run_python(
        "import sys, cogcalib; "
        "ours = {name for name in sys.modules if name.startswith('cogcalib')}; "
        "assert ours == {'cogcalib', 'cogcalib.lazy'}, ours; "
        f"assert not {HEAVY} & set(sys.modules)"
    )


def test_trainer_loads_little_of_the_package() -> None:
    run_python(
        "import sys, cogcalib.training.trainer, cogcalib.training.fit; "
        "ours = sorted(name for name in sys.modules if name.startswith('cogcalib')); "
        "assert len(ours) <= 60, (len(ours), ours); "
        "assert not [name for name in ours if name.startswith('cogcalib.harness')]"
    )


def test_defaults_of_the_trainer_are_read_without_torch() -> None:
    run_python(f"import sys, cogcalib.training.defaults; assert not {HEAVY} & set(sys.modules)")


@pytest.mark.parametrize(
    "package",
    [
        "",
        ".deployment",
        ".inference",
        ".knowledge",
        ".modeling",
        ".posthoc",
        ".scoring",
        ".training",
    ],
)
def test_lazy_package_has_its_public_names(package: str) -> None:
    module = import_module(f"cogcalib{package}")
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), name
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_lazy_package_means_the_name_also_after_the_module_of_that_name() -> None:
    run_python(
        "import cogcalib.knowledge.probe; from cogcalib.knowledge import probe; "
        "assert callable(probe), probe"
    )


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_checks_pass_what_is_allowed(write_package: Build) -> None:
    package = write_package(
        {
            "records.py": "import json\n",
            "metrics/scores.py": "import numpy as np\nfrom cogcalib.records import Prediction\n",
            "metrics/__init__.py": "from .scores import brier_score\n",
            "scoring/answers.py": "from cogcalib import metrics\n",
            "knowledge/probe.py": "import transformers\nimport cogcalib.inference.batching\n",
            "inference/batching.py": "",
            "harness/stages/train.py": "from cogcalib.training import fit\n",
            "training/fit.py": "",
            "__init__.py": "def f():\n    from cogcalib.knowledge import probe\n",
        }
    )
    for check in CHECKS:
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
def test_upward_import_is_found_however_written(write_package: Build, source: str) -> None:
    package = write_package({"metrics/scores.py": source, "training/trainer.py": ""})
    (line,) = check_direction(package)
    assert line.startswith("cogcalib.metrics.scores (0) imports cogcalib.training")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param(
            {"tasks/world.py": "from cogcalib.atlas import facts", "atlas/facts.py": ""},
            "cogcalib.tasks.world (1) imports cogcalib.atlas.facts (5)",
            id="tasks read the atlas' data file, not its code",
        ),
        pytest.param(
            {"losses/terms.py": "import cogcalib.metrics", "metrics/__init__.py": ""},
            "cogcalib.losses.terms (0) imports cogcalib.metrics (0)",
            id="rooms of one layer",
        ),
        pytest.param(
            {"harness/report/html.py": "from cogcalib import load_task"},
            "cogcalib.harness.report.html (9) imports cogcalib (14)",
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
def test_wrong_direction_is_found(write_package: Build, files: dict[str, str], found: str) -> None:
    assert list(check_direction(write_package(files))) == [found]


@pytest.mark.parametrize("where", ["", "def f():\n    "], ids=["at the top", "in a function"])
def test_library_importing_the_harness_is_found(write_package: Build, where: str) -> None:
    package = write_package(
        {
            "training/fit.py": f"{where}from cogcalib.harness import progress",
            "harness/progress.py": "",
            "pipeline.py": "import cogcalib.harness.progress",
        }
    )
    found = ["cogcalib.training.fit -> cogcalib.harness.progress"]
    assert list(check_library(package)) == found


@pytest.mark.parametrize("library", ["transformers", "trl", "peft", "datasets", "pydantic"])
def test_heavy_library_in_the_lowest_layer_is_found(write_package: Build, library: str) -> None:
    package = write_package({"posthoc/platt.py": f"def fit():\n    import {library}.utils\n"})
    assert list(check_lowest_layer(package)) == [f"cogcalib.posthoc.platt imports {library}.utils"]


def test_records_beyond_the_standard_library_are_found(write_package: Build) -> None:
    package = write_package({"records.py": "import numpy"})
    assert list(check_lowest_layer(package)) == ["cogcalib.records imports numpy"]


def test_records_importing_a_room_of_their_layer_are_found(write_package: Build) -> None:
    package = write_package({"records.py": "import cogcalib.metrics", "metrics/__init__.py": ""})
    assert list(check_direction(package)) == ["cogcalib.records (0) imports cogcalib.metrics (0)"]


@pytest.mark.parametrize("indent", ["", "def f():\n    "], ids=["at the top", "in a function"])
def test_cycle_is_found(write_package: Build, indent: str) -> None:
    package = write_package(
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

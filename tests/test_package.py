"""The package as a whole: its public names, its metadata, its declared and pinned libraries."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cogcalib

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "cogcalib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*groups: str) -> dict[str, Requirement]:
    """Name -> requirement, of the runtime and of the extras named."""
    lines = [*PROJECT["dependencies"]]
    for group in groups:
        lines += PROJECT["optional-dependencies"][group]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in parsed if r.name != "cogcalib"}


def pins() -> dict[str, str]:
    """Name -> version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("name", cogcalib.__all__)
def test_public_name_is_there(name):
    assert getattr(cogcalib, name) is getattr(cogcalib, name)
    assert name in dir(cogcalib)


def test_type_checkers_see_the_public_names():
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.name: n.module for n in block.body for alias in n.names}
    assert seen == {name: getattr(cogcalib, name).__module__.rsplit(".", 1)[0] for name in seen}
    assert set(cogcalib.__all__) == {*seen, "__version__"}


LAZY = sorted(
    path.parent.name
    for path in SOURCE.glob("*/__init__.py")
    if "import_on_use" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("room", LAZY)
def test_a_rooms_public_names_are_those_that_type_checkers_see(room):
    package = importlib.import_module(f"cogcalib.{room}")
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.name: n.module for n in block.body for alias in n.names}
    assert set(seen) <= set(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
    for name, module in seen.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), name)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'CogCalibTrainr'"):
        _ = cogcalib.CogCalibTrainr


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, flags=re.MULTILINE)
    assert citation["version"] == cogcalib.__version__
    assert released[0] == cogcalib.__version__


def test_command_is_callable():
    module, _, function = PROJECT["scripts"]["cogcalib"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


#: What only an extra installs: import name -> extra and distribution.
OPTIONAL = {
    "laplace": ("laplace", "laplace-torch"),
    "fastapi": ("serve", "fastapi"),
    "gguf": ("gguf", "gguf"),
    "h11": ("serve", "h11"),
    "prometheus_client": ("serve", "prometheus-client"),
    "ray": ("ray", "ray"),
    "shtab": ("completion", "shtab"),
    "uvicorn": ("serve", "uvicorn"),
    "vllm": ("vllm", "vllm"),
}


def test_imported_libraries_are_declared():
    homes = packages_distributions()
    for path in SOURCE.rglob("*.py"):
        room = ("atlas",) if "atlas" in path.relative_to(SOURCE).parts else ()
        for top in top_level_imports(path) - sys.stdlib_module_names - {"cogcalib"}:
            extra, distribution = OPTIONAL.get(top, (None, None))
            declared = requirements(*room) if extra is None else requirements(extra)
            names = {distribution or ""} | {canonicalize_name(name) for name in homes.get(top, ())}
            assert names & set(declared), f"{path.name} imports {top}, declared nowhere"


def top_level_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


PINNED = requirements("atlas", "docs", "laplace", "serve", "dev")


@pytest.mark.parametrize("name", sorted(PINNED))
def test_requirement_is_pinned_within_its_bounds(name):
    requirement = PINNED[name]
    assert requirement.specifier.contains(pins()[name]), f"{requirement} against {pins()[name]}"


def test_pins_are_exact_and_fit_any_build():
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values())
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0].lower() for line in lines if not line.startswith("#")]
    assert names == sorted(set(names))


def test_rooms_are_reached_from_the_package() -> None:
    code = (
        "import cogcalib\n"
        "print(cogcalib.metrics.expected_calibration_error([1.0], [True]))\n"
        "print(cogcalib.knowledge.estimate_threshold([0.0, 1.0], [True, False]).value)\n"
        "print(cogcalib.posthoc.TemperatureScaling.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.0", "0.5", "TemperatureScaling"]

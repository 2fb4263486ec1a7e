"""A finished run with two seeds and one with a single seed, built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tab, browser, find_chromium
from page_builder import build_pages
from run_builder import build_run

from cogcalib.harness.report import Run, load_run


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "two-seeds")


@pytest.fixture(scope="session")
def run(run_dir: Path) -> Run:
    return load_run(run_dir)


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(build_run(tmp_path_factory.mktemp("runs") / "one-seed", seeds=(0,)))


@pytest.fixture(scope="session")
def tab() -> Iterator[Tab]:
    """A tab of the browser that is installed; where none is, its tests are skipped."""
    with browser(find_chromium() or "") as found:
        yield found


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind, see `build_pages`."""
    return build_pages(tmp_path_factory.mktemp("pages"))

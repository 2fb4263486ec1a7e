"""The site: each page stands in its navigation, each link leads somewhere, nothing is left out."""

from __future__ import annotations

import importlib
import importlib.util
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import cogcalib

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PUBLIC = (
    *("training", "losses", "metrics", "posthoc", "deployment", "scoring", "knowledge", "tasks"),
    *("modeling", "baselines"),
)


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name Python functions."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SITE: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def test_the_build_counts_its_warnings() -> None:
    """With ``--quiet`` mkdocs counts no warning, and ``--strict`` never fails."""
    (build,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert build.split() == ["mkdocs", "build", "--strict"]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(nav: list[Any]) -> Iterator[str]:
    """Pages in the navigation."""
    for entry in nav:
        inner = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from named(inner) if isinstance(inner, list) else [inner]


def sources(hooks: ModuleType) -> dict[str, Path]:
    """Page of the site -> the file it is made of."""
    pages = {path.relative_to(DOCS).as_posix(): path for path in DOCS.rglob("*.md")}
    notebooks = (DOCS / "notebooks").glob("*.ipynb")
    pages |= {f"notebooks/{path.stem}.md": path for path in notebooks}
    return pages | {page: ROOT / source for source, page in hooks.FROM_ROOT.items()}


def text_of(path: Path, hooks: ModuleType) -> str:
    text = path.read_text(encoding="utf-8")
    return hooks.notebook_page(json.loads(text), path.name) if path.suffix == ".ipynb" else text


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    bare = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in bare}


def test_the_navigation_names_every_page_once(hooks: ModuleType) -> None:
    assert sorted(named(SITE["nav"])) == sorted(sources(hooks))


def test_no_link_is_dead(hooks: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    pages, dead = sources(hooks), []
    texts = {page: text_of(path, hooks) for page, path in pages.items()}
    for page, text in texts.items():
        shown = hooks.relinked(text, page, SITE["extra"]["repository"])
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", shown)):
            if re.match(r"https?:|data:", target):  # of the repository's own the hook has warned
                continue
            path, _, anchor = target.partition("#")
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
            meant = beside if path else page
            there = meant in texts or (DOCS / meant).is_file()
            if not there or (anchor and anchor not in anchors(texts[meant])):
                dead.append((page, target))
    assert dead == []
    assert caplog.messages == []


def test_zensical_can_follow_the_links() -> None:
    """It builds what lies below docs/ without the hook that turns links to pages outside it."""
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)\s#]+\.md)", page.read_text(encoding="utf-8")):
            if not re.match(r"https?:", target):
                assert (page.parent / target).resolve().is_relative_to(DOCS), (page.name, target)


def test_links_lead_to_pages_or_to_the_repository(
    hooks: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    def relinked(text: str, page: str) -> str:
        return hooks.relinked(text, page, "https://repo")

    assert relinked("[a](docs/guard.md#guard)", "index.md") == "[a](guard.md#guard)"
    assert relinked("[a](../README.md#x)", "guard.md") == "[a](index.md#x)"
    assert relinked("[a](../../CHANGELOG.md)", "results/main-atlas.md") == "[a](../changelog.md)"
    assert relinked("[a](results)", "findings.md") == "[a](https://repo/tree/main/docs/results)"
    assert relinked("[a](../NOTICE)", "x.md") == "[a](https://repo/blob/main/NOTICE)"
    other = "csv-to-abstaining-model"
    assert relinked(f"[a]({other}.ipynb)", "notebooks/quickstart.md") == f"[a]({other}.md)"
    assert relinked("```\n[a](../NOTICE)\n```", "x.md") == "```\n[a](../NOTICE)\n```"
    caplog.clear()
    relinked("[a](../absent.py)", "x.md")
    assert "docs/x.md links to ../absent.py, which is not there" in caplog.text


@pytest.mark.parametrize("name", PUBLIC)
def test_the_reference_has_every_public_function_and_class(name: str) -> None:
    """Those named like the module that holds them are hidden by it, and asked for by themselves."""
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert f"::: cogcalib.{name}\n" in page
    module, folder = importlib.import_module(f"cogcalib.{name}"), ROOT / "src" / "cogcalib" / name
    hidden = [each for each in module.__all__ if (folder / f"{each}.py").is_file()]
    assert re.findall(rf"^::: cogcalib\.{name}\.(\w+)\.\1$", page, re.M) == hidden


def test_the_reference_begins_with_the_top_level_names() -> None:
    page = (DOCS / "reference" / "cogcalib.md").read_text(encoding="utf-8")
    for name in set(cogcalib.__all__) - {"__version__"}:
        assert f"::: cogcalib.{name}\n" in page or f"`{name}`" in page


def test_nothing_is_asked_of_anybody() -> None:
    theme = SITE["theme"]
    assert theme["font"] is False
    assert "repo_url" not in SITE
    assert "analytics" not in SITE["extra"]
    assert all("http" not in each for each in SITE["extra_css"])

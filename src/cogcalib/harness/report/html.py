"""The report as one HTML file: figures and style inline, nothing fetched, nothing executed."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cogcalib.harness.report.page import page_content
from cogcalib.harness.report.page_parts import Page
from cogcalib.harness.report.run_results import Run, load_run
from cogcalib.records import write_text


def write_html(run_dir: Path | str) -> Path:
    """Write ``report.html`` into a run folder, atomically, and return its path.

    Raises:
        FileNotFoundError: If the folder or a file the report cannot do without is missing.
        ValueError: If a file is malformed, naming it, or nothing was scored on a test split.
    """
    run = load_run(run_dir)
    return write_text(run.folder.page, render_html(run))


def render_html(run: Run) -> str:
    """The report of a loaded run as HTML text. Whatever comes from the run is escaped.

    Raises:
        ValueError: If nothing was scored on a test split, or a predictions file is malformed.
    """
    return render_page(page_content(run))


def render_page(page: Page) -> str:
    """A page as HTML text. Whatever text is on it is escaped."""
    environment = Environment(
        loader=PackageLoader("cogcalib.harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page=page)

"""The report as one HTML file: charts, style and a plain script inline, nothing fetched.

The page reads without its script, which sorts tables, lists the answers of a bin and filters
mistakes. Its content policy lets that script run and no other, and forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cogcalib.drawing.svg_plot import STYLE, standalone
from cogcalib.harness.report.page import page_content
from cogcalib.harness.report.page_parts import Page, even_columns, figures_aside, whole_words
from cogcalib.harness.report.run_results import Run, load_run
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import write_text


def write_html(run_dir: Path | str | RunFolder) -> Path:
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
    return render("report.html.j2", page)


def write_figures(page: Page, folder: Path) -> list[Path]:
    """Write every chart of a page as an SVG file of its own; returns their paths."""
    written = []
    for number, chart in enumerate(page.charts, start=1):
        plain = "".join(c if c.isalnum() else "-" for c in chart.name.lower())
        name = "-".join(part for part in plain.split("-") if part)[:80]
        written.append(write_text(folder / f"{number:03d}-{name}.svg", standalone(chart.svg)))
    return written


def render(template: str, page: Any) -> str:
    """A template of this package with its script and a policy that allows that script alone."""
    environment = Environment(
        loader=PackageLoader("cogcalib.harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"whole": whole_words, "columns": even_columns, "aside": figures_aside}
    source = Path(__file__).with_name("templates") / "report.js"
    script = source.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return environment.get_template(template).render(
        page=page, script=Markup(script), policy=policy, plot_style=Markup(STYLE)
    )

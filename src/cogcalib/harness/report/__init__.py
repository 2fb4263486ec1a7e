"""Show what a run found: tables for the terminal and for docs, and one self-contained HTML page.

Percent on screen, fractions everywhere else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cogcalib.harness.report.html import write_html
    from cogcalib.harness.report.metric_tables import markdown_table, metrics_table
    from cogcalib.harness.report.predictions import prediction_rows
    from cogcalib.harness.report.run_results import Run, load_run

__all__ = ["Run", "load_run", "markdown_table", "metrics_table", "prediction_rows", "write_html"]

_HOME = {
    "Run": "run_results",
    "load_run": "run_results",
    "markdown_table": "metric_tables",
    "metrics_table": "metric_tables",
    "prediction_rows": "predictions",
    "write_html": "html",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a table in the terminal should not wait for matplotlib."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

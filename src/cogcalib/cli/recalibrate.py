"""The verb ``recalibrate``: a post-hoc map of the confidence, fitted and kept beside the model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cogcalib.cli.console import endpoint_errors, progress_bar, screen, shown
from cogcalib.cli.options import add_access, read_fields
from cogcalib.records import input_errors

if TYPE_CHECKING:
    from cogcalib.deployment.calibration_file import FittedMap
    from cogcalib.deployment.recalibration import Recalibrated

HELP = "fit a temperature, Platt, isotonic or vector scaling to a saved model's confidence"

METRICS = {"accuracy": "accuracy %", "ece": "ECE %", "brier": "Brier", "nll": "NLL", "aurc": "AURC"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from cogcalib.deployment.calibration_file import METHODS

    parser.add_argument(
        "model", metavar="MODEL", help="folder of an adapter or a model, or a hub id"
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help=".jsonl, .csv or .parquet: questions with answers, none of which was trained on",
    )
    parser.add_argument(
        "--unlabelled",
        type=Path,
        metavar="FILE",
        help="questions of another task, without answers: moves the temperature halfway to the one "
        "that the base model's confidence gives there; of a model that is no adapter --base names "
        "the model it was trained from",
    )
    parser.add_argument("--method", choices=METHODS, default="temperature", help="(temperature)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for calibration.json (the model's own)"
    )
    add_access(parser)


def execute(options: argparse.Namespace) -> Any:
    """Fit, write, and show what changed; returns the map with its metrics."""
    from cogcalib.deployment.access import ModelAccess

    with input_errors():
        access = ModelAccess(**read_fields(options, ModelAccess))
    from cogcalib.deployment.recalibration import recalibrate

    with endpoint_errors(), progress_bar("recalibrate") as told:
        found = recalibrate(
            options.model,
            options.data,
            options.method,
            access,
            unlabelled=options.unlabelled,
            output=options.output,
            progress=told,
        )
    _show(found)
    return {"fitted": found.fitted, "metrics": found.metrics, "voided": found.voided,
            "folder": found.folder}  # fmt: skip


def _show(found: Recalibrated) -> None:
    from cogcalib.harness.terminal_tables import show_table

    fitted, metrics = found.fitted, found.metrics
    table = Table(title=f"{fitted.source} · n = {metrics.n:,}", title_justify="left")
    for header in ("", "before", f"after {fitted.method}"):
        table.add_column(header, justify="right" if header else "left")
    for name, title in METRICS.items():
        if name in metrics.raw:
            scale = 100 if title.endswith("%") else 1
            cells = [_cell(kind.get(name), scale) for kind in (metrics.raw, metrics.calibrated)]
            table.add_row(title, *cells)
    show_table(table, screen())
    print(
        "After: each question is judged by a map fitted to the other four fifths. "
        "In brackets 95 % bootstrap intervals."
    )
    for line in _map_lines(fitted):
        print(line)
    if found.unread and fitted.halfway:
        print(f"{fitted.halfway.source}: not read: {', '.join(found.unread)}.")
    if found.remark:
        print(found.remark)
    if found.voided:
        print(
            f"Abstention rules that are void: {found.voided}. Their thresholds were for other "
            "confidences. `cogcalib guard` finds new ones."
        )
    print(shown(f"Written: {found.folder / 'calibration.json'}"))


def _map_lines(fitted: FittedMap) -> Iterator[str]:
    """The temperature, and whether a bound and not the data fixed the map."""
    temperature = fitted.parameters.get("temperature")
    if temperature is not None:
        yield f"Temperature: {temperature:.3f}."
    if (way := fitted.halfway) is not None:
        yield (
            f"It is the geometric mean of {way.in_domain:.3f}, fitted to the answers in "
            f"{fitted.source}, and {way.to_base:.3f}, fitted without answers to the confidence of "
            f"the base model ({way.base.name}) on those {way.agreeing:,} of {way.n:,} questions of "
            f"{way.source} that both answer alike. The base's ECE on {fitted.source} is "
            f"{100 * way.base_ece:.1f} %."
        )
        yield (
            f"It is for questions like those of {way.source}. For those of {fitted.source} "
            f"{way.in_domain:.3f} is correct."
        )
    if fitted.parameters.get("at_bound"):
        yield (
            "A bound of what is tried, and not the data, fixed this map: the questions are too "
            "few, or the model's confidence says hardly anything about them."
        )


def _cell(value: Mapping[str, float] | None, scale: int) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a typographic dash is meant
    digits = 1 if scale == 100 else 3
    number, low, high = (f"{scale * value[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{number} [{low}–{high}]"  # noqa: RUF001

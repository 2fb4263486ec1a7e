"""The verb ``probe``: what a model already knows of a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.cli.console import quiet
from cogcalib.records import CHAT, PRESETS, input_errors

if TYPE_CHECKING:
    from rich.console import Console

    from cogcalib.knowledge import Probed
    from cogcalib.knowledge.probe_run import Probe

MOST_GROUPS = 30


def add_to(verbs: Any) -> None:
    """Add the verb to the command line."""
    probe = verbs.add_parser("probe", help="show what a model already knows of a data set")
    probe.add_argument("--model", required=True, help="a folder, a hub id, or atlas")
    what = probe.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", help="its name, or the path of a task file")
    what.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="own questions: .csv, .jsonl or .parquet, or a folder of such files, with the columns "
        "question and answer, and if wanted aliases, group and id",
    )
    probe.add_argument("--adapter", help="folder or hub id of a PEFT adapter on top of the model")
    probe.add_argument(
        "--mode",
        default="exact",
        metavar="{exact,sampled}",
        help="read the probability of a right answer off the model, or generate answers and count "
        "the right ones (exact); open-ended only, multiple choice is always exact",
    )
    probe.add_argument(
        "--prompts",
        type=int,
        default=10,
        metavar="N",
        help="few-shot prompts that each question is asked behind (10); without shots one",
    )
    probe.add_argument(
        "--shots",
        type=int,
        metavar="N",
        help="answered questions in each prompt (4; multiple choice: 0)",
    )
    probe.add_argument(
        "--samples", type=int, default=16, metavar="N", help="sampled answers behind a prompt (16)"
    )
    probe.add_argument(
        "--temperature",
        type=float,
        default=0.5,
        metavar="T",
        help="temperature of the sampled answers (0.5)",
    )
    probe.add_argument(
        "--top-k",
        type=int,
        default=40,
        metavar="K",
        help="likeliest tokens an answer is sampled from, 0 for all (40)",
    )
    probe.add_argument(
        "--max-new-tokens",
        type=int,
        default=32,
        metavar="N",
        help="tokens of the longest answer that is sampled, its end included (32)",
    )
    probe.add_argument("--split", default="train", help="split to probe (train)")
    probe.add_argument("--shot-split", metavar="SPLIT", help="split to draw shots from (train)")
    probe.add_argument("--limit", type=int, metavar="N", help="probe N questions of the split")
    probe.add_argument(
        "--seed", type=int, default=0, help="seed of prompts, samples and --limit (0)"
    )
    probe.add_argument("--output", type=Path, metavar="DIR", help="folder (runs/probe-MODEL-TASK)")
    probe.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    probe.add_argument(
        "--prompt",
        default=PRESETS[0],
        metavar=f"{{{','.join(PRESETS)}}}",
        help=f"how questions are worded, {CHAT} behind it for the model's chat template "
        f"({PRESETS[0]})",
    )
    probe.add_argument(
        "--dtype",
        default="float32",
        metavar="{float32,bfloat16,float16,float64}",
        help="number format of the weights (float32)",
    )
    probe.add_argument("--four-bit", action="store_true", help="weights in 4 bits (bitsandbytes)")
    probe.add_argument("--batch-size", type=int, metavar="N", help="most sequences in one pass")
    scale = probe.add_argument_group("large data sets")
    scale.add_argument(
        "--engine",
        default="local",
        metavar="{local,ray}",
        help="this process, or those of accelerate launch; or workers of Ray (local)",
    )
    scale.add_argument(
        "--worker",
        default="transformers",
        metavar="{transformers,vllm}",
        help="what the model runs in; vllm is experimental and gives no entropy (transformers)",
    )
    scale.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="workers of Ray, each with the model (one for each GPU, or 1)",
    )
    scale.add_argument(
        "--partition", type=int, default=4096, metavar="N", help="questions in a part (4096)"
    )
    probe.set_defaults(verb=_probe)


def _probe(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    quiet()
    from cogcalib.harness.report.probe_page import MOST_ROWS, write_probe_html
    from cogcalib.harness.report.probe_tables import missing_detectors, small_n
    from cogcalib.knowledge import CATEGORIES
    from cogcalib.knowledge.partitions import count_categories, draw_rows
    from cogcalib.knowledge.probe_run import probe_task
    from cogcalib.knowledge.probe_task import ProbeTask

    with Progress(console=Console(stderr=True), transient=True) as bars, input_errors():
        asked = ProbeTask(**{key: value for key, value in vars(options).items() if key != "verb"})
        bar = bars.add_task("probe", total=None)
        found = probe_task(asked, lambda done, total: bars.update(bar, completed=done, total=total))
    if not found.main:
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    page = write_probe_html(found.folder)
    counts = count_categories(found.folder)
    if counts.total() > MOST_ROWS:
        console.print(
            f"Of {counts.total():,} questions these are {MOST_ROWS:,}, drawn at random; of all: "
            + ", ".join(f"{name} {counts[name]:,}" for name in CATEGORIES)
        )
    rows = draw_rows(found.folder, MOST_ROWS)
    console.print(asking(found, options.mode, choice=rows[0].example.options is not None))
    show_probe(rows, console)
    for line in (missing_detectors(rows), small_n(counts.total()), found.repeats):
        if line:
            console.print(line)
    if found.kept:
        console.print(f"{found.kept:,} questions were there from before.")
    if found.shortened:
        console.print(f"Passages shortened to fit the model: {found.shortened}")
    # Not wrapped: a path is there to be copied.
    console.print(f"\nRows: {found.folder / 'probe.parquet'}", soft_wrap=True)
    console.print(f"Page: [bold]{page}[/bold]\n", soft_wrap=True)


def asking(found: Probe, mode: str, *, choice: bool) -> str:
    """How the questions were asked, in a line."""
    many = f"{found.prompts} prompt{'s' * (found.prompts != 1)}"
    shown = f" of {found.shots} shot{'s' * (found.shots != 1)}" if found.shots else " without shots"
    turned = ", the options in every rotation" if choice else ""
    alike = "" if found.shots else " Without shots all prompts would be alike: --prompts is 1."
    return f"Mode {mode}, {many}{shown}{turned}.{alike}"


def show_probe(rows: Probed, console: Console) -> None:
    """Print the categories, the groups and the detectors as tables."""
    from rich.table import Table

    from cogcalib.harness.report.columns import percent
    from cogcalib.harness.report.probe_tables import by_group, category_grid, detector_grid, shares
    from cogcalib.knowledge import CATEGORIES

    groups = by_group(rows)
    for grid in (category_grid(rows), detector_grid(rows)):
        table = Table(*grid.headers)
        for line in grid.rows:
            table.add_row(*(cell for cell, _ in line))
        console.print(table)
    if len(groups) > 1:
        table = Table("Group", "Questions", *CATEGORIES)
        for group, members in list(groups.items())[:MOST_GROUPS]:
            parts = (f"{percent(share)} %" for share in shares(members))
            table.add_row(group, f"{len(members):,}", *parts)
        console.print(table)
        if len(groups) > MOST_GROUPS:
            console.print(f"... and {len(groups) - MOST_GROUPS} more groups: they are on the page")

"""The command ``cogcalib``. Exit code 0: success, 1: a failure while running, 2: wrong input."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib import __version__
from cogcalib.records import InputError, input_errors

if TYPE_CHECKING:
    from cogcalib.config import Config

RUNS = Path("runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the verb; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        options.verb(options)
    except InputError as error:
        print(f"cogcalib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ncogcalib: interrupted; finished stages are kept, --resume goes on", file=sys.stderr
        )
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cogcalib",
        description="Fine-tune language models so that their confidence can be trusted.",
    )
    parser.add_argument("--version", action="version", version=f"cogcalib {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    run = verbs.add_parser("run", help="train, score and report as a configuration says")
    run.add_argument("config", type=Path, metavar="CONFIG.yaml")
    run.add_argument("--resume", action="store_true", help="go on with a run begun before")
    run.set_defaults(verb=_run)

    demo = verbs.add_parser("demo", help="the main job on the embedded model, offline, no GPU")
    demo.add_argument("--fresh", action="store_true", help="begin anew, discarding an earlier demo")
    demo.set_defaults(verb=_demo)
    for verb in (run, demo):
        verb.add_argument(
            "-o",
            dest="overrides",
            action="append",
            default=[],
            metavar="section.key=value",
            help="change one value of the configuration; may be given several times",
        )
        verb.add_argument("--runs", type=Path, default=RUNS, help="folder of run folders (runs)")

    score = verbs.add_parser("score", help="score a model on a task and show how it is calibrated")
    score.add_argument("--model", required=True, help="a folder, a hub id, or atlas")
    score.add_argument("--task", required=True, help="its name, or the path of a task file")
    score.add_argument("--adapter", help="folder or hub id of a PEFT adapter on top of the model")
    score.add_argument("--split", default="test", help="split of the task (test)")
    score.add_argument(
        "--output", type=Path, metavar="FILE", help="write the predictions: .jsonl or .parquet"
    )
    score.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    score.add_argument("--prompt", default="cogcalib", help="prompt preset (cogcalib)")
    score.add_argument(
        "--answer",
        default="letter",
        help="an option's letter, its label of several tokens, or its text (letter)",
    )
    score.add_argument("--dtype", default="float32", help="number format of the weights (float32)")
    score.add_argument("--four-bit", action="store_true", help="weights in 4 bits (bitsandbytes)")
    score.add_argument("--batch-size", type=int, metavar="N", help="most sequences in one pass")
    score.set_defaults(verb=_score)

    report = verbs.add_parser(
        "report", help="show a finished run's table and rewrite its page, or score predictions"
    )
    report.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="RUN|FILE",
        help="a run folder, or files of predictions (.jsonl, .parquet)",
    )
    report.set_defaults(verb=_report)

    tasks = verbs.add_parser("tasks", help="list the tasks and their sizes, or show one")
    tasks.set_defaults(verb=_tasks)
    show = tasks.add_subparsers(metavar="[show NAME]").add_parser(
        "show", help="a rendered example with its tokens, the supervised span marked"
    )
    show.add_argument("name", metavar="NAME", help="of a task, or the path of a task file")
    show.add_argument("--model", default="atlas", help="whose tokenizer (atlas)")
    show.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    show.add_argument("--prompt", default="cogcalib", help="prompt preset (cogcalib)")
    show.set_defaults(verb=_show_task)
    return parser


def _run(options: argparse.Namespace) -> None:
    from cogcalib.config import load_config

    _execute(load_config(options.config, options.overrides), options.runs, resume=options.resume)


def _demo(options: argparse.Namespace) -> None:
    import shutil

    from cogcalib.config import shipped_config
    from cogcalib.run_folder import CONFIG

    config = shipped_config("demo", options.overrides)
    folder = options.runs / config.name
    if options.fresh and config.name != "demo":
        raise InputError(f"--fresh discards the demo's own folder only; remove {folder} yourself")
    if options.fresh and (folder / CONFIG).is_file():
        shutil.rmtree(folder)
    _execute(config, options.runs, resume=True)


def _execute(config: Config, runs: Path, *, resume: bool) -> None:
    from rich.console import Console

    console = Console()
    console.print(
        f"\n[bold]cogcalib[/bold] {config.name}: {config.model.path}, {config.tasks.train}"
    )
    _quiet()
    from cogcalib import pipeline

    folder = pipeline.run(config, runs, console, resume=resume)
    _show(folder.path)


def _quiet() -> None:
    """Silence what would run through our own output; to be called before torch is imported."""
    # What a user set himself stays.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # The stages show progress themselves; bars of loading and mapping would run through theirs.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # Names that TRL and transformers still use for each other's sake; nothing a user can mend.
    warnings.filterwarnings("ignore", ".*(deprecated|activation_checkpointing)", FutureWarning)


def _score(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    _quiet()
    from cogcalib.scoring.task import ScoreTask, score_task

    asked = ScoreTask(**{key: value for key, value in vars(options).items() if key != "verb"})
    with Progress(console=Console(stderr=True), transient=True) as bars, input_errors():
        bar = bars.add_task("score", total=None)
        scored = score_task(
            asked, lambda done, total: bars.update(bar, completed=done, total=total)
        )
    if not scored.main:
        return
    _print_tables([scored.summary], options.split)
    if scored.f1 is not None:
        print(f"\nToken F1: {100 * scored.f1:.1f} %")
    if scored.shortened:
        print(f"\nPassages shortened to fit the model: {scored.shortened}")
    if options.output is not None:
        print(f"\nPredictions: {options.output}")


def _report(options: argparse.Namespace) -> None:
    from cogcalib.report import prediction_rows, write_html

    with input_errors():
        if len(options.paths) == 1 and options.paths[0].suffix not in (".jsonl", ".parquet"):
            write_html(options.paths[0])
            _show(options.paths[0])
            return
        rows = prediction_rows(options.paths)
    for split in dict.fromkeys(row["split"] for row in rows):
        _print_tables(rows, split)


def _print_tables(rows: Sequence[Mapping[str, Any]], split: str) -> None:
    from rich.console import Console

    from cogcalib.report import metrics_table

    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in metrics_table(rows, split=split, in_domain="") if rows else []:
        console.print()
        console.print(table)


def _show(folder: Path) -> None:
    from rich.console import Console

    from cogcalib.report import load_run, metrics_table

    # Into a file or a pipe the table goes whole, however narrow rich takes that to be.
    console, run = Console(width=None if sys.stdout.isatty() else 120), load_run(folder)
    for table in metrics_table(run.rows, in_domain=run.trained_on):
        console.print()
        console.print(table)
    # Not wrapped: a path is there to be copied.
    console.print(f"\nThe whole report: [bold]{folder / 'report.html'}[/bold]\n", soft_wrap=True)


def _tasks(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from cogcalib.tasks import summaries

    table = Table(Column("task", no_wrap=True), "question", "rows", "licence")
    for task in summaries():
        rows = ", ".join(f"{split} {number}" for split, number in task.rows.items())
        table.add_row(task.name, task.description, rows, task.licence)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _show_task(options: argparse.Namespace) -> None:
    from cogcalib.modeling import load_tokenizer
    from cogcalib.modeling.show import show_audit, show_example
    from cogcalib.tasks import load_task

    with input_errors():
        task = load_task(options.name, options.data_dir, prompt=options.prompt)
        tokenizer = load_tokenizer(options.model)
        example = next(iter(task.splits.values()))[0]
        shown = [show_example(example, tokenizer)]
        if example.options is not None:
            shown.append(show_audit(task.splits["test"], tokenizer))
    rows = ", ".join(f"{split} {len(examples)}" for split, examples in task.splits.items())
    print(f"{task.name}, version {task.version}: {task.description}")
    print(f"from {task.source}; licence: {task.licence}")
    print(f"rows: {rows}")
    for repeats in task.dropped:
        print(
            f"dropped from {repeats.split}: {repeats.questions} questions ({repeats.rows} rows) "
            f"that stand in {repeats.found_in}"
        )
    print("", *shown, sep="\n")


if __name__ == "__main__":
    sys.exit(main())

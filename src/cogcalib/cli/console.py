"""Functions that verbs share: quiet libraries, tables on the screen."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cogcalib.artifacts import check_writable
from cogcalib.records import InputError, write_json

STANDARD_OUTPUT = Path("-")
"""The file of ``--json`` that stands for the standard output."""

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cogcalib.harness.report.differences import Pair
    from cogcalib.harness.report.run_results import Run


def quiet() -> None:
    """Silence what would run through our own output; libraries read it as they are imported."""
    # What a user set himself stays.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # The stages show progress themselves; bars of loading and mapping would run through theirs.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # Names that TRL and transformers still use for each other's sake; nothing a user can mend.
    warnings.filterwarnings("ignore", ".*(deprecated|activation_checkpointing)", FutureWarning)


def settle_streams() -> None:
    """Give standard streams that are closed a place that leads nowhere, and let the others take
    every character: what they have no bytes for is spelled out."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shown(text: str) -> str:
    r"""Text with its control characters spelled out, such as ``\x1b``; line ends and tabs stay.

    What a file or a model says must not move the cursor, name the window or hide a line.
    """
    if text.isprintable():
        return text
    return "".join(repr(c)[1:-1] if _controls(c) else c for c in text)


def _controls(character: str) -> bool:
    """Whether a character moves, hides or turns round what is shown."""
    if character in "\n\t":
        return False
    return character in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A terminal on which text is shown as `shown` has it, and only our own style is style."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class PlainConsole(Console):
        """Spells out what controls a terminal."""

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else shown(text), style, control)

    return PlainConsole(stderr=stderr, width=width, emoji=False)


def refuse_launched(verb: str) -> None:
    """Raise InputError if several processes were launched together to execute a verb.

    Each of them would do all of the work, and they would write into one folder.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if not world.isdecimal():
        raise InputError(f"WORLD_SIZE must be a number of processes, got {world!r}; unset it")
    if int(world) > 1:
        raise InputError(
            f"{verb} is one process, and {world} were launched (WORLD_SIZE): start it without "
            "accelerate launch or torchrun. Several GPUs: `cogcalib reproduce --jobs`, one cell "
            "each; one training on several: a script with CogCalibTrainer"
        )


def take_one_device(verb: str) -> None:
    """Leave one GPU visible where there are several, and say which; before torch begins with any.

    A run trains on one: transformers would spread each batch over all that it sees, and the gate
    needs whole batches.

    Raises:
        InputError: As `refuse_launched`.
    """
    refuse_launched(verb)
    import torch

    count = torch.cuda.device_count()  # asks the driver, begins nothing
    if count < 2:
        return
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = named.split(",")[0].strip() if named else "0"
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen
    print(
        f"cogcalib: {count} GPUs are visible, and a run uses one: CUDA_VISIBLE_DEVICES={chosen}; "
        "set it to choose another",
        file=sys.stderr,
    )


def screen(width: int = 120) -> Console:
    """The terminal; a file or a pipe is as wide as the variable COLUMNS says, or as given.

    Args:
        width: Characters of a line in a file, where COLUMNS is no number above 0.
    """
    if sys.stdout.isatty():
        return console()
    columns = os.environ.get("COLUMNS", "")
    return console(width=(int(columns) if columns.isdecimal() else 0) or width)


@contextmanager
def endpoint_errors(kept: str = "") -> Iterator[None]:
    """Around work that may ask a server: what it fails with is one line, and exit code 1.

    Args:
        kept: What is left of the work, behind the message.
    """
    from cogcalib.inference.experimental.endpoint_client import EndpointError

    try:
        yield
    except EndpointError as error:
        print(f"cogcalib: {shown(str(error))}{kept}", file=sys.stderr)
        raise SystemExit(1) from error


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that is gone in the end; what it yields takes the done and the total."""
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def print_tables(
    rows: Sequence[Mapping[str, Any]],
    split: str,
    pairs: Sequence[Pair] = (),
    *,
    in_domain: str = "",
) -> None:
    """The rows of a split: the table everybody reads, all metrics, and paired differences.

    All metrics are of models one by one: rows of several seeds go without.
    """
    from cogcalib.harness.report import metrics_table
    from cogcalib.harness.report.detail import detail_tables
    from cogcalib.harness.report.differences import difference_tables

    _print(metrics_table(rows, split=split, in_domain=in_domain), screen())
    if all(row["seed"] is None for row in rows):
        _print(detail_tables(rows, split=split), screen())
    _print(difference_tables(pairs, split=split), screen())


def print_sentences(sentences: Iterable[str]) -> None:
    """Sentences below the tables, wrapped, a line apart."""
    from rich.markup import escape

    for sentence in sentences:
        screen().print(f"\n{escape(sentence)}", highlight=False)


@contextmanager
def results_alone(path: Path | None) -> Iterator[None]:
    """Where results go to the standard output, whatever else is printed goes to the other one."""
    if path != STANDARD_OUTPUT:
        yield
        return
    _piped.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _piped.pop()


_piped: list[TextIO] = []
"""The standard output while nothing but results may be printed to it."""


def check_new(option: str, path: Path | None) -> None:
    """Check that the file an option names can be written, before anything is computed.

    Raises:
        InputError: If something lies there already, or it cannot be written.
    """
    if path in (None, STANDARD_OUTPUT):
        return
    check_writable(path)
    if path.exists():
        raise InputError(f"{option} {path} already exists; remove it or choose another name")


def write_results(path: Path, found: Any, told: TextIO | None = None) -> None:
    """Write what a verb found as JSON, atomically: records as objects, paths as text.

    Args:
        path: The file; ``-`` is the standard output, within `results_alone`.
        found: What was found.
        told: Where its name is printed; the standard output if None.

    Raises:
        InputError: As `check_new`.
    """
    if path == STANDARD_OUTPUT:
        # In ASCII, which every terminal and pipe has bytes for, and no control character.
        print(json.dumps(_plain(found), indent=2), file=_piped[-1], flush=True)
        return
    check_new("--json", path)
    write_json(path, _plain(found))
    print(f"\nResults: {shown(str(path))}", file=told)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def show_run(run: Run, findings: Sequence[str], *, page: bool = True) -> None:
    """The tables of a finished run, where its page is if there is one, and last its verdict.

    Args:
        run: The run.
        findings: Its sentences, as of `cogcalib.harness.report.headline.headline`.
        page: Whether to say where its page is.
    """
    from rich.markup import escape

    from cogcalib.harness.report import metrics_table

    terminal = screen()
    _print(metrics_table(run.rows, in_domain=run.trained_on), terminal)
    verdict, *others = findings
    print_sentences(others)
    if page:
        # Not wrapped: a path is there to be copied.
        path = escape(str(run.folder.page))
        terminal.print(f"\nThe whole report: [bold]{path}[/bold]", soft_wrap=True)
    terminal.print(f"\n[bold]{escape(verdict)}[/bold]\n", highlight=False)


def _print(tables: Iterable[Table], terminal: Console) -> None:
    from cogcalib.harness.terminal_tables import show_table

    for table in tables:
        terminal.print()
        show_table(table, terminal)

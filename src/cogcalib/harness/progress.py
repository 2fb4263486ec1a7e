"""Progress of a run: a bar while a stage works, a line and its wall time once it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cogcalib.artifacts import read_json
from cogcalib.records import write_json

Advance = Callable[[int], None]
"""Called with the number of units of work done so far."""


class StageProgress:
    """Shows stages on a console and keeps their wall times.

    Args:
        console: Where to show them.
        path: JSON file of the wall times, carried on over interruptions.

    Attributes:
        timings: Stage -> wall seconds.
    """

    def __init__(self, console: Console, path: Path) -> None:
        self.console = console
        self.path = path
        self.named: set[str] = set()
        self.timings: dict[str, float] = (
            read_json(path, dict, "remove it: it holds times alone") if path.exists() else {}
        )

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show one stage of `total` units of work; yields how to tell its progress."""
        started = time.perf_counter()
        bar = Progress(
            TextColumn("  {task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,  # a log file gets the finished lines alone
        )
        with bar:
            task = bar.add_task(name, total=total)
            yield lambda done: bar.update(task, completed=done)
        seconds = time.perf_counter() - started
        self.took(name, seconds)
        self.console.print(f"  [green]✓[/green] {name:<34} [dim]{seconds:6.1f} s[/dim]")

    def took(self, name: str, seconds: float) -> None:
        """Note the wall time of a stage that is over."""
        self.named.add(name)
        self.timings[name] = round(seconds, 2)
        write_json(self.path, self.timings)

    def say(self, text: str) -> None:
        """Say something else for people, on a line of its own."""
        self.console.print(f"  [dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)

    def covered(self, name: str) -> None:
        """A stage was done within another: it is not said to be from before."""
        self.named.add(name)

    def skipped(self, name: str) -> None:
        """Say, once, that a stage was finished before."""
        if name in self.named:
            return
        self.named.add(name)
        self.console.print(f"  [dim]✓ {name:<34} from before[/dim]")

"""The worker process of `reproduce.workers`: reads a cell per line, answers `done` or `taken`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from rich.console import Console

from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.planned_cells import Cell
from cogcalib.harness.reproduce.workers import DONE, TAKEN, TO_MEND
from cogcalib.records import InputError, path_errors
from cogcalib.termination import EXIT_CODE, TerminatedError, raise_on_sigterm


def main() -> None:
    """Run the cells that come in; an error ends the process, and so tells the other end."""
    share, data_dir = float(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share)
    console = Console(stderr=True)
    raise_on_sigterm()
    with os.fdopen(os.dup(1), "w") as answers:
        # Whatever a library prints goes to the log, not between the answers.
        os.dup2(2, 1)
        try:
            for line in sys.stdin:
                with path_errors():
                    ours = run_cell(Cell.from_json(line), console, data_dir)
                print(DONE if ours else TAKEN, file=answers, flush=True)
        except TerminatedError:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may come again
            sys.exit(EXIT_CODE)
        except InputError as error:
            traceback.print_exc()  # for the log; the user is shown what is behind the mark
            print(f"{TO_MEND}{error}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()

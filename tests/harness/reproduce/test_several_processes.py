"""Several processes on one table: who takes which cell, and what a signal leaves."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cogcalib.harness.reproduce import (
    Cell,
    ExecutionOptions,
    Plan,
    Preset,
    Table,
    make_plan,
    reproduce,
    worker,
)
from cogcalib.harness.reproduce import workers as pool
from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.planned_cells import prepare_cells, row_cells
from cogcalib.harness.reproduce.workers import Failure, Workers
from cogcalib.records import InputError
from cogcalib.training.checkpoints import last_complete_checkpoint

TABLE = Table(name="tiny", title="Tiny", question="?", methods=("sft",), where="primary")
HOLD = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""
# Answers as a worker does, that a cell is taken for as long as the file named like it is there.
ANSWER = """#!{python}
import json, sys
from pathlib import Path
for line in sys.stdin:
    seed = json.loads(line)["cell"][2]
    print("taken" if Path("{folder}", f"taken-{{seed}}").exists() else "done", flush=True)
"""


def lay_out(preset: Preset, root: Path, seeds: int = 1) -> tuple[Plan, list[Cell]]:
    plan = make_plan(TABLE, preset, root, seeds=range(seeds), tune_seeds=[0])
    return plan, row_cells(plan.places[0], ["sft"], plan.seeds)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_cell_that_another_process_is_at_is_left_to_it(small: Preset, tmp_path: Path) -> None:
    plan, _ = lay_out(small, tmp_path)
    (cell,) = prepare_cells(plan)
    locks = tmp_path / "small" / "locks"
    locks.mkdir(parents=True)
    words = [sys.executable, "-c", HOLD, str(locks / "country.prepare.0.lock")]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert not run_cell(cell, quiet())
        assert cell.missing()
    finally:
        other.kill()  # and so can release nothing
        other.communicate()
    assert run_cell(cell, quiet())
    assert not cell.missing()


def test_taken_cells_are_come_back_to(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cells = lay_out(small, tmp_path / "runs", seeds=4)
    python = tmp_path / "python"
    python.write_text(ANSWER.format(python=sys.executable, folder=tmp_path), encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(pool, "PAUSE", 0.05)
    for seed in (0, 2):
        (tmp_path / f"taken-{seed}").touch()
    done = []

    def tell(cell: Cell, seconds: float, failure: Failure | None) -> None:
        assert failure is None
        done.append(cell.seed)
        if done == [1, 3]:
            (tmp_path / "taken-2").unlink()

    waited = []

    def wait(cell: Cell) -> None:
        waited.append(cell.seed)
        threading.Timer(0.3, (tmp_path / "taken-0").unlink).start()

    with Workers(1, tmp_path / "logs") as workers:
        assert workers.run(cells, tell, wait) == []
    assert done == [1, 3, 2, 0]
    assert waited == [0]  # once, however often it was asked for


LOGS = {
    f"Traceback\n{pool.TO_MEND}one thing\nto mend": "one thing to mend",
    'epoch 1\nTraceback (most recent call last):\n  File "a.py", line 1\n    f()\n\n'
    "OSError: no connection\nCheck yours": "OSError: no connection Check yours",
    'Traceback (most recent call last):\n  File "a"\nKeyError: 1\n\nDuring that another:\n\n'
    'Traceback (most recent call last):\n  File "b"\nValueError: 2': "ValueError: 2",
    "no traceback\nat all": "at all",
    "": "it left no word",
}


@pytest.mark.parametrize("log", LOGS)
def test_a_cell_that_fails_says_why_where_it_fails(
    log: str, small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = lay_out(small, tmp_path / "runs")
    python = tmp_path / "python"
    (tmp_path / "log").write_text(log, encoding="utf-8")
    python.write_text(f"#!/bin/sh\nread line\ncat {tmp_path}/log >&2\nexit 1\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    shown = Console(file=io.StringIO(), width=40)
    with pytest.raises(InputError, match=f"no run folder could be prepared: {LOGS[log]}"):
        reproduce(plan, ExecutionOptions(), shown)
    assert isinstance(shown.file, io.StringIO)
    *_, line = shown.file.getvalue().splitlines()  # not wrapped, however narrow the screen
    assert line.startswith("  ✗ 1/1 small/country: prepare ")
    assert line.endswith(f" s: {LOGS[log]}")


def test_a_termination_ends_all_processes_at_once(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a second to end; one after the other they would take four."""
    _, cells = lay_out(small, tmp_path / "runs", seeds=4)
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\ntrap 'sleep 1; exit 143' TERM\necho $$ >> {tmp_path}/pids\n"
        "while read line; do while :; do sleep .05; done; done\n",
        encoding="utf-8",
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    told: list[object] = []

    def interrupt() -> None:
        while not (pids := tmp_path / "pids").exists() or len(pids.read_text().split()) < 4:
            time.sleep(0.05)
        started.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    started: list[float] = []
    # A shell's job in the background has SIGINT ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt), Workers(4, tmp_path / "logs") as workers:
            workers.run(cells, lambda *each: told.append(each))
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started[0] < 3
    assert told == []
    for pid in (tmp_path / "pids").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.parametrize(
    ("jobs", "gpus", "shares"),
    [
        (1, 0, []),
        (4, 0, []),
        (2, 4, []),
        (4, 4, []),
        (3, 1, [0.3, 0.3, 0.3]),
        (3, 2, [0.45, 0.9, 0.45]),
    ],
)
def test_processes_on_one_device_share_its_memory(
    jobs: int, gpus: int, shares: list[float], tmp_path: Path
) -> None:
    assert pool.memory_shares(jobs, gpus) == pytest.approx(shares)
    crew = Workers(jobs, tmp_path, [str(number) for number in range(gpus)])
    assert [float(each.words[0]) for each in crew.workers] == pytest.approx(shares or [1] * jobs)
    seen = [each.environment.get("CUDA_VISIBLE_DEVICES") for each in crew.workers]
    if gpus:
        assert seen == [str(number % gpus) for number in range(jobs)]


def test_a_worker_takes_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", taken.append)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(worker.os, "dup2", lambda *_: None)
    monkeypatch.setattr(worker, "raise_on_sigterm", lambda: None)
    for share in ("1.0", "0.45"):
        monkeypatch.setattr(sys, "argv", ["worker", share, str(tmp_path)])
        worker.main()
    assert taken == [0.45]


def test_a_worker_says_in_a_line_what_is_to_be_mended(small: Preset, tmp_path: Path) -> None:
    plan, _ = lay_out(small, tmp_path)
    (cell,) = prepare_cells(plan)
    cell.place.path.parent.mkdir()
    cell.place.path.write_text("no folder", encoding="utf-8")
    with Workers(1, tmp_path / "logs") as workers:
        (failure,) = workers.run([cell], lambda *told: None)
    assert failure.message == f"{cell.place.path} is a file, no run folder; remove it"
    (log,) = (tmp_path / "logs").iterdir()
    assert "Traceback" in log.read_text(encoding="utf-8")


def command(preset: Preset, folder: Path, seeds: int) -> subprocess.Popen[str]:
    """`cogcalib reproduce`, as a user starts it; it tells its progress on stderr."""
    file = folder / "small.yaml"
    file.write_text(json.dumps(preset.model_dump()), encoding="utf-8")
    words = ["-m", "cogcalib", "reproduce", "main", "--model", str(file), "--seeds", str(seeds)]
    words += ["--limit-methods", "sft", "--limit-tasks", "country"]
    words += ["--runs", str(folder / "runs"), "--output", str(folder / "out")]
    return subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_commands_share_the_cells_of_a_table_and_both_write_it(
    small: Preset, tmp_path: Path
) -> None:
    plan, _ = lay_out(small, tmp_path / "runs" / "reproduce", seeds=6)
    assert run_cell(prepare_cells(plan)[0], quiet())
    commands = [command(small, tmp_path, seeds=6) for _ in range(2)]
    try:
        shown = [each.communicate(timeout=600)[1] for each in commands]
    finally:
        for each in commands:
            each.kill()
    assert [each.returncode for each in commands] == [0, 0], shown
    logs = tmp_path / "runs" / "reproduce" / "small" / "logs"
    trained = [
        len(re.findall(r"train: sft, seed \d +[\d.]+ s", log.read_text()))
        for each in commands
        for log in [logs / f"worker-{each.pid}-0.log"]
    ]
    assert sum(trained) == 6
    assert min(trained) >= 1, trained
    for kind in ("md", "json", "svg"):
        assert (tmp_path / "out" / f"main-small.{kind}").exists()
    record = json.loads((tmp_path / "out" / "main-small.json").read_text(encoding="utf-8"))
    assert record["seeds"] == list(range(6))
    assert {row["row"] for group in record["results"] for row in group["rows"]} == {"sft"}
    assert not any("seeds" in row for group in record["results"] for row in group["rows"])


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_no_process(small: Preset, tmp_path: Path) -> None:
    """The command is told to end, its worker is at a training: both end, and it goes on."""
    slow = small.config | {"train": small.config["train"] | {"steps": 4000}}
    place = tmp_path / "runs" / "reproduce" / "small" / "country"
    partial = place / "train" / "sft" / "seed-0.partial"
    told = command(small.model_copy(update={"config": slow}), tmp_path, seeds=1)
    while not partial.exists():
        assert told.poll() is None, told.communicate()
        time.sleep(0.1)
    time.sleep(2)
    told.terminate()
    _, error = told.communicate(timeout=60)
    assert told.returncode == 143, error
    assert "the same command goes on" in error
    checkpoint = last_complete_checkpoint(partial, "none")
    assert checkpoint is not None
    state = json.loads(Path(checkpoint, "trainer_state.json").read_text())
    assert 0 < state["global_step"] < 4000
    locks = list((place.parent / "locks").glob("*sft*"))
    assert locks
    (cell,) = lay_out(small, tmp_path / "runs" / "reproduce")[1]
    with pytest.raises(Exception, match="different configuration"):
        run_cell(cell, quiet())  # that is: the lock is free


def test_a_process_that_lost_its_signal_ends_with_its_input(tmp_path: Path) -> None:
    deaf = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
    deafened = pool._Worker(tmp_path / "log", {}, ())
    deafened.process = subprocess.Popen(
        [sys.executable, "-c", f"{deaf}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process = deafened.process
    assert process.stdout is not None
    process.stdout.readline()
    stopping = threading.Thread(target=deafened.stop, daemon=True)
    stopping.start()
    stopping.join(timeout=60)
    if stopping.is_alive():
        process.kill()
        pytest.fail("waits for ever")
    assert process.returncode == 0


def test_a_process_that_lost_its_signal_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "TOLD_AGAIN", 0.2)
    lost = "lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL)"
    words = f"import signal, time; signal.signal(signal.SIGTERM, {lost}); print(flush=True)"
    busy = pool._Worker(tmp_path / "log", {}, ())
    busy.process = process = subprocess.Popen(
        [sys.executable, "-c", f"{words}; [time.sleep(1) for _ in range(600)]"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    busy.stop()
    assert process.returncode == -signal.SIGTERM

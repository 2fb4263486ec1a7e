"""Standard streams that are closed, full, cut off or know few characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.records import InputError, path_errors, write_text

SHELL = "exec {python} -m cogcalib tasks {redirection}"


def listed(redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", SHELL.format(python=sys.executable, redirection=redirection)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, **environment},
    )


def test_closed_streams_lead_nowhere() -> None:
    assert listed("<&- >&-").returncode == 0
    assert listed("2>&-").returncode == 0


def test_what_the_terminal_has_no_bytes_for_is_spelled_out() -> None:
    found = listed("", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (found.returncode, found.stderr) == (0, "")
    assert "atlas/country" in found.stdout
    assert found.stdout.isascii()


def test_a_dash_prints_the_results_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert "atlas/country" in {row["name"] for row in json.loads(printed.out)}
    assert "atlas/country" in printed.err  # the table
    assert cli.main(["tasks"]) == 0
    assert "atlas/country" in capsys.readouterr().out

    assert cli.main(["tasks", "show", "atlas/capital", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "atlas/capital"
    assert cli.main(["completion", "bash", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["shell"] == "bash"


def test_whoever_has_read_enough_ends_it_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def cut_off(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("cogcalib.cli.tasks.execute", cut_off)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert cli.main(["tasks"]) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = listed(">/dev/full")
    assert found.returncode == 2
    assert found.stderr.startswith("cogcalib: the output: No space left on device")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"rows.json: No space left on device"), path_errors():
        write_text(tmp_path / "rows.json", "x")
    assert not list(tmp_path.iterdir())

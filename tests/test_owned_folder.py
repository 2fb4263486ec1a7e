"""A folder that one run owns: one process at a time, and leftovers that take nobody's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.owned_folder import CONFIG, FolderError, OwnedFolder, holding


def test_two_runs_do_not_write_into_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("name: x\nmethods: [base]\ntasks: {limit: {test: 4, calibration: 4}}\n")
    for words, name in ((["run", "--resume"], "x"), (["tune", "-o", "methods=[cols]"], "x-tune")):
        with holding(tmp_path / name):
            assert cli.main([*words, str(config), "--runs", str(tmp_path)]) == 2
            assert "another process is writing into" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_what_a_killed_process_left_of_its_first_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / f".{CONFIG}.abcd").touch()
    OwnedFolder.begin(tmp_path, "name: x")
    assert (tmp_path / CONFIG).read_text() == "name: x"
    (tmp_path / CONFIG).unlink()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FolderError, match="no run of ours"):
        OwnedFolder.begin(tmp_path, "name: x")


def test_a_process_that_died_holds_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        holding(tmp_path).__enter__()
        os._exit(1)
    os.waitpid(child, 0)
    with holding(tmp_path):
        pass


def test_names_that_lead_nowhere_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    asked = ["score", "--model", "atlas", "--task", "atlas/country", "--output"]
    assert cli.main([*asked, str(tmp_path / "link" / "rows.jsonl")]) == 2
    assert "leads nowhere" in capsys.readouterr().err
    assert cli.main([*asked, str(tmp_path / "rows\0.jsonl")]) == 2
    assert "no name holds a NUL" in capsys.readouterr().err

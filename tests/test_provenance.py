"""The state of the code, as a record of results has it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cogcalib import provenance


def test_files_that_git_does_not_track_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")

    def git(*words: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.code_state() == {"commit": None, "dirty": None}
    (tmp_path / "records.py").write_text("first")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "held-out.jsonl").write_text("mine")
    found = provenance.code_state()
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    (tmp_path / "records.py").write_text("second")
    assert provenance.code_state() == {**found, "dirty": True}

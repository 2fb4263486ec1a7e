"""Who owns a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogcalib.harness.run_folder import RunFolder
from cogcalib.owned_folder import FolderError
from cogcalib.provenance import data_manifest, versions
from cogcalib.records import Example

CONFIG = "name: x\nseeds:\n- 0\n"


def test_a_new_folder_is_taken(tmp_path: Path) -> None:
    RunFolder.begin(tmp_path / "runs" / "x", CONFIG)
    assert (tmp_path / "runs" / "x" / "config.yaml").read_text() == CONFIG


def test_the_same_configuration_goes_on_only_if_asked(tmp_path: Path) -> None:
    RunFolder.begin(tmp_path / "x", CONFIG)
    with pytest.raises(FolderError, match="--resume"):
        RunFolder.begin(tmp_path / "x", CONFIG)
    RunFolder.begin(tmp_path / "x", CONFIG, resume=True)


def test_another_configuration_is_refused_and_the_difference_told(tmp_path: Path) -> None:
    RunFolder.begin(tmp_path / "x", CONFIG)
    for resume in (False, True):
        with pytest.raises(FolderError, match=r"'- 0', not '- 1'"):
            RunFolder.begin(tmp_path / "x", CONFIG.replace("0", "1"), resume=resume)
    with pytest.raises(FolderError, match="another length"):
        RunFolder.begin(tmp_path / "x", CONFIG + "methods: [sft]\n", resume=True)
    assert (tmp_path / "x" / "config.yaml").read_text() == CONFIG


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("dear reader")
    with pytest.raises(FolderError, match="no run of ours"):
        RunFolder.begin(tmp_path / "thesis", CONFIG, resume=True)
    with pytest.raises(FolderError, match="is a file"):
        RunFolder.begin(tmp_path / "thesis" / "chapter1.tex", CONFIG)


def test_the_manifest_tells_changes_of_data() -> None:
    first = [Example("q", "t", "test", "Which?", None, "two")]
    second = [Example("q", "t", "test", "Which?", None, "three")]
    before, after = data_manifest({"test": first}), data_manifest({"test": second})
    assert before == data_manifest({"test": list(first)})
    assert before["test"]["n"] == 1
    assert before["test"]["sha256"] != after["test"]["sha256"]


def test_versions_name_what_takes_part() -> None:
    assert {"python", "torch", "transformers", "trl"} <= versions().keys()

"""Trainings of a run share the files of one tokenizer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cogcalib.harness.stages.shared_files import share_tokenizer


def trained(root: Path, method: str, seed: str, text: str = "{}") -> Path:
    folder = root / "train" / method / seed
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(text)
    (folder / "adapter_model.safetensors").write_text("weights")
    return folder


def links(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_nlink for path in folder.iterdir()}


def test_the_same_tokenizer_is_one_file(tmp_path: Path) -> None:
    trained(tmp_path, "ls", "seed-0.partial")
    alone = trained(tmp_path, "sft", "seed-0")
    share_tokenizer(alone)
    assert links(alone)["tokenizer.json"] == 1  # not with what may still be written
    second = trained(tmp_path, "cols@0.2", "seed-0")
    share_tokenizer(second)
    assert (second / "tokenizer.json").samefile(alone / "tokenizer.json")
    assert links(second) == {"tokenizer.json": 2, "adapter_model.safetensors": 1}


def test_another_tokenizer_stays_itself_and_so_does_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, "sft", "seed-0")
    other = trained(tmp_path, "sft", "seed-1", text="[]")
    share_tokenizer(other)
    assert (other / "tokenizer.json").read_text() == "[]"
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no hard links")))
    copied = trained(tmp_path, "sft", "seed-2")
    share_tokenizer(copied)
    assert links(copied) == {"tokenizer.json": 1, "adapter_model.safetensors": 1}

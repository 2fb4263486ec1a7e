"""`cogcalib merge`: what it says, exit codes, and that the other commands take what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from adapters_at_hand import (
    calibration_of,
    save_adapter,
    save_calibrated_adapter,
    save_model,
    temperature,
)

from cogcalib import cli
from cogcalib.deployment.calibration_file import FittedMap, write_calibration
from cogcalib.modeling import resolve_model

# A copy of Atlas is a model like another, and its weights are float16.
pytestmark = pytest.mark.filterwarnings("ignore:dtype auto")

CONVERTER = """
import pathlib, sys
pathlib.Path(sys.argv[3]).write_text(sys.argv[1])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an adapter on the embedded model, its calibration, and a stand-in for a converter."""
    folder = tmp_path_factory.mktemp("merge")
    base = folder / "base"
    shutil.copytree(resolve_model("atlas"), base)
    save_calibrated_adapter(folder / "adapter", base, temperature(1.7))
    save_calibrated_adapter(
        folder / "platt",
        base,
        FittedMap("platt", {"slope": 0.7, "intercept": 0.1}, 300, "c.jsonl", "ab"),
    )
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER)
    return folder


def test_it_says_what_it_needs_does_and_left(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out", tmp_path / "out.gguf"
    converter = str(folder / "convert_hf_to_gguf.py")
    words = ["merge", str(folder / "adapter"), str(out), "--gguf", str(file)]
    assert cli.main([*words, "--converter", converter]) == 0
    said = capsys.readouterr()
    assert "of disk and about" in said.err
    assert said.err.index("reading") < said.err.index("merging") < said.err.index("folding")
    assert f"Merged: {out} (" in said.out
    assert "float16)" in said.out
    assert "Temperature 1.7: in model.norm; log-probabilities are" in said.out
    assert f"GGUF: {file}" in said.out
    assert file.read_text() == str(out)
    assert cli.main(words) == 2
    assert "already exists" in capsys.readouterr().err


def test_without_a_converter_it_is_refused_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COGCALIB_GGUF_CONVERTER", raising=False)
    code = (
        "import sys, cogcalib.cli as c\n"
        "assert c.main(sys.argv[1:]) == 2\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    words = ["merge", str(tmp_path), str(tmp_path / "out"), "--gguf", str(tmp_path / "x.gguf")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "needs llama.cpp's convert_hf_to_gguf.py" in done.stderr


def test_score_takes_what_it_leaves(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The confidences scored are the adapter's with its map, the predictions the same."""
    rows = []
    merge = ["merge", str(folder / "adapter"), str(tmp_path / "out"), "--dtype", "float32"]
    assert cli.main(merge) == 0
    for words in (
        ["--model", str(folder / "base"), "--adapter", str(folder / "adapter")],
        ["--model", str(tmp_path / "out")],
    ):
        file = tmp_path / f"{len(rows)}.jsonl"
        task = ["--task", "atlas/country", "--limit", "40", "--output", str(file)]
        assert cli.main(["score", *words, *task]) == 0
        rows.append([json.loads(line) for line in file.read_text().splitlines()])
    capsys.readouterr()
    import numpy as np
    from scipy.special import softmax

    for before, after in zip(*rows, strict=True):
        assert before["prediction"] == after["prediction"]
        wanted = softmax(np.array(before["option_logprobs"]) / 1.7).max()
        assert after["confidence"]["options"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("source", "more", "said"),
    [
        ("platt", [], "The platt map stays a map, it cannot go into weights"),
        ("adapter", ["--keep-temperature"], "The temperature stays a map"),
    ],
)
def test_maps_that_stay_are_said(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    more: list[str],
    said: str,
) -> None:
    assert cli.main(["merge", str(folder / source), str(tmp_path / "out"), *more]) == 0
    assert said in capsys.readouterr().out


def test_wrong_input_is_exit_code_2_in_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    bare = save_adapter(folder / "base", tmp_path / "bare")
    out = str(tmp_path / "out")
    gguf = str(tmp_path / "x.gguf")
    for words, said in [
        ([str(tmp_path / "absent"), out], "absent does not exist"),
        ([str(bare), out], "has no calibration.json"),
        ([str(folder / "adapter"), str(tmp_path)], "already exists"),
        ([str(folder / "adapter"), out, "--base", str(tmp_path / "gone")], "gone does not exist"),
        ([str(folder / "adapter"), out, "--gguf", gguf], "git clone"),
        ([str(folder / "adapter"), out, "--gguf", out], "must end in .gguf"),
        ([str(folder / "adapter"), out, "--converter", gguf], "--converter goes with --gguf"),
    ]:
        assert cli.main(["merge", *words]) == 2
        error = capsys.readouterr().err.strip()
        assert said in error
        assert error.count("\n") == 0
        assert error.startswith("cogcalib: ")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_failures_while_running_are_exit_code_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converter = tmp_path / "convert_hf_to_gguf.py"
    converter.write_text("raise SystemExit('NotImplementedError: no such architecture')")
    words = ["merge", str(folder / "adapter"), str(tmp_path / "out")]
    words += ["--gguf", str(tmp_path / "x.gguf"), "--converter", str(converter)]
    with pytest.raises(SystemExit) as exit:
        cli.main(words)
    assert exit.value.code == 1
    assert "no such architecture; the merged model in" in capsys.readouterr().err
    assert (tmp_path / "out" / "calibration.json").is_file()
    assert not (tmp_path / "x.gguf").exists()


def test_a_temperature_that_cannot_go_in_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_model(tmp_path / "base", "Olmo", tie_word_embeddings=True)
    write_calibration(base, calibration_of(base, temperature(1.7)))
    assert cli.main(["merge", str(base), str(tmp_path / "out")]) == 2
    assert "--keep-temperature leaves it in calibration.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_merge_that_is_ended_leaves_nothing_and_one_that_was_killed_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cogcalib.deployment import merging

    base, place = save_model(tmp_path / "base"), tmp_path / "place"
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.7))
    left = place / ".out.abc"
    left.mkdir(parents=True)

    def write(*arguments: object) -> None:
        assert len(list(place.glob(".out.*"))) == 2
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(merging, "_write", write)
    with pytest.raises(SystemExit) as ended:
        cli.main(["merge", str(adapter), str(place / "out")])
    assert ended.value.code == 128 + signal.SIGTERM
    assert list(place.iterdir()) == [left]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert f"{left} is of a merge that was killed, or still runs" in capsys.readouterr().err

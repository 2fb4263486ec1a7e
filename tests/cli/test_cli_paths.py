"""Where nothing can be written, what cannot be a name, and texts that would steer a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from small_world import small_world as small_world

from cogcalib import cli
from cogcalib.artifacts import check_writable
from cogcalib.cli.console import console, shown
from cogcalib.jsonl import write_jsonl
from cogcalib.knowledge.ledger import SCHEMA
from cogcalib.records import InputError, Prediction

SMALL = """
name: small
methods: [base, sft]
tasks: {train: atlas/country, out_of_domain: [], limit: {train: 16, calibration: 20, test: 20}}
train: {steps: 2, batch_size: 8, style_steps: 1}
report: {resamples: 20}
"""


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder into which not even root can write, as on a file system mounted read-only."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    seal = ["chattr", "+i", folder]
    if not shutil.which("chattr") or subprocess.run(seal, check=False).returncode:
        pytest.skip("root can write everywhere here: chattr +i is refused")
    yield folder
    subprocess.run(["chattr", "-i", folder], check=True)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that leaves with exit code 2 and a single line."""
    assert cli.main(words) == 2
    told = capsys.readouterr().err.strip()  # a bar that is gone leaves its line end
    assert len(told.splitlines()) == 1, told
    return told


def test_writability_is_checked_before_anything_is_read_or_computed(
    sealed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work was done first")

    monkeypatch.setattr(import_module("cogcalib.harness.stages.begin"), "load_tasks", never)
    monkeypatch.setattr(import_module("cogcalib.scoring.score_run"), "load_task", never)
    monkeypatch.setattr(import_module("cogcalib.knowledge.probe_run"), "of_task", never)
    monkeypatch.setattr("cogcalib.harness.reproduce.reproduce", never)
    (tmp_path / "c.yaml").write_text(SMALL)
    (tmp_path / "file").touch()
    asked = ["--model", "atlas", "--task", "atlas/country"]
    for place in (sealed, tmp_path / "file"):
        for words in (
            ["run", str(tmp_path / "c.yaml"), "--runs", str(place)],
            ["tune", str(tmp_path / "c.yaml"), "--runs", str(place), "-o", "methods=[cols]"],
            ["score", *asked, "--output", str(place / "rows.jsonl")],
            ["score", *asked, "--json", str(place / "new" / "row.json")],
            ["probe", *asked, "--output", str(place / "probe")],
        ):
            assert "cannot be written" in refused(words, capsys)
    for option in ("--runs", "--output"):
        words = ["reproduce", "main", "--model", "atlas", option, str(sealed / "new")]
        words += ["--limit-methods", "sft"]
        assert "cannot be written" in refused(words, capsys)
    assert not list(sealed.iterdir())


def test_report_shows_a_run_where_its_page_cannot_be_written(
    tmp_path: Path,
    sealed: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "c.yaml").write_text(SMALL)
    assert cli.main(["run", str(tmp_path / "c.yaml"), "--runs", str(tmp_path)]) == 0
    run, page = tmp_path / "small", (tmp_path / "small" / "report.html").read_text()
    rows = ["report", str(run), "--json", str(sealed / "rows.json")]
    capsys.readouterr()
    assert "cannot be written" in refused(rows, capsys)

    def only_read(path: Path) -> None:
        if path == run / "report.html":
            check_writable(sealed / "report.html")
        check_writable(path)

    monkeypatch.setattr("cogcalib.cli.report.check_writable", only_read)
    assert cli.main(["report", str(run)]) == 0
    out = capsys.readouterr().out
    assert "SFT" in out
    assert "The page was not written anew" in out
    assert (run / "report.html").read_text() == page


def test_the_ledger_says_where_to_draw_instead(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = tmp_path / "out" / "ledger" / "steps-000000000-000000001-rank-0.parquet"
    part.parent.mkdir(parents=True)
    values = ["a\x1b]0;owned\x07", 0, 0, 0, 0.1, 0.5, 1.0, 0.1, 1.0, 0.9]
    pq.write_table(
        pa.Table.from_pylist([dict(zip(SCHEMA.names, values, strict=True))], SCHEMA), part
    )
    words = ["ledger", str(tmp_path / "out")]
    assert "cannot be written" in refused([*words, "--output", str(sealed / "l.png")], capsys)
    assert cli.main(words) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["n" * 300, "p/" * 3000 + "x"], ids=["name", "path"])
def test_a_name_too_long_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["--model", "atlas", "--task", "atlas/country", "--limit", "4"]
    (tmp_path / "c.yaml").write_text(SMALL)
    for words in (
        ["report", f"{name}.jsonl"],
        ["report", name],
        ["ledger", name],
        ["run", f"{name}.yaml"],
        ["run", "c.yaml", "--runs", name],
        ["score", *asked, "--output", f"{name}.jsonl"],
        ["score", *asked[2:], "--model", f"./{name}"],
        ["score", *asked, "--adapter", f"./{name}"],
        ["score", "--model", "atlas", "--task", f"{name}.yaml"],
        ["probe", *asked, "--output", name],
        ["probe", "--model", "atlas", "--data", f"{name}.jsonl"],
        ["tasks", "show", f"{name}.yaml"],
    ):
        refused(words, capsys)
    if "/" not in name:
        assert "name" in refused(["run", "c.yaml", "-o", f"name={name}"], capsys)


def test_two_runs_are_shown_and_mixtures_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(SMALL)
    runs = [str(tmp_path / name / "small") for name in ("a", "b")]
    for run in runs:
        words = ["run", str(tmp_path / "c.yaml"), "--runs", str(Path(run).parent)]
        assert cli.main([*words, "-o", "methods=[base]"]) == 0
    capsys.readouterr()
    assert cli.main(["report", *runs]) == 0
    assert capsys.readouterr().out.count("The whole report") == 2
    for more, what in (
        (runs[:1], "runs must be distinct"),
        (["--split", "test"], "not for a run"),
        (["--filter", "none"], "not for a run"),
        ([str(tmp_path / "rows.jsonl")], "cannot be mixed"),
    ):
        write_jsonl(tmp_path / "rows.jsonl", [row()])
        assert what in refused(["report", *runs, *more], capsys)
    for words, what in (
        (["--method", "sft"], "holds no training"),
        ([], "holds no training"),
    ):
        assert what in refused(["ledger", runs[0], *words], capsys)


def test_a_training_without_a_ledger_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("sft", "cols"):
        (tmp_path / "train" / method / "seed-1").mkdir(parents=True)
        (tmp_path / "train" / method / "seed-1" / "log.jsonl").touch()
    (tmp_path / "train" / "cols" / "seed-1" / "ledger").mkdir()
    ledger = ["ledger", str(tmp_path), "--method"]
    assert "sft seed-1 kept no ledger" in refused([*ledger, "sft"], capsys)
    assert "no training of method nope" in refused([*ledger, "nope"], capsys)
    assert "no training of method cols, seed 7" in refused([*ledger, "cols", "--seed", "7"], capsys)


def row(**values: object) -> Prediction:
    given = {
        "id": "q", "task": "t", "split": "test", "answer": "A", "prediction": "A", "correct": True,
        "nll": 0.1, "confidence": {"options": 0.9}, "option_logprobs": [-0.1, -2.0], "model": "m",
        "run": "r",
    }  # fmt: skip
    return Prediction(**{**given, **values})  # type: ignore[arg-type]


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7f\u202e"


def test_no_text_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(id=f"{i}{EVIL}", task=f"t{EVIL}", model=f"m{EVIL}{i % 2}") for i in range(4)]
    rows += [row(id=f"other{i}", task=f"t{EVIL}", model="n") for i in range(3)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert cli.main(["report", str(tmp_path / "rows.jsonl")]) == 0
    out = capsys.readouterr().out
    assert "owned" in out
    outputs = [out]
    broken = {**asdict(rows[0]), EVIL: 1}
    (tmp_path / "broken.jsonl").write_text(json.dumps(broken) + "\n")
    for words in (
        ["report", str(tmp_path / "broken.jsonl")],
        ["report", f"absent{EVIL}.jsonl"],
        ["score", "--model", f"./{EVIL}", "--task", "atlas/country"],
        ["score", "--model", "atlas", "--task", EVIL],
        ["tasks", "show", f"{EVIL}.yaml"],
    ):
        outputs.append(refused(words, capsys))
    for text in outputs:
        assert not set(EVIL) & set(text) - set("]0;owned[2J31m"), text


def test_a_task_is_shown_without_its_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [{"question": f"Who is {i}?{EVIL}", "answer": f"he{EVIL}{i}"} for i in range(4)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(each) + "\n" for each in data))
    (tmp_path / "q.yaml").write_text(
        "name: mine\ndescription: mine\nkind: open-ended\n"
        "source: {parts: {all: {file: q.jsonl}}}\n"
        'question: "{question}"\nanswer: answer\nsplits: {test: {part: all}}\n'
    )
    assert cli.main(["tasks", "show", str(tmp_path / "q.yaml")]) == 0
    out = capsys.readouterr().out
    assert "Who is" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_our_own_style_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = console(width=80)
    terminal.file = None
    with terminal.capture() as got:
        terminal.print(f"[bold]ours[/bold] {EVIL}", highlight=False)
    assert "ours" in got.get()
    assert "\\x1b]0;owned" in got.get()
    assert shown("plain\ttext\nand café") == "plain\ttext\nand café"


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "c.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        check_writable(tmp_path / "file" / "c.json")

"""The verb ``predict``: tables and lines, files, pipes and typed questions, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.cli import predict
from cogcalib.deployment import (
    AbstentionRule,
    AnswerFormat,
    Calibration,
    FittedMap,
    load,
    write_calibration,
)
from cogcalib.deployment.identity import identify
from cogcalib.modeling import load_model
from cogcalib.records import AUTO, DTYPES

LETTERS = AnswerFormat("options", "options", options=(" A", " B"))
ASK = "Question: In which country is {}?\nA. France\nB. Peru\nAnswer:"
ROWS = [{"id": city, "prompt": ASK.format(city)} for city in ("Lyon", "Lima", "Ur")]
RULES = (
    AbstentionRule(0.1, 0.1, 0.62, 500, 0.5, (0.4, 0.6), 0.08, "held-out.jsonl", "0"),
    AbstentionRule(0.01, 0.1, None, 500, 0.0, (0.0, 0.1), None, "held-out.jsonl", "0", "too few"),
)


@pytest.fixture
def atlas(tmp_path: Path) -> Callable[..., str]:
    """Save atlas with a calibration."""

    def save(answers: AnswerFormat = LETTERS, **fields) -> str:
        folder = tmp_path / "model"
        model, tokenizer = load_model("atlas", device="cpu")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_calibration(folder, Calibration(identify(folder, tokenizer), answers, **fields))
        return str(folder)

    return save


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return str(path)


@pytest.fixture
def pipe_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let a text come through the standard input."""
    opened = []

    def pipe(content: str) -> None:
        read, write = os.pipe()
        with os.fdopen(write, "w", encoding="utf-8") as into:
            into.write(content)
        opened.append(os.fdopen(read))
        monkeypatch.setattr(sys, "stdin", opened[-1])

    yield pipe
    for file in opened:
        file.close()


def test_table_and_lines_say_the_same(atlas, rows, capsys) -> None:
    heat = FittedMap("temperature", {"temperature": 1.5, "at_bound": False}, 200, "c.jsonl", "0")
    folder = atlas(map=heat, rules=RULES)
    expected = load(folder, device="cpu").predict([row["prompt"] for row in ROWS])
    assert cli.main(["predict", folder, rows, "--jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == ["Lyon", "Lima", "Ur"]
    for line, answer in zip(lines, expected, strict=True):
        assert line["answer"] == answer.answer
        assert line["confidence"] == answer.confidence
        assert line["raw_confidence"] == answer.raw_confidence
        assert line["abstain"] is answer.abstain
        assert line["alternatives"][0].keys() == {"answer", "probability"}
        assert line["tokens"] == []
    assert cli.main(["predict", folder, rows]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{100 * expected[0].confidence:.1f}" in out
    assert "Lyon" in out
    assert "3 answers, mean confidence" in out
    abstained = sum(answer.abstain for answer in expected)
    assert f"abstained from {abstained}, below 62.0 %, for an error of at most 10 %" in out
    assert "by temperature, n = 200" in out
    assert cli.main(["predict", folder, rows, "--target-error", "0.01"]) == 0
    out = capsys.readouterr().out
    assert out.count("abstains") == 3
    assert "could not be promised: too few" in out


def test_generated_answers_show_their_tokens(atlas, capsys) -> None:
    folder = atlas(AnswerFormat("open-ended", "joint", preset="cogcalib", max_new_tokens=8))
    question = "In which country is the city of Lyon?"
    assert cli.main(["predict", folder, question, "--jsonl"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    (expected,) = load(folder, device="cpu").predict([{"question": question}])
    assert answer["answer"] == expected.answer
    assert len(answer["tokens"]) == len(expected.tokens) > 0
    assert cli.main(["predict", folder, question]) == 0
    assert "no rule to abstain by" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["-"]])
def test_pipes_are_read(atlas, capsys, pipe_in, words) -> None:
    folder = atlas()
    pipe_in("".join(json.dumps(row) + "\n" for row in ROWS))
    assert cli.main(["predict", folder, *words, "--jsonl"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    pipe_in("first\n\nthird\n")
    assert cli.main(["predict", folder, *words]) == 2
    assert "standard input, line 2: there is no question" in capsys.readouterr().err
    pipe_in('{"prompt": "A:"}\n{"prompt": ""}\n')
    assert cli.main(["predict", folder, *words]) == 2
    assert "standard input, line 2: the prompt is empty" in capsys.readouterr().err


def test_answers_stream_until_the_reader_has_enough_which_is_no_traceback(atlas) -> None:
    command = [sys.executable, "-m", "cogcalib", "predict", atlas(), "--jsonl"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        for n in range(3):
            process.stdin.write(f"Question: {n}?\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == n + 1
        process.stdout.close()
        process.stdin.write(b"Question: 3?\n")
        process.stdin.close()
        assert process.stderr.read().strip() == b""
    assert process.returncode == 1


def test_output_is_written_whole_or_not_at_all(atlas, rows, tmp_path, capsys, pipe_in) -> None:
    folder, output = atlas(), tmp_path / "answers.jsonl"
    assert cli.main(["predict", folder, rows, "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert f"Answers: {output}" in out
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [
        "Lyon", "Lima", "Ur",
    ]  # fmt: skip
    before = output.read_bytes()
    assert cli.main(["predict", folder, rows, "--output", str(output)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert output.read_bytes() == before
    pipe_in("good\n\n")
    assert cli.main(["predict", folder, "--output", str(tmp_path / "half.jsonl")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.jsonl", "model", "questions.jsonl",
    ]  # fmt: skip


def test_an_array_of_answers_is_written_beside_what_is_shown(
    atlas, rows, tmp_path, capsys, pipe_in
) -> None:
    folder, file = atlas(), tmp_path / "answers.json"
    assert cli.main(["predict", folder, rows, "--json", str(file)]) == 0
    assert f"Results: {file}" in capsys.readouterr().out
    found = json.loads(file.read_text(encoding="utf-8"))
    assert [row["id"] for row in found] == ["Lyon", "Lima", "Ur"]
    for words in (["--jsonl"], ["--output", str(tmp_path / "answers.jsonl")]):
        file.unlink()
        assert cli.main(["predict", folder, rows, *words, "--json", str(file)]) == 0
        out, err = capsys.readouterr()
        lines = out if words == ["--jsonl"] else (tmp_path / "answers.jsonl").read_text()
        assert [json.loads(line) for line in lines.splitlines()] == found
        assert json.loads(file.read_text(encoding="utf-8")) == found
        assert (f"Results: {file}" in err) == (words == ["--jsonl"])
    assert cli.main(["predict", folder, rows, "--json", str(file)]) == 2
    assert "already exists" in capsys.readouterr().err
    both = str(tmp_path / "both.jsonl")
    assert cli.main(["predict", folder, rows, "--json", both, "--output", both]) == 2
    assert "--json and --output are two files" in capsys.readouterr().err
    pipe_in("good\n\n")
    assert cli.main(["predict", folder, "--json", both]) == 2
    assert not (tmp_path / "both.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"prompt": "A:"}\n{"prompt": ""}\n', "row 2: the prompt is empty"),
        ('{"prompt": "A:"}\n{"text": "x"}\n', "row 2: must have just one of prompt"),
        ('{"prompt": "A:"}\n{"prompt": NaN}\n', "row 2: must have just one of prompt"),
        ('{"prompt": "A:"}\n{oops\n', "row 2: no valid JSON"),
        ('{"prompt": "A:"}\n' + json.dumps({"prompt": "A " * 2000}), "row 2: prompt and answer"),
        ('{"prompt": "A:", "options": ["A", "B"]}\n', "row 1: option 'A' must be written ' A'"),
        ("", "there is no row"),
    ],
)
def test_wrong_rows_are_named_before_the_model_is_loaded(
    atlas, tmp_path, capsys, content, what
) -> None:
    folder = atlas()
    path = tmp_path / "questions.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cogcalib.deployment.opened.load_backend", _never)
        assert cli.main(["predict", folder, str(path)]) == 2
    error = capsys.readouterr().err
    assert what in error
    assert len(error.splitlines()) == 1


def _never(*args: object) -> None:
    raise AssertionError("the model is loaded")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["missing.jsonl"], "no such data file"),
        (["A:", "--target-error", "0.05"], "records no abstention rule"),
        (["A:", "--dtype", "int4"], "dtype must be one of"),
        (["A:", "--endpoint", "http://h/v1"], "endpoint and served_name go together"),
        (["A:", "--calibration", "nowhere"], "there is no folder nowhere"),
        (["A:", "--output", "model"], "already exists"),
        (["{oops"], "the question: no valid JSON"),
        ([" "], "the question: there is no question"),
    ],
)
def test_wrong_input_is_exit_code_2(atlas, capsys, tmp_path, monkeypatch, words, what) -> None:
    folder = atlas()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", folder, *words]) == 2
    assert what in capsys.readouterr().err


def test_model_that_is_none_is_exit_code_2(capsys, tmp_path) -> None:
    for model in (str(tmp_path / "nowhere"), str(tmp_path), "atlas"):
        assert cli.main(["predict", model, "A:"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_text_of_a_model_or_a_file_moves_no_cursor(atlas, tmp_path, capsys) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"id": "\x1b[2J", "prompt": "\x1b[red]"}))
    assert cli.main(["predict", atlas(), str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out


def test_long_tables_are_cut_and_say_so(atlas, tmp_path, capsys) -> None:
    path = tmp_path / "q.csv"
    path.write_text("prompt\n" + "A:\n" * 130)
    assert cli.main(["predict", atlas(), str(path)]) == 0
    out = capsys.readouterr().out
    assert "the first 100; --jsonl prints all" in out
    assert "130 answers" in out


def test_help_shows_what_there_is_to_choose(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert f"--dtype {{{','.join((AUTO, *DTYPES))}}}" in out
    for option in ("--base", "--device", "--four-bit", "--served-name", "--api-key-env"):
        assert option in out


@pytest.mark.parametrize("questions", ["Where is it?", "q.jsonl", "-"])
def test_questions_may_stand_behind_options(questions, capsys) -> None:
    for words in (
        ["model", questions, "--jsonl", "--dtype", "float64"],
        ["model", "--jsonl", questions, "--dtype", "float64"],
        ["model", "--jsonl", "--dtype", "float64", questions],
        ["--jsonl", "model", "--dtype", "float64", questions],
    ):
        options = cli.parse(["predict", *words])
        assert (options.model, options.questions) == ("model", questions)
    for words in (["model", questions, "--jsonl", "more"], ["model", "--jsonl", questions, "-x"]):
        with pytest.raises(SystemExit) as exit:
            cli.parse(["predict", *words])
        assert exit.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


def test_questions_that_begin_alike_are_told_apart() -> None:
    same = "Question: which of these is the one that is asked for in the second half of the line"
    short = predict._short([f"{same}, Paris?", f"{same},\nRome?", f"{same}"])
    assert short == ["... line, Paris?", "... line, Rome?", "... line"]
    assert predict._short(["Question: one", "Question: two"]) == ["Question: one", "Question: two"]
    assert predict._short(["x" * 61, "y"]) == [f"{'x' * 57}...", "y"]
    assert predict._short([same]) == [f"{same[:57]}..."]

"""What every verb has: examples, results as JSON, completion; tables that lose nothing."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from cogcalib.cli import VERBS, build_parser, main, parse
from cogcalib.cli.console import _plain, console
from cogcalib.cli.examples import EXAMPLES
from cogcalib.harness.report.metric_tables import metrics_table
from cogcalib.harness.reproduce.estimate import CellEstimate, _grid
from cogcalib.harness.terminal_tables import show_table
from cogcalib.suggest import did_you_mean
from cogcalib.tasks import catalog


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_two_examples_that_parse(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLES[verb]) == 2
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    for line in EXAMPLES[verb]:
        assert line in shown
        program, *words = shlex.split(line.partition(" > ")[0])
        assert program == "cogcalib"
        assert parse(words).verb == verb


@pytest.mark.parametrize(
    ("words", "command"), [([], "cogcalib"), (["tasks", "show"], "tasks show")]
)
def test_help_above_and_below_the_verbs_has_examples_too(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    first, second = EXAMPLES[command]
    assert f"examples:\n  {first}\n  {second}\n" in capsys.readouterr().out


def test_every_verb_writes_its_result_as_json() -> None:
    (verbs,) = (each for each in build_parser()._actions if each.dest == "verb")
    parsers = verbs.choices
    assert parsers is not None
    lacking = {
        name
        for name in VERBS
        if not any("--json" in action.option_strings for action in parsers[name]._actions)
    }
    assert not lacking


def test_results_are_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tasks.json"
    assert main(["tasks", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert "atlas/country" in [row["name"] for row in rows]
    assert str(file) in capsys.readouterr().out
    assert main(["tasks", "--json", str(file)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_results_become_plain_values() -> None:
    @dataclass
    class Found:
        path: Path
        values: tuple[float, ...]

    plain = _plain({1: Found(Path("a/b"), (0.5, math.inf, math.nan))})
    assert plain == {"1": {"path": "a/b", "values": [0.5, None, None]}}


def test_a_verb_that_was_meant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["raport", "runs/demo"])
    assert "no verb 'raport'; did you mean 'report'?" in capsys.readouterr().err


def test_what_was_meant() -> None:
    assert did_you_mean("atlas/contry", ["atlas/country", "arc"]) == (
        "; did you mean 'atlas/country'?"
    )
    assert did_you_mean("Question", ["question"]) == "; did you mean 'question'?"
    assert did_you_mean("xyz", ["question"]) == did_you_mean("question", ["question"]) == ""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["tasks", "show", "atlas/contry"], "'atlas/country'"),
        (["demo", "-o", "train.alhpa=0.1"], "'alpha'"),
        (["demo", "-o", "methods=[sft, colls]"], "'cols'"),
        (["reproduce", "mian", "--model", "atlas", "--dry-run"], "'main'"),
    ],
)
def test_names_that_were_meant_are_named(
    words: list[str], meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [] if words[0] == "tasks" else ["--runs", str(tmp_path)]
    assert main([*words, *runs]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_choices_that_were_meant_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["recalibrate", "out", "--data", "x.jsonl", "--method", "temprature"])
    assert "invalid choice: 'temprature'" in (said := capsys.readouterr().err)
    assert said.endswith("; did you mean 'temperature'?\n")


def rows() -> list[dict[str, object]]:
    ece = {
        name: {"value": 0.0123, "low": 0.0101, "high": 0.145, "floor": [0.02, 0.05]}
        for name in ("options", "vocab")
    }
    interval = [0.101, 0.999]
    return [
        {
            "method": method, "task": "a/b", "split": "test", "seed": 0, "n": 1000,
            "accuracy": 0.987, "nll": 1.234, "brier": 0.123, "ece": ece,
            "intervals": {"accuracy": interval}, "known_first_epoch": 0.76,
            "known_last_epoch": 0.98, "aurc": {"options": {"value": 0.123}},
        }
        for method in ("sft", "cols-options-gap", "combls-random@0.25m4+ts")
    ]  # fmt: skip


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_a_narrow_terminal_loses_no_digit(width: int) -> None:
    for table in metrics_table(rows()):
        words = Counter(
            word
            for column in table.columns[1:]
            for cell in column.cells
            for word in str(cell).split()
        )
        drawn = shown_at(width, table)
        there = Counter(drawn.replace("─", " ").split())
        assert not words - there, words - there
        assert "…" not in drawn
        assert all(len(line) <= width for line in drawn.splitlines())


def shown_at(width: int, table: Table) -> str:
    terminal = console(width=width)
    with terminal.capture() as drawn:
        show_table(table, terminal)
    return drawn.get()


def estimated() -> Iterator[Table]:
    places = ("atlas/country-open_calibrated", "smollm2/entity_questions-P17")
    yield _grid(
        [CellEstimate(place, "train", 12, 11, 1234.5, "the preset's rates") for place in places]
    )


NAMED: dict[str, Callable[[], Iterable[Table]]] = {
    "plan": estimated,
    "metrics": lambda: metrics_table(rows()),
}


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("kind", NAMED)
def test_names_of_rows_stay_whole(kind: str, width: int) -> None:
    for table in NAMED[kind]():
        names = [str(cell).split() for cell in table.columns[0].cells]
        there = shown_at(width, table).split()
        assert not {word for name in names for word in name} - set(there)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_tasks_are_named_whole(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cogcalib.cli.tasks.screen", lambda _: console(width=width))
    assert main(["tasks"]) == 0
    there = capsys.readouterr().out.split()
    assert not set(catalog.task_names()) - set(there)


def test_a_long_name_breaks_behind_its_hyphens() -> None:
    table = Table("name", "number")
    table.add_row(Text("first-second-third@0.25"), "1234567890")
    drawn = shown_at(31, table)
    assert [line.split()[1] for line in drawn.splitlines()[3:-1]] == ["first-second-", "third@0.25"]


def test_rows_stand_below_each_other_where_nothing_else_helps() -> None:
    table = Table("name", "first", "second")
    table.add_row("one", "1234567890", "abcdefghij")
    assert [line.split() for line in shown_at(24, table).splitlines()] == [
        ["name", "one"], ["first", "1234567890"], ["second", "abcdefghij"],
    ]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_complete_verbs_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="the extra completion is not installed")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*VERBS, "--top-logprobs", "--figures"):
        assert word.lstrip("-") in script

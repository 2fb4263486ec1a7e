"""Runs and files held against the first: the same as by hand, and what cannot be compared."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from run_builder import CAPITAL, COUNTRY, SHARPNESS, build_run, predictions

from cogcalib import cli
from cogcalib.harness.report.comparison import compare
from cogcalib.harness.report.comparison_page import comparison_page
from cogcalib.harness.report.differences import difference_rows, paired_predictions
from cogcalib.harness.report.html import render_page
from cogcalib.harness.report.predictions import read_groups
from cogcalib.harness.report.resampled import difference, resample
from cogcalib.jsonl import write_jsonl
from cogcalib.scoring import read_predictions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs that share a method and two seeds of three; each has a method of its own."""
    folder = tmp_path_factory.mktemp("compared")
    return (
        build_run(folder / "one", methods=("sft", "cols"), seeds=(0, 1)),
        build_run(folder / "two", methods=("cols", "ls"), seeds=(0, 1, 2)),
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        write_jsonl(tmp_path / f"{name}.jsonl", predictions(name, 0, CAPITAL, "r"))
        for name in ("sft", "cols", "ls")
    ]


def test_methods_of_one_name_are_compared_over_questions_and_seeds(
    runs: tuple[Path, Path],
) -> None:
    found = compare(runs)
    assert found.sources == ("one", "two")
    assert {(pair.one, pair.other, pair.task) for pair in found.pairs} == {
        ("two: CoLS", "one: CoLS", COUNTRY),
        ("two: CoLS", "one: CoLS", CAPITAL),
    }
    seeds = (0, 1)
    by_hand = difference(
        resample({seed: predictions("cols", seed, CAPITAL, "two") for seed in seeds}),
        resample({seed: predictions("cols", seed, CAPITAL, "one") for seed in seeds}),
        "ece.vocab",
    )
    (pair,) = (pair for pair in found.pairs if pair.task == CAPITAL)
    assert pair.metrics["ece"] == by_hand
    assert pair.metrics["accuracy"].difference == 0
    assert len(found.rows) == 2 * (2 * 2 + 2 * 3)


def test_the_only_method_is_what_all_others_are_compared_with(runs: tuple[Path, Path]) -> None:
    with_sft = compare([runs[0], runs[1]], method="cols", resamples=50)
    assert {pair.one for pair in with_sft.pairs} == {"two: CoLS"}
    alone = build_run(runs[0].parent / "alone", methods=("sft",), seeds=(0, 1))
    pairs = compare([alone, runs[1]], resamples=50).pairs
    assert {(pair.one, pair.other) for pair in pairs} == {
        ("two: CoLS", "alone: SFT"),
        ("two: LS", "alone: SFT"),
    }
    (ece,) = (p.metrics["ece"] for p in pairs if (p.one, p.task) == ("two: LS", COUNTRY))
    assert ece.significant
    assert ece.difference < 0


def test_files_are_compared_as_report_does(files: list[Path]) -> None:
    found = compare(files, resamples=100)
    pairs, notes = paired_predictions(read_groups(files), resamples=100)
    assert list(found.pairs) == pairs
    assert (found.notes, notes) == ((), [])


def test_a_file_is_compared_with_every_method_of_a_run(
    runs: tuple[Path, Path], files: list[Path]
) -> None:
    one_seed = build_run(runs[0].parent / "one-seed", methods=("sft", "cols"), seeds=(0,))
    pairs = compare([files[0], one_seed], resamples=50).pairs
    same = next(pair for pair in pairs if pair.one == "one-seed: SFT")
    assert {each.difference for each in same.metrics.values()} == {0.0}
    assert {pair.one for pair in pairs} == {"one-seed: SFT", "one-seed: CoLS"}
    assert {row[1:] for row in difference_rows(same)} == {("equal", "", "")}
    assert [pair.one for pair in pairs if pair.verdict.equal] == ["one-seed: SFT"]


def test_page_has_tables_diagrams_and_differences(runs: tuple[Path, Path]) -> None:
    found = compare(runs, resamples=50)
    page = comparison_page(found)
    assert len(page.differences) == len(page.tasks) == 2
    assert len(page.bin_panels) == 4 * 2
    text = render_page(page)
    assert "Paired differences" in text
    # Sorted, a row stands alone: each names its models.
    assert {row[0][0] for row in page.differences[0].rows} == {"two: CoLS - one: CoLS"}
    assert "<h2>Record</h2>" not in text
    plain = re.sub(r'<span class="figures">(.*?)</span>', r"\1", text)
    assert "On atlas/country (test): every figure of two: CoLS and one: CoLS is equal." in plain
    assert not re.search(r'(?:src|href)="http', text)


def test_the_verdict_stands_first_and_asks_for_every_definition(tmp_path: Path) -> None:
    sure = predictions("sft", 0, CAPITAL, "r")
    # Lower under one definition only: shrinking it alone is no ground for trust.
    calm = [
        replace(row, confidence={**row.confidence, "options": 0.9 * row.correct + 0.05})
        for row in sure
    ]
    files = [
        write_jsonl(tmp_path / f"{name}.jsonl", rows) for name, rows in (("a", sure), ("b", calm))
    ]
    found = compare(files, resamples=200)
    (pair,) = found.pairs
    assert set(pair.verdict.errors) == set(sure[0].confidence)
    assert pair.verdict.failing == ("ece.vocab",)
    first, second, *_ = comparison_page(found).findings
    assert first.startswith(
        "On atlas/capital (test): b is not trustworthy against a: ECE vocab equal"
    )
    assert "AURC" in second
    calmer = [replace(row, confidence=dict.fromkeys(row.confidence, 0.9 * row.correct + 0.05))
              for row in sure]  # fmt: skip
    other = write_jsonl(tmp_path / "c.jsonl", calmer)
    (pair,) = compare([files[0], other], resamples=200).pairs
    assert pair.verdict.trustworthy
    assert pair.sentence.startswith(
        "On atlas/capital (test): c is trustworthy against a: ECE falls under"
    )


def test_what_is_undefined_is_not_trusted(tmp_path: Path) -> None:
    rows = [replace(row, nll=math.inf) for row in predictions("sft", 0, CAPITAL, "r")]
    calmer = [replace(row, confidence=dict.fromkeys(row.confidence, 0.9 * row.correct + 0.05))
              for row in rows]  # fmt: skip
    files = [
        write_jsonl(tmp_path / f"{name}.jsonl", each)
        for name, each in (("a", rows), ("b", calmer), ("c", rows))
    ]
    better, same = compare(files, resamples=50).pairs
    assert better.verdict.failing == ("nll",)
    assert "b is not trustworthy against a: NLL undefined." in better.sentence
    assert "every figure of c and a is equal." in same.sentence


def test_few_questions_are_said_beside_the_verdict(tmp_path: Path) -> None:
    files = [
        write_jsonl(tmp_path / f"{name}.jsonl", predictions(name, 0, CAPITAL, "r")[:20])
        for name in ("sft", "cols")
    ]
    (pair,) = compare(files, resamples=20).pairs
    assert pair.sentence.endswith("Only 20 questions: too few to rely on a binned ECE.")


def test_the_nll_of_a_mapped_confidence_is_no_part_of_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHARPNESS, "sft+platt", (1.2, 1.0))
    one, two = (
        build_run(tmp_path / name, methods=methods, seeds=(0,))
        for name, methods in (("one", ("cols",)), ("two", ("ls", "sft+platt")))
    )
    found = compare([one, two], resamples=20)
    shown = {row["method"]: row["nll"] for row in found.rows}
    assert {name for name, nll in shown.items() if math.isnan(nll)} == {"two: SFT + Platt"}
    pairs = {pair.one: pair for pair in found.pairs}
    assert "nll" in pairs["two: LS"].verdict.differences
    assert "nll" not in pairs["two: SFT + Platt"].verdict.differences
    assert "nll" not in pairs["two: SFT + Platt"].metrics


def test_what_a_seed_lacks_is_left_out(tmp_path: Path) -> None:
    one, two = (
        build_run(tmp_path / name, methods=("cols",), seeds=(0, 1)) for name in ("one", "two")
    )
    lacking = two / "score" / "cols" / "seed-1" / "atlas-country.test.jsonl"
    rows = [replace(row, confidence={"options": row.confidence["options"]})
            for row in read_predictions(lacking)]  # fmt: skip
    write_jsonl(lacking, rows)
    pair = next(pair for pair in compare([one, two], resamples=20).pairs if pair.task == COUNTRY)
    assert list(pair.verdict.errors) == ["options"]


def test_command_prints_and_writes(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, rows = tmp_path / "page.html", tmp_path / "rows.json"
    words = ["compare", *map(str, runs), "--method", "cols", "--output", str(page)]
    assert cli.main([*words, "--json", str(rows)]) == 0
    out = capsys.readouterr().out
    assert "two: CoLS - one: CoLS" in out
    assert "atlas/country · test · in-domain" in out
    assert "all metrics" not in out  # a column for every seed of every method
    assert page.is_file()
    differences = [
        row["differences"] for row in json.loads(rows.read_text()) if "two" in row["method"]
    ]
    assert all(each["one: CoLS"]["ece"]["p_value"] <= 1 for each in differences)
    assert cli.main(words) == 2
    assert "already exists" in capsys.readouterr().err


def test_what_cannot_be_compared_is_told(
    runs: tuple[Path, Path],
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = predictions("ls", 0, CAPITAL, "r")
    other_task = write_jsonl(
        tmp_path / "task.jsonl", [replace(row, task="atlas/currency") for row in rows]
    )
    others = write_jsonl(tmp_path / "other.jsonl", rows[:100])
    apart = build_run(tmp_path / "apart", methods=("cols",), seeds=(5, 6))
    different = build_run(tmp_path / "different", methods=("ls", "coecp"), seeds=(0, 1))
    (tmp_path / "empty").mkdir()
    for paths, said in (
        ([files[0]], "at least two"),
        ([files[0], files[0]], "comes more than once"),
        ([files[0], other_task], "sft answers atlas/capital (test), the others answer atlas/curr"),
        ([files[0], others], "they answer different questions"),
        ([files[0], tmp_path / "absent"], "there is no file or folder"),
        ([runs[0], tmp_path / "empty"], "has not been scored"),
        ([runs[0], different], "share no method, and the first has several; --method"),
        ([runs[0], apart], "they share no seed"),
    ):
        assert cli.main(["compare", *map(str, paths)]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    for paths, option, said in (
        (runs, ["--method", "ecp"], "no method 'ecp' was scored"),
        (files[:2], ["--method", "cols"], "method is for runs"),
        (runs, ["--split", "test"], "not for runs"),
        (runs, ["--filter", "none"], "not for runs"),
    ):
        assert cli.main(["compare", *map(str, paths), *option]) == 2
        assert said in capsys.readouterr().err

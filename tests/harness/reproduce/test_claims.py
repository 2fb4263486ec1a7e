"""Comparisons settled beforehand, verdicts, noise floors and open gates on the pages of tables."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from cogcalib import cli, harness
from cogcalib.harness.config.read_config import parse_config
from cogcalib.harness.report.resampled import difference, resample
from cogcalib.harness.reproduce import Preset, result_files
from cogcalib.harness.reproduce.claims import claims, claims_page
from cogcalib.harness.reproduce.definitions import Best, Table, load_table, table_names
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.markdown import methods_page, variants_page
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.reproduce.table_rows import MethodCost, RowGroup, TableRow
from cogcalib.harness.reproduce.verdicts import open_gates, trust_text, verdict_lines
from cogcalib.metrics import holm
from cogcalib.records import Prediction

N, SEEDS = 300, (0, 1)


def drawn(seed: int, excess: float, noise: float = 0.0) -> list[Prediction]:
    """Answers that are correct with the probability confidence - excess."""
    generator = np.random.default_rng(seed)
    sure = generator.uniform(0.3, 0.75, N)
    correct = generator.random(N) < sure
    blurred = noise * np.random.default_rng(seed + 10).normal(size=N)
    shown = np.clip(sure + excess + blurred, 0.01, 0.99)
    nll = -np.log(np.where(correct, shown, 1 - shown))
    return [
        Prediction(
            f"q{i}", "t", "test", "A", "A" if right else "B", bool(right), float(loss),
            {"vocab": float(c), "options": float(c)}, None, "m", "r",
        )
        for i, (c, right, loss) in enumerate(zip(shown, correct, nll, strict=True))
    ]  # fmt: skip


def table_row(name: str, excess: float, noise: float = 0.0, floor: float = 0.04) -> TableRow:
    found = resample({seed: drawn(seed, excess, noise) for seed in SEEDS}, 200, ranking=100)
    values = {metric: tuple(value.tolist()) for metric, value in found.values.items()}
    for definition in ("options", "vocab"):
        values |= {f"floor.low.{definition}": (0.01,) * 2, f"floor.high.{definition}": (floor,) * 2}
    values |= {"coverage_at_90": (0.4, 0.5), "coverage_at_90.threshold": (0.8, 0.9)}
    values |= {"coverage_at_95": (0.0, 0.0)}
    return TableRow(name, name, SEEDS, values, found, MethodCost(1.0), chosen=False)


def group_of(root: Path, *rows: TableRow, in_domain: bool = True) -> RowGroup:
    place = Place("m", "t", "default", root, parse_config("name: x"), (), tested_on=("t",))
    return RowGroup(place, "t", in_domain, N, "options", rows)


def table(*cited: tuple[str, str]) -> Table:
    rows = dict.fromkeys(("base", "sft", *(name for pair in cited for name in pair)))
    return Table(name="x", title="X", question="?", methods=tuple(rows), cited=cited)


@pytest.fixture(scope="module")
def rows() -> dict[str, TableRow]:
    sizes = {"base": 0.02, "sft": 0.2, "sft+ts": 0.1, "cols+ts": 0.0, "ls+ts": 0.05}
    return {name: table_row(name, excess) for name, excess in sizes.items()}


def test_p_values_are_adjusted_over_all_that_is_cited(
    rows: dict[str, TableRow], tmp_path: Path
) -> None:
    pairs = (("cols+ts", "sft+ts"), ("cols+ts", "ls+ts"), ("cols+ts", "gone+ts"))
    asked = table(*pairs[:2]).model_copy(update={"cited": pairs})
    groups = [group_of(tmp_path, *rows.values()), group_of(tmp_path, *rows.values())]
    found = claims(asked, [*groups, group_of(tmp_path, *rows.values(), in_domain=False)])
    assert [(each.one.name, each.other.name) for each in found] == 2 * [pairs[0], pairs[1]]
    for metric in ("nll", "brier"):
        plain = [
            difference(each.one.resampled, each.other.resampled, metric).p_value for each in found
        ]
        assert [each.adjusted[metric] for each in found] == holm(plain)
    said = "\n".join(claims_page(asked, found))
    assert "Primary endpoint: NLL, then Brier, after a temperature" in said
    assert "over the 4 comparisons of this table by the same metric" in said
    assert "CoLS + TS - SFT + TS | m: t |" in said
    assert "*" not in said.replace("**", "")
    assert [len(each.to_json()["difference"]["nll"]) for each in found] == [4] * 4


def test_a_table_on_transfer_cites_what_is_out_of_domain(
    rows: dict[str, TableRow], tmp_path: Path
) -> None:
    asked = table(("cols+ts", "sft+ts")).model_copy(update={"where": "out_of_domain"})
    home = group_of(tmp_path, *rows.values())
    away = group_of(tmp_path, *rows.values(), in_domain=False)
    assert [each.group for each in claims(asked, [home, away])] == [away]
    assert claims(table(), [home]) == []
    assert list(claims_page(table(), [])) == []


def test_a_row_without_the_metric_is_compared_by_the_other(
    rows: dict[str, TableRow], tmp_path: Path
) -> None:
    mapped = rows["cols+ts"]
    mapped = replace(mapped, resampled=mapped.resampled.without("nll"))
    asked = table(("cols+ts", "sft+ts"))
    (claim,) = claims(asked, [group_of(tmp_path, mapped, rows["sft+ts"])])
    assert list(claim.found) == list(claim.adjusted) == ["brier"]
    assert "| – | – |" in "\n".join(claims_page(asked, [claim]))  # noqa: RUF001


def test_what_is_cited_is_a_row_with_a_temperature() -> None:
    for name in ("sft", "cols+ts"):
        with pytest.raises(ValueError, match=re.escape(f"with a temperature, got {name}")):
            Table(
                name="x", title="X", question="?", methods=("sft", "sft+ts"),
                cited=(("sft+ts", name),),
            )  # fmt: skip
    chosen = {"gated": Best(among=("sft",), posthoc=("ts",))}
    Table(
        name="x", title="X", question="?", methods=("sft", "sft+ts"), best=chosen,
        cited=(("gated+ts", "sft+ts"),),
    )  # fmt: skip


def test_few_comparisons_are_cited() -> None:
    for name in table_names():
        assert len(load_table(name).cited) <= 8, name
    assert load_table("main").cited


def test_verdicts_name_what_fails_and_whether_fine_tuning_paid(
    rows: dict[str, TableRow], tmp_path: Path
) -> None:
    blurred = table_row("cols", 0.0, noise=0.6)
    chosen = replace(rows["cols+ts"], name="gated", method="cols-options", chosen=True)
    group = group_of(tmp_path, *rows.values(), blurred, chosen)
    assert trust_text(group, rows["cols+ts"]) == "yes"
    assert trust_text(group, blurred).startswith("no: ")
    assert "AURC" in trust_text(group, blurred)
    assert trust_text(group, rows["sft"]) == ""
    (said, _) = verdict_lines(group)
    assert said.startswith("Fine-tuning itself did not pay: SFT against the base model, accuracy")
    assert "CoLS-options against the base model: accuracy equal" in said
    assert "Against SFT + TS, CoLS-options is better in Brier score" in said
    assert list(verdict_lines(group_of(tmp_path, rows["sft"], blurred))) == []


def test_pages_show_floors_coverages_and_what_they_mean(
    rows: dict[str, TableRow], tmp_path: Path
) -> None:
    group = group_of(tmp_path, *rows.values())
    page = "\n".join(methods_page(table(), [group]))
    assert page.count("| floor % |") == 2
    assert "answered % at 90% accuracy (from confidence %)" in page
    (line,) = [each for each in page.splitlines() if each.startswith("| Base | 45.0 (85.0) |")]
    assert "| 0.0 |" in line
    assert "Fine-tuning itself did not pay" in page
    for words in (
        "Stars are exploratory",
        "of the questions and of the seeds, each with whatever it draws",
        "perfectly calibrated model with the same confidences",
    ):
        assert words in page


def test_two_eces_within_their_floors_are_not_ranked(tmp_path: Path) -> None:
    for floor, marked in ((0.0, True), (0.5, False)):
        shown = [table_row("sft", 0.2), table_row("cols", 0.0, floor=floor)]
        shown.append(table_row("ls", 0.18, floor=floor))
        page = "\n".join(methods_page(table(), [group_of(tmp_path, *shown)]))
        (line,) = [each for each in page.splitlines() if each.startswith("| CoLS |")][:1]
        assert line.split(" | ")[2].startswith("**") == marked


def known(row: TableRow, method: str, *ends: float) -> TableRow:
    values = {
        **row.values,
        "known_first_epoch": (ends[0],) * 2,
        "known_last_epoch": (ends[1] - 0.01, ends[1] + 0.01),
    }
    return replace(row, name=method, method=method, values=values)


@pytest.fixture
def saturated(rows: dict[str, TableRow], tmp_path: Path) -> RowGroup:
    """One gate ends at 97 % known; the methods of the other rows are not open by what is known."""
    ends = {"cols@0.2": 0.97, "cols@0.2+ts": 0.97, "combls@0.1": 0.95, "ls@0.2": 0.99}
    ends |= {"cols-inverted@0.2": 0.98, "cols-oracle@0.2": 0.98}
    shown = [known(rows["cols+ts"], name, 0.47, last) for name, last in ends.items()]
    return group_of(tmp_path, rows["sft"], *shown)


def test_a_page_of_variants_says_what_can_be_done_with_the_answers(saturated: RowGroup) -> None:
    lines = list(variants_page(table(), [saturated]))
    (heads,) = (line for line in lines if line.endswith("trustworthy against SFT |"))
    assert heads.startswith("| model | variant | method | answered % at 90% accuracy")
    (row,) = (line for line in lines[lines.index(heads) :] if "| LS@0.2 |" in line)
    assert row.startswith("| m | default | LS@0.2 | 45.0 (85.0) |")
    assert row.endswith(f"| {trust_text(saturated, saturated.rows[-1])} |")


def test_what_was_known_is_shown_of_gated_rows_alone(saturated: RowGroup) -> None:
    expected = {
        "SFT": "–",  # noqa: RUF001
        "CoLS@0.2": "47–97!",  # noqa: RUF001
        "CoLS@0.2 + TS": "47–97!",  # noqa: RUF001
        "CoMbLS@0.1": "47–95",  # noqa: RUF001
        "LS@0.2": "–",  # noqa: RUF001
    }
    for page in (methods_page, variants_page):
        lines = [line.split(" | ") for line in page(table(), [saturated]) if line.startswith("|")]
        (at, heads) = next(
            (number, [cell.strip("| ") for cell in line])
            for number, line in enumerate(lines)
            if any("known %" in cell for cell in line)
        )
        rows = [
            dict(zip(heads, [cell.strip("| ") for cell in line], strict=True))
            for line in lines[at + 1 :]
            if len(line) == len(heads)
        ]
        shown = {row["method"]: row["known %"] for row in rows if row["method"] in expected}
        assert shown == expected


def test_open_gates_are_named_once(saturated: RowGroup, tmp_path: Path) -> None:
    said = open_gates([saturated, replace(saturated, in_domain=False)])
    assert said == (
        "Above 95 % known: CoLS@0.2 (97 %). There the gate is open for nearly every example, and "
        "the method is its ungated twin."
    )
    calm = group_of(tmp_path, *(row for row in saturated.rows if "cols@" not in row.name))
    assert open_gates([calm]) == ""
    assert "known: m: t: CoLS@0.2 (97 %). There" in open_gates([saturated, calm])


@pytest.mark.parametrize("opened", [True, False])
def test_page_and_terminal_warn_of_open_gates(
    opened: bool,
    saturated: RowGroup,
    small: Preset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = [row for row in saturated.rows if opened or "cols@" not in row.name]
    group = replace(saturated, rows=tuple(kept))
    monkeypatch.setattr(result_files, "collect", lambda outcome: [group])
    monkeypatch.setattr(harness.reproduce, "reproduce", lambda plan, *_: PlanOutcome(plan))
    preset = tmp_path / "small.yaml"
    preset.write_text(yaml.safe_dump(small.model_dump(mode="json")), encoding="utf-8")
    words = ["reproduce", "main", "--model", str(preset), "--limit-methods", "sft"]
    words += ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path)]
    assert cli.main(words) == 0
    page = (tmp_path / "main-small.md").read_text(encoding="utf-8")
    for text in (page, "".join(capsys.readouterr())):
        assert text.count("Above 95 % known: CoLS@0.2 (97 %). There the gate is open") == opened
        assert ("ungated twin" in text) == opened

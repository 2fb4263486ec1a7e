"""Means over out-of-domain tasks equal those of their rows; comparisons draw the tasks."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from cogcalib.harness.config import parse_config
from cogcalib.harness.report.resampled import resample
from cogcalib.harness.reproduce import load_table
from cogcalib.harness.reproduce.claims import claims
from cogcalib.harness.reproduce.definitions import Table
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.reproduce.table_rows import MethodCost, RowGroup, TableRow
from cogcalib.harness.reproduce.transfer import LEAST, Transfer, transfer_page, transfers
from cogcalib.metrics import drawn_tasks_bootstrap, holm
from cogcalib.records import Prediction

SEEDS = (0, 1)
METRICS = ("accuracy", "ece.options", "nll", "brier", "aurc")
TABLE = Table(
    name="x", title="X", question="?", methods=("sft", "sft+ts", "cols", "sft+platt"),
    drawn_against="sft+ts", cited=(("cols", "sft+ts"), ("cols", "sft")),
)  # fmt: skip


def answers(n: int, task: int, seed: int, excess: float) -> list[Prediction]:
    """Correct with the probability confidence - excess; of a task and seed the same for all."""
    drawn = np.random.default_rng([task, seed])
    sure = drawn.uniform(0.3, 0.75, n)
    correct = drawn.random(n) < sure
    shown = np.clip(sure + excess, 0.01, 0.99)
    nll = -np.log(np.where(correct, shown, 1 - shown))
    return [
        Prediction(f"q{i}", "t", "test", "A", "A" if right else "B", bool(right), float(loss),
                   {"options": float(c), "vocab": float(c)}, None, "m", "r")
        for i, (c, right, loss) in enumerate(zip(shown, correct, nll, strict=True))
    ]  # fmt: skip


def table_row(name: str, n: int, task: int, excess: float) -> TableRow:
    found = resample({s: answers(n, task, s, excess) for s in SEEDS}, 100, ranking=40)
    values = {metric: tuple(value.tolist()) for metric, value in found.values.items()}
    if name == "sft+platt":
        found = found.without("nll")
        values.pop("nll")
    return TableRow(name, name, SEEDS, values, found, MethodCost(1.0), chosen=False)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[RowGroup]:
    place = Place("m", "home", "default", tmp_path_factory.mktemp("r"), parse_config("name: x"), (),
                  tested_on=("home", "one", "two", "three", "tiny"))  # fmt: skip
    excess = {"sft": 0.2, "sft+ts": 0.1, "cols": 0.02, "sft+platt": 0.05}
    sizes = {"home": 300, "one": 300, "two": 250, "three": 400, "tiny": 50}
    return [
        RowGroup(
            place, task, task == "home", n, "options",
            tuple(table_row(name, n, number, each) for name, each in excess.items()),
        )
        for number, (task, n) in enumerate(sizes.items())
    ]  # fmt: skip


@pytest.fixture(scope="module")
def found(groups: list[RowGroup]) -> Transfer:
    (one,) = transfers(TABLE, groups)
    return one


def test_a_mean_is_that_of_its_rows(groups: list[RowGroup], found: Transfer) -> None:
    assert found.tasks == ("one", "two", "three")
    assert found.small == ("tiny",)
    assert LEAST == 200
    for name, row in found.rows.items():
        rows = [each for g in groups if g.task in found.tasks and (each := g.find(name))]
        assert len(rows) == 3
        for metric in METRICS:
            if (name, metric) != ("sft+platt", "nll"):
                by_hand = fmean(fmean(each.values[metric]) for each in rows)
                assert row.mean(metric) == pytest.approx(by_hand, rel=1e-12)
    own, sft = found.rows["cols"], found.rows["sft"]
    share = 1 - own.mean("ece.options") / sft.mean("ece.options")
    assert own.reductions["options"] == pytest.approx(share)


def test_a_difference_is_of_the_means_and_of_their_resamples(
    groups: list[RowGroup], found: Transfer
) -> None:
    assert list(found.against) == ["sft", "cols", "sft+platt"]
    assert list(found.against["cols"]) == list(METRICS)
    for metric in METRICS:
        difference, better = found.against["cols"][metric]
        means = [found.rows[name].mean(metric) for name in ("cols", "sft+ts")]
        assert difference.difference == pytest.approx(means[0] - means[1])
        pairs = [
            (a.resampled, b.resampled)
            for g in groups
            if g.task in found.tasks
            for a, b in g.pairs([("cols", "sft+ts")])
        ]
        gaps = [a.values[metric] - b.values[metric] for a, b in pairs]
        by_hand = drawn_tasks_bootstrap(gaps, [a.draws[metric] - b.draws[metric] for a, b in pairs])
        assert difference == by_hand
        sign = -1 if metric == "accuracy" else 1
        assert better == sum(sign * gap.mean() < 0 for gap in gaps)
    assert found.against["cols"]["nll"][1] == 3
    assert "nll" not in found.against["sft+platt"]


def test_the_cited_are_adjusted_and_stand_in_no_other_list(
    groups: list[RowGroup], found: Transfer
) -> None:
    assert [(each.one, each.other) for each in found.claims] == list(TABLE.cited)
    for metric in ("nll", "brier"):
        plain = [each.found[metric][0].p_value for each in found.claims]
        assert [each.adjusted[metric] for each in found.claims] == holm(plain)
    assert claims(TABLE, groups) == []


def test_the_page_opens_with_means_and_says_what_was_left_out(found: Transfer) -> None:
    said = "\n".join(transfer_page(TABLE, [found]))
    assert said.startswith("## m: mean over 3 out-of-domain tasks, trained on home")
    assert "one, two, three; left out, under 200 questions: tiny." in said
    assert "Against SFT + TS, tasks drawn" in said
    cols = found.rows["cols"]
    assert f"| CoLS | {100 * cols.mean('accuracy'):.1f} ± " in said
    assert "| 3 of 3 |" in said
    assert "over the 2 comparisons of this table by the same metric" in said
    assert "| CoLS - SFT + TS | m, 3 tasks |" in said
    widths = {
        text.count("|")
        for text in said.partition("Against")[2].partition("##")[0].splitlines()
        if text.startswith("|")
    }
    assert len(widths) == 1


def test_the_record_has_what_the_page_shows(found: Transfer) -> None:
    record = found.to_json()
    (cols,) = [row for row in record["rows"] if row["row"] == "cols"]
    assert cols["mean"]["nll"] == found.rows["cols"].mean("nll")
    difference = found.against["cols"]["nll"][0]
    assert cols["against"]["nll"] == [difference.difference, difference.low, difference.high]
    assert cols["better"]["nll"] == 3
    assert [len(each["difference"]["nll"]) for each in record["claims"]] == [4, 4]


def test_other_tables_have_none(groups: list[RowGroup]) -> None:
    plain = TABLE.model_copy(update={"drawn_against": None, "cited": ()})
    assert transfers(plain, groups) == []
    assert list(transfer_page(plain, [])) == []


def test_what_is_compared_with_must_be_a_row() -> None:
    with pytest.raises(ValueError, match="drawn_against must name a row, got cols"):
        Table(name="x", title="X", question="?", methods=("sft",), drawn_against="cols")


def test_the_shipped_table_names_its_comparison_beforehand() -> None:
    table = load_table("carry")
    assert table.cited == (("cols-options-gap", "sft+ts"),)
    assert table.endpoint == ("nll", "brier")
    assert table.drawn_against == "sft+ts"
    assert table.tune == "no"

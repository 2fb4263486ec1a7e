"""What a command asks of a table: rows, tasks, and the run folders that are still to be begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogcalib.harness.reproduce import Preset, Table, load_preset, load_table, make_plan
from cogcalib.harness.reproduce.requested import kept_rows, kept_tasks, place_path, unprepared
from cogcalib.records import InputError


def test_rows_keep_their_order_and_sft() -> None:
    table = load_table("main")
    kept = kept_rows(table, ["cols", "base"], ["base"])
    assert kept == ("sft", "cols")
    assert kept_rows(table) == table.methods


@pytest.mark.parametrize("name", ["main", "ood", "controls", "ratio", "families"])
def test_what_is_not_begun_is_what_a_plan_begins(name: str, tmp_path: Path) -> None:
    table, preset = load_table(name), load_preset("atlas")
    plan = make_plan(table, preset, tmp_path, seeds=[0], tune_seeds=[0])
    names = {place.path.name for place in plan.places}
    assert {config.name for config in unprepared(table, preset, tmp_path)} == names
    assert list(unprepared(table, preset, tmp_path)) != []


def test_a_run_folder_that_was_begun_needs_nothing_more(small: Preset, tmp_path: Path) -> None:
    table = Table(name="t", title="", question="", methods=("sft",))
    (task, *others) = kept_tasks(table, small)
    folder = place_path(tmp_path, small, task, "default")
    (folder / "splits").mkdir(parents=True)
    (folder / "splits" / "manifest.json").write_text("{}")
    assert [config.name for config in unprepared(table, small, tmp_path)] == others
    assert list(unprepared(table, small, tmp_path, [task])) == []
    with pytest.raises(InputError, match=r"t on small has no task contry; did you mean"):
        list(unprepared(table, small, tmp_path, ["contry"]))

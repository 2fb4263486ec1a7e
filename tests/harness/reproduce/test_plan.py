"""From a table to cells: what is shared, what waits for what, what does not apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogcalib.harness.reproduce import Cell, Plan, Preset, load_table, make_plan
from cogcalib.harness.reproduce.execute import check
from cogcalib.harness.reproduce.planned_cells import (
    baseline_cells,
    prepare_cells,
    row_cells,
    trial_cells,
)
from cogcalib.records import InputError


def plan(name: str, preset: Preset, root: Path, **settings: object) -> Plan:
    seeds = {"seeds": [0, 1], "tune_seeds": [0], **settings}
    return make_plan(load_table(name), preset, root, **seeds)


def test_tables_that_ask_the_same_share_a_run_folder(small: Preset, tmp_path: Path) -> None:
    main, ood = plan("main", small, tmp_path), plan("ood", small, tmp_path)
    assert ood.places[0].path == main.places[0].path == tmp_path / "small" / "country"
    assert ood.places[0].config == main.places[0].config
    assert main.places[0].config.methods == ("base",)
    assert main.places[0].config.seeds == (0,)


def test_a_cell_is_a_training_with_all_that_is_predicted_from_it(
    small: Preset, tmp_path: Path
) -> None:
    place = plan("main", small, tmp_path).places[0]
    cells = row_cells(place, ["sft", "sft+ts", "mc_dropout", "ensemble", "laplace"], [3])
    assert [(c.kind, c.method, c.seed, c.predicted) for c in cells] == [
        ("member", "sft", 1003, ()),
        ("train", "sft", 3, ("sft", "sft+ts")),
        ("train", "mc_dropout", 3, ("mc_dropout",)),
    ]
    later = baseline_cells(place, ["sft", "ensemble", "ensemble+platt", "laplace"], [3])
    assert [(c.method, c.predicted) for c in later] == [
        ("ensemble", ("ensemble", "ensemble+platt")),
        ("laplace", ("laplace",)),
    ]


def test_an_ensemble_alone_still_trains_its_first_member(small: Preset, tmp_path: Path) -> None:
    cells = row_cells(plan("main", small, tmp_path).places[0], ["ensemble"], [0])
    assert [(c.kind, c.seed) for c in cells] == [("member", 1000), ("member", 0)]


def test_a_probe_named_by_the_model_s_file_reaches_every_run_of_its_task(
    small: Preset, tmp_path: Path
) -> None:
    country, *others = small.tasks.items()
    tasks = {country[0]: {**country[1], "probe": "runs/probe"}, **dict(others)}
    named = plan("ratio", small.model_copy(update={"tasks": tasks}), tmp_path)
    assert {place.config.probe for place in named.places} == {"runs/probe"}
    sent = Cell.from_json(prepare_cells(named)[0].to_json())
    assert sent.place.config.probe == "runs/probe"


def test_what_needs_options_is_left_out_where_there_are_none(small: Preset, tmp_path: Path) -> None:
    choice, open_ended = plan("main", small, tmp_path).places
    assert {"cols-options", "sft+vector", "ensemble"} <= set(choice.methods)
    assert not {"cols-options", "sft+vector", "ensemble"} & set(open_ended.methods)
    assert "cols-options" not in open_ended.best["gated"].among


def test_a_task_file_of_one_s_own_says_whether_it_has_options(
    small: Preset, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    tasks = {"own": {"tasks": {"train": str(file)}}}
    preset = small.model_copy(update={"tasks": tasks})
    with pytest.raises(InputError, match="no such task file"):
        plan("main", preset, tmp_path)
    file.write_text(
        "name: own\ndescription: d\nkind: open-ended\nquestion: '{q}'\nanswer: a\n"
        "source: {parts: {all: {file: own.jsonl}}}\nsplits: {train: {part: all}}\n"
    )
    (place,) = plan("main", preset, tmp_path).places
    assert "cols" in place.methods
    assert "cols-options" not in place.methods


def test_a_plan_without_run_folders_or_rows_is_refused(small: Preset, tmp_path: Path) -> None:
    spoken = small.model_copy(update={"tasks": {"open": small.tasks["country-open"]}})
    for table in ("ood", "carry"):
        with pytest.raises(InputError, match=f"{table} on small: no task of .* out_of_domain"):
            plan(table, spoken, tmp_path)
    everything = load_table("main").methods
    with pytest.raises(InputError, match="no row of main is left to run"):
        plan("main", small, tmp_path, without=everything)
    others = [name for name in everything if name not in ("ensemble", "sft+vector")]
    with pytest.raises(InputError, match=r"has no row: sft\+vector, .* for multiple choice only"):
        plan("main", spoken, tmp_path, without=others)


def test_two_rows_never_share_a_run_folder(small: Preset, tmp_path: Path) -> None:
    """Task ``country-none`` beside task ``country`` under the variant ``none``."""
    table = load_table("style").model_copy(update={"where": "all"})
    tasks = dict.fromkeys(("country", "country-none"), small.tasks["country"])
    both = small.model_copy(update={"tasks": tasks})
    with pytest.raises(
        InputError, match=r"country-none would be the run folder of two: .*; rename one"
    ):
        make_plan(table, both, tmp_path, seeds=[0], tune_seeds=[0])


def test_tasks_that_the_whole_model_is_tested_on_count(small: Preset, tmp_path: Path) -> None:
    tasks = {"one": {"tasks": {"train": "atlas/country"}}}
    config = small.config | {"tasks": {"out_of_domain": ["atlas/capital"]}}
    tested = small.model_copy(update={"tasks": tasks, "config": config})
    (place,) = plan("ood", tested, tmp_path).places
    assert place.tested_on == ("atlas/country", "atlas/capital")


def test_a_row_that_cannot_be_trained_is_told_on_one_line(small: Preset, tmp_path: Path) -> None:
    table = load_table("main").model_copy(update={"methods": ("sft", "ls@2"), "best": {}})
    asked = make_plan(table, small, tmp_path, seeds=[0], tune_seeds=[0])
    with pytest.raises(InputError, match=r"^main on small/country: [^\n]*ls@2[^\n]*$"):
        check(asked)


def test_trials_cover_the_grid_and_sft(small: Preset, tmp_path: Path) -> None:
    limited = plan("main", small, tmp_path, limit_methods=["cols", "cols-auto", "focal"])
    names = [cell.method for cell in trial_cells(limited) if cell.place.task == "country"]
    assert names == ["sft", "cols@0.05", "cols@0.1", "cols@0.2", "cols@0.3"]
    assert "sft" in limited.places[0].methods


def test_what_is_held_against_the_base_model_waits_for_it(small: Preset, tmp_path: Path) -> None:
    place = plan("main", small, tmp_path).places[0]
    names = ["sft", "sft+daca", "ls+daca", "ensemble+daca"]
    cells = row_cells(place, names, [3, 4])
    found = [(c.kind, c.method, c.seed, c.predicted) for c in cells if c.seed < 5]
    assert found == [
        ("train", "base", 3, ("base",)),
        ("train", "sft", 3, ("sft",)),
        ("member", "ls", 3, ()),
        ("train", "sft", 4, ("sft",)),
        ("member", "ls", 4, ()),
    ]
    assert cells[0].further == (4,)
    assert [(c.method, c.predicted) for c in baseline_cells(place, names, [3])] == [
        ("sft", ("sft+daca",)),
        ("ls", ("ls+daca",)),
        ("ensemble", ("ensemble+daca",)),
    ]


def test_strengths_chosen_once_come_from_the_default_variant(small: Preset, tmp_path: Path) -> None:
    style = plan("style", small, tmp_path)
    assert {cell.place.variant for cell in trial_cells(style)} == {"default"}
    ratio = plan("ratio", small, tmp_path)
    (extra,) = [place for place in ratio.places if not place.methods]
    assert extra.variant == "default"
    assert {place.tuned_at for place in ratio.places} == {extra.path}
    assert len(prepare_cells(ratio)) == 7


def test_a_cell_travels_to_another_process(small: Preset, tmp_path: Path) -> None:
    place = plan("main", small, tmp_path).places[0]
    cell = Cell(place, "train", "cols@0.1", 7, ("cols@0.1", "cols@0.1+ts"))
    arrived = Cell.from_json(cell.to_json())
    assert arrived.key == cell.key
    assert arrived.place.config == place.config
    assert "\n" not in cell.to_json()
    assert arrived.missing()


def test_some_of_the_tasks(small: Preset, tmp_path: Path) -> None:
    whole = plan("main", small, tmp_path)
    one = plan("main", small, tmp_path, limit_tasks=["country-open"])
    assert [place.task for place in whole.shown()] == ["country", "country-open"]
    assert one.places == tuple(p for p in whole.places if p.task == "country-open")
    # In the preset's order, whatever that of the command.
    both = plan("main", small, tmp_path, limit_tasks=["country-open", "country"])
    assert both == whole
    with pytest.raises(InputError, match="has no task capital; there are country, country-open"):
        plan("main", small, tmp_path, limit_tasks=["capital"])
    with pytest.raises(InputError, match="ood on small has no task country-open; did you mean"):
        plan("ood", small, tmp_path, limit_tasks=["country-open"])


def test_what_is_chosen_on_the_first_task_is_so_without_its_rows(
    small: Preset, tmp_path: Path
) -> None:
    tasks = {"country": small.tasks["country"], "again": small.tasks["country"]}
    twice = small.model_copy(update={"tasks": tasks})
    limited = plan("paper", twice, tmp_path, limit_tasks=["again"])
    assert [place.task for place in limited.shown()] == ["again"]
    assert [place.task for place in limited.tuned()] == ["country"]
    assert limited.shown()[0].tuned_at == limited.tuned()[0].path
    assert {cell.place.task for cell in trial_cells(limited)} == {"country"}
    whole = plan("paper", twice, tmp_path)
    assert [c.key for c in trial_cells(limited)] == [c.key for c in trial_cells(whole)]


def test_a_run_folder_of_another_configuration_is_told_before_anything_runs(
    small: Preset, tmp_path: Path
) -> None:
    table = load_table("main")
    plan = make_plan(table, small, tmp_path, seeds=[0], tune_seeds=[0], limit_methods=["sft"])
    check(plan)
    assert not plan.places[0].path.exists()
    folder = plan.places[0].path
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: another\n", encoding="utf-8")
    with pytest.raises(InputError, match="a run of a different configuration"):
        check(plan)

"""Tables and presets as shipped: they parse, fit each other, and name what exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cogcalib.harness.config import Method
from cogcalib.harness.reproduce import (
    Preset,
    load_preset,
    load_table,
    make_plan,
    preset_names,
    table_names,
)
from cogcalib.harness.reproduce.definitions import merge
from cogcalib.records import InputError
from cogcalib.tasks import task_names

PAPER = ("meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-2-13b-hf", "mistralai/Mistral-7B-v0.1",
         "Qwen/Qwen2.5-7B")  # fmt: skip
TABLES = {"main", "paper", "ratio", "ood", "families", "full-finetune", "style", "threshold",
         "detector", "controls", "dynamics", "length", "carry"}  # fmt: skip


def test_everything_asked_for_is_shipped() -> None:
    assert set(table_names()) == TABLES
    assert {"atlas", "atlas-mistral", "atlas-qwen2", *PAPER} == set(preset_names())


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_compares_rows_it_has(name: str) -> None:
    table = load_table(name)
    rows = {*table.methods, *table.best}
    rows |= {f"{best}+{step}" for best, spec in table.best.items() for step in spec.posthoc}
    for one, other in table.pairs:
        for side in (one, other):
            variant, _, row = side.rpartition(":")
            assert row in rows, side
            assert not variant or variant in table.variants, side
    assert set(table.against) <= set(table.methods)
    for spec in table.best.values():
        assert set(spec.among) <= set(table.methods)


def test_a_table_of_ones_own_is_a_file_like_theirs(tmp_path: Path) -> None:
    written = tmp_path / "table.yaml"
    lines = ["name: mine", "title: t", "question: q", "methods: [base, cols@0.3]"]
    written.write_text("\n".join(lines), encoding="utf-8")
    table = load_table(str(written))
    assert (table.name, table.methods, table.tune) == ("mine", ("base", "cols@0.3"), "no")
    plan = make_plan(table, load_preset("atlas"), tmp_path / "runs", seeds=[0], tune_seeds=[0])
    assert {name for place in plan.places for name in place.methods} == {*table.methods}
    for name, message in (("main", "shipped table"), ("../mine", "name"), ("Mine", "name")):
        lines[0] = f"name: {name}"
        written.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_table(str(written))


@pytest.mark.parametrize("table", sorted(TABLES))
@pytest.mark.parametrize("model", ["atlas", *PAPER])
def test_a_table_can_be_laid_out_on_every_model(table: str, model: str, tmp_path: Path) -> None:
    plan = make_plan(load_table(table), load_preset(model), tmp_path, seeds=[0], tune_seeds=[0])
    assert plan.shown()
    for place in plan.places:
        assert {place.config.tasks.train, *place.config.tasks.out_of_domain} <= set(task_names())
        for name in place.methods:
            Method.parse(name)
    assert len({place.path for place in plan.places}) == len(plan.places)
    assert not any(tmp_path.iterdir())


def test_the_papers_models_run_its_tasks_as_blob_trains(tmp_path: Path) -> None:
    for name in PAPER:
        preset = load_preset(name)
        trained = {task["tasks"]["train"] for task in preset.tasks.values()}
        assert trained == {"openbookqa", "arc_challenge", "winogrande_s", "winogrande_m", "boolq",
                           "hotpotqa-train", "medmcqa-train", "medmcqa-open"}  # fmt: skip
        assert preset.config["model"]["lora"] == {"rank": 8, "alpha": 16, "dropout": 0.0}
        config = (
            make_plan(load_table("main"), preset, tmp_path, seeds=[0], tune_seeds=[0])
            .places[0]
            .config
        )
        assert config.train.steps * config.train.batch_size == 20000
        assert (config.train.batch_size, config.train.schedule) == (8, "linear")
        assert (config.baselines.members, config.baselines.passes) == (3, 10)
    assert load_preset(PAPER[0]).family == PAPER


def test_later_layers_win_key_by_key() -> None:
    merged = merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}, {"b": {"z": 4}})
    assert merged == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}


def test_names_that_do_not_exist_are_told_with_those_that_do(small: Preset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no table 'mian'; did you mean 'main'\? There are carry"):
        load_table("mian")
    with pytest.raises(InputError, match=r"table my\.yaml: no such file"):
        load_table("my.yaml")
    with pytest.raises(InputError, match=r"no model preset 'gpt-5'; there are atlas"):
        load_preset("gpt-5")
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        load_preset("nowhere.yaml")
    with pytest.raises(InputError, match="cols-soft is no row of main"):
        make_plan(load_table("main"), small, tmp_path, seeds=[0], tune_seeds=[0],
                  limit_methods=["cols-soft"])  # fmt: skip


OWN = {"name": "mine", "title": "t", "question": "q", "methods": ["sft", "sft+ts", "cols", "ls"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": []}, "at least one method"),
        ({"methods": ["sft", "sft"]}, "methods: must name at least one method, and none twice"),
        ({"methods": ["cols@0.1", "cols@0.10"]}, "are one method"),
        ({"variants": {}}, "variants must hold at least one"),
        (
            {"variants": {"default": {"about": "", "methods": ["sft", "colz"]}}},
            r"variants.default.methods: colz is no row; did you mean 'cols'\? There are sft",
        ),
        ({"variants": {"default": {"about": "", "methods": []}}}, "variants.default.methods: must"),
        ({"against": ["stf"]}, r"against: stf is no row; did you mean 'sft'"),
        ({"pairs": [["sft", "gated"]]}, "pairs: gated is no row; there are sft"),
        ({"pairs": [["fixd:cols", "cols"]]}, "pairs: fixd is no variant; did you mean 'fixed'"),
        ({"pairs": [["fixed:ls", "ls"]]}, "pairs: ls is no row of fixed:ls; did you mean"),
        ({"best": {"gated": {"among": ["colz"]}}}, "best.gated.among: colz is no row; did you"),
        ({"best": {"gated": {"among": []}}}, "best.gated.among must name at least one row"),
        ({"best": {"sft": {"among": ["cols"]}}}, "best.sft: must not be called like a method"),
        ({"best": {"a+ts": {"among": ["cols"]}}}, r"best.a\+ts: must not be called like"),
        (
            {"best": {"gated": {"among": ["cols"], "posthoc": ["tss"]}}},
            r"best.gated.posthoc: method 'cols\+tss': .*; did you mean 'cols\+ts'",
        ),
        ({"methods": ["cols"], "best": {"gated": {"among": ["cols"]}}}, "sft, which must be a row"),
    ],
)
def test_a_name_in_a_table_that_stands_for_nothing_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    written = tmp_path / "table.yaml"
    variants = {"default": {"about": ""}, "fixed": {"about": "", "methods": ["cols"]}}
    best = {"gated": {"among": ["cols"], "posthoc": ["ts"]}}
    pairs = [["fixed:cols", "cols"], ["gated+ts", "sft+ts"]]
    right = OWN | {"variants": variants, "best": best, "pairs": pairs, "against": ["gated"]}
    written.write_text(yaml.safe_dump(right), encoding="utf-8")
    load_table(str(written))
    written.write_text(yaml.safe_dump(OWN | {"variants": variants} | change), encoding="utf-8")
    with pytest.raises(InputError, match=message) as refused:
        load_table(str(written))
    assert "\n" not in str(refused.value)


def test_what_one_caller_does_to_a_preset_reaches_no_other() -> None:
    load_preset("atlas").config.clear()
    load_table("main").best.clear()
    assert load_preset("atlas").config
    assert load_table("main").best


def test_a_misspelt_key_of_a_preset_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nabuot: no\n", encoding="utf-8")
    with pytest.raises(InputError, match="abuot"):
        load_preset(str(path))


UNIFORM = {"cols": "ls", "combls": "mbls", "coecp": "ecp"}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_gated_and_uniform_are_chosen_from_the_same_number_of_methods(name: str) -> None:
    best = load_table(name).best
    if "gated" in best:
        stems = (each.partition("-") for each in best["gated"].among)
        mirrored = [UNIFORM[stem] + dash + rest for stem, dash, rest in stems]
        assert sorted(best["uniform"].among) == sorted(mirrored)


@pytest.mark.parametrize("name", sorted(TABLES))
@pytest.mark.parametrize("model", ["atlas", *PAPER])
def test_no_two_variants_are_the_same(name: str, model: str, tmp_path: Path) -> None:
    plan = make_plan(load_table(name), load_preset(model), tmp_path, seeds=[0], tune_seeds=[0])
    settings = {}
    for place in plan.shown():
        config = place.config.model_copy(update={"name": ""})
        key = (place.model, place.task, config.model_dump_json())
        assert settings.setdefault(key, place.variant) == place.variant


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": {"ful": {}}}, "no table has a variant ful; there are .*full"),
        ({"config": {"seeds": [3]}}, "seeds is the table's and the command's to say"),
        ({"tasks": {"one": {"methods": ["cols"]}}}, "methods is the table's"),
        ({"tasks": {"one": {"tasks": {"train": "atlas/contry"}}}}, "no task 'atlas/contry'"),
        ({"tasks": {}}, "tasks: Dictionary should have at least 1 item"),
        ({"tasks": {"one": {"tasks": "atlas/country"}}}, "tasks.one must say what is trained on"),
        ({"tasks": {"one": {"tasks": None}}}, "tasks.one must say what is trained on"),
        ({"tasks": {"one": {"train": {"steps": 3}}}}, "tasks.one must say what is trained on"),
        (
            {"tasks": {"one": {"tasks": {"train": "atlas/country", "out_of_domain": None}}}},
            "tasks.one.tasks.out_of_domain must be a list of tasks, got null",
        ),
        ({"name": ".."}, "name: String should match pattern"),
        ({"name": ""}, "name: String should match pattern"),
        ({"name": "foo/"}, "name: String should match pattern"),
        ({"family": ["atlas", "nosuch"]}, "small: family: there is no model preset 'nosuch'"),
    ],
)
def test_a_preset_that_says_what_nobody_reads_is_refused(
    small: Preset, change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small.model_dump(mode="json") | change), encoding="utf-8")
    table = load_table("families" if "family" in change else "main")
    with pytest.raises(InputError, match=message):
        make_plan(table, load_preset(str(path)), tmp_path, seeds=[0], tune_seeds=[0])

"""The embedded tasks: disjoint splits, sound options, nothing of them in the pretraining exams."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from cogcalib import load_task
from cogcalib.records import Example
from cogcalib.tasks import check_disjoint, compose, draw, halve
from cogcalib.tasks.atlas import TASKS, facts


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_sound(name: str) -> None:
    task = load_task(name)
    ids = [example.id for split in task.splits.values() for example in split]
    assert len(set(ids)) == len(ids)
    for split, examples in task.splits.items():
        assert examples
        for example in examples:
            assert (example.task, example.split) == (name, split)
            if example.options is not None:
                texts = [option.text for option in example.options]
                assert len(set(texts)) == len(texts) == 4


def test_the_trained_task_has_its_splits_by_city() -> None:
    splits = load_task("atlas/country").splits
    assert {name: len(examples) for name, examples in splits.items()} == {
        "train": 1600,
        "calibration": 2000,
        "test": 4200,
    }
    cities = {name: {e.prompt for e in examples} for name, examples in splits.items()}
    assert not cities["train"] & cities["test"]
    assert not cities["train"] & cities["calibration"]
    assert not cities["calibration"] & cities["test"]


def test_right_answers_are_spread_over_the_letters() -> None:
    answers = Counter(e.answer for e in load_task("atlas/country").splits["test"])
    assert set(answers) == set("ABCD")
    assert max(answers.values()) < 1.2 * min(answers.values())


def test_other_tasks_are_balanced_and_large_enough() -> None:
    for name in TASKS.keys() - {"atlas/country", "atlas/country-open", "atlas/capital"}:
        examples = load_task(name).splits["test"]
        assert 1000 <= len(examples) <= 1300
        answers = Counter(example.answer_text for example in examples)
        assert max(answers.values()) < 2 * len(examples) / len(answers)
    assert len(load_task("atlas/capital").splits["test"]) == 164


def test_what_one_caller_does_to_a_task_reaches_no_other() -> None:
    load_task("atlas/capital").splits["test"].clear()
    assert len(load_task("atlas/capital").splits["test"]) == 164


def test_wrong_options_are_wrong() -> None:
    row_of = {row["city"]: row for row in facts("cities")}
    for relation, column in (("neighbour", "neighbours"), ("language", "spoken")):
        for example in load_task(f"atlas/{relation}").splits["test"]:
            row = row_of[example.id.removeprefix(f"atlas/{relation}/")]
            true = {*row[column].split("|"), row["country"]}
            assert example.answer_text == row[relation]
            assert example.options is not None
            shown = {option.text for option in example.options} - {example.answer_text}
            assert not shown & true


def test_the_right_option_is_the_country_of_the_facts() -> None:
    country = {row["city"]: row["country"] for row in facts("cities")}
    for example in load_task("atlas/country").splits["test"]:
        city = example.id.removeprefix("atlas/country/")
        assert example.answer_text == country[city]


def test_loading_twice_gives_the_same_questions() -> None:
    assert load_task("atlas/country").splits == load_task("atlas/country").splits


def test_unknown_names_and_folders_are_refused(tmp_path: object) -> None:
    with pytest.raises(ValueError, match="there is no task 'atlas/river'"):
        load_task("atlas/river")
    with pytest.raises(ValueError, match="data_dir must be an existing folder"):
        load_task("atlas/country", data_dir=f"{tmp_path}/absent")


def test_a_leak_raises_whatever_id_split_and_option_order() -> None:
    example = load_task("atlas/country").splits["train"][0]
    copy = replace(example.reordered([3, 1, 0, 2]), id="other", split="test")
    with pytest.raises(ValueError, match=r"share 1 question"):
        check_disjoint({"train": [example], "test": [copy]})


def test_draw_is_seeded_ordered_and_bounded() -> None:
    pool = load_task("atlas/country").splits["train"]
    drawn = draw(pool, 50, seed=3)
    assert drawn == draw(pool, 50, seed=3)
    assert drawn != draw(pool, 50, seed=4)
    assert [e for e in pool if e in drawn] == drawn
    assert draw(pool, None, seed=3) == pool
    with pytest.raises(ValueError, match="limit for train must be at most 1600, got 1601"):
        draw(pool, 1601, seed=3)


def test_halves_are_disjoint_whole_and_of_their_seed() -> None:
    ids = [f"question {n}" for n in range(101)]
    first, second = halve(ids, seed=3)
    assert (len(first), len(second)) == (50, 51)
    assert first | second == set(ids)
    assert halve(reversed(ids), seed=3) == (first, second)
    assert len(first & halve(ids, seed=4)[0]) < 40  # 25 are expected of independent draws
    with pytest.raises(ValueError, match="at least 2 examples to be halved, got 1"):
        halve(["alone"], seed=0)


def test_compose_mixes_known_and_unknown() -> None:
    pool = load_task("atlas/country").splits["train"][:90]
    kinds = ["known", "unknown", "doubtful"]
    categories = {example.id: kinds[i % 3] for i, example in enumerate(pool)}

    def count(chosen: list[Example]) -> Counter[str]:
        return Counter(categories[example.id] for example in chosen)

    chosen = compose(pool, categories, size=25, unknown_share=0.8, seed=0)
    assert count(chosen) == {"unknown": 20, "known": 5}
    with pytest.raises(ValueError, match=r"needs 40 unknown ones, the train split has 30"):
        compose(pool, categories, size=40, unknown_share=1.0, seed=0)

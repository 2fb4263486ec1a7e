"""Multiple choice over the facts of EntityQuestions: an option's frequency must tell nothing."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.harness.reproduce import load_preset, load_table, make_plan
from cogcalib.tasks import load_task

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "smollm2"
COUNTRIES = (
    *("Iran", "France", "Poland", "Turkey", "Russia", "Norway", "Germany", "India", "Italy"),
    *("Japan", "Canada", "Spain", "Sweden", "Austria", "China", "Brazil", "Mexico", "Finland"),
)


@pytest.fixture(scope="module")
def make_tasks() -> Iterator[ModuleType]:
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("make_tasks")


@pytest.fixture(scope="module")
def make_word_tasks(make_tasks: ModuleType) -> ModuleType:
    """The script for single words, as a module."""
    return importlib.import_module("make_word_tasks")


@given(counts=st.lists(st.integers(1, 2), min_size=16, max_size=24), seed=st.text(max_size=3))
def test_every_answer_is_wrong_three_times_as_often_as_it_is_correct(
    make_tasks: ModuleType, counts: list[int], seed: str
) -> None:
    facts = [
        make_tasks.Fact(f"q{answer}-{copy}", (f"a{answer}", f"alias {answer}"))
        for answer, count in enumerate(counts)
        for copy in range(count)
    ]
    rows = make_tasks.question_rows(facts, seed=seed)
    correct = Counter(fact.answer for fact in facts)
    shown = Counter(option for row in rows for option in row["options"])
    assert shown == Counter({answer: 4 * count for answer, count in correct.items()})
    for fact, row in zip(facts, rows, strict=True):
        assert row["options"]["ABCD".index(row["answer"])] == fact.answer
        assert len(set(row["options"])) == 4
    # Known to the question, an answer's odds are a quarter, whichever it is.
    assert make_tasks.frequency_accuracy(rows, rows)["odds"] == 0.25
    assert rows == make_tasks.question_rows(facts, seed=seed)


def test_no_wrong_option_is_an_accepted_answer_in_another_spelling(make_tasks: ModuleType) -> None:
    facts = [make_tasks.Fact(f"q{number}", (f"a{number}",)) for number in range(8)] + [
        make_tasks.Fact("city?", ("New York City", "New York")),
        make_tasks.Fact("state?", ("new york",)),
    ]
    for seed in range(20):
        for row in make_tasks.question_rows(facts, seed=str(seed)):
            assert {"New York City", "new york"} - set(row["options"]) or row["question"] != "city?"


def test_too_few_answers_are_refused(make_tasks: ModuleType) -> None:
    facts = [make_tasks.Fact(f"q{number}", (f"a{number % 3}",)) for number in range(9)]
    with pytest.raises(ValueError, match="no wrong option for"):
        make_tasks.wrong_options(facts, seed="P0 test")


def test_tasks_of_real_facts_load_and_give_nothing_away(
    make_tasks: ModuleType, shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "facts"
    make_tasks.write_tasks(shared_data, output, only=("origin", "capital"))
    summary = json.loads((output / "tasks.json").read_text())
    for name in ("origin", "capital"):
        task = load_task(output / f"{name}.yaml")
        assert len(task.splits["test"]) == summary[name]["questions"]["test"]
        assert not task.dropped
        answers = Counter(
            example.options[ord(example.answer) - ord("A")].text for example in task.splits["test"]
        )
        assert max(answers.values()) <= 0.1 * answers.total() + 1
        assert summary[name]["frequency_alone"]["odds"] == pytest.approx(0.25, abs=0.02)
    with pytest.raises(FileExistsError):
        make_tasks.write_tasks(shared_data, output, only=("origin",))


def test_tasks_of_single_words_offer_one_token_each_and_share_no_question(
    make_word_tasks: ModuleType, shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "words"
    make_word_tasks.write_tasks(shared_data, output, {*COUNTRIES}, only=("country", "origin"))
    summary = json.loads((output / "tasks.json").read_text())
    country, origin = (load_task(output / f"{name}.yaml") for name in ("country", "origin"))
    assert set(country.splits) == {"train", "calibration", "test"}
    assert set(origin.splits) == {"test"}
    assert not country.dropped
    for example in (*country.splits["train"], *origin.splits["test"]):
        assert example.prompt.endswith("\nAnswer:")
        assert {option.letter for option in example.options} <= {f" {word}" for word in COUNTRIES}
        assert len({option.letter for option in example.options}) == 4
    assert summary["country"]["frequency_alone"]["odds"] == pytest.approx(0.25, abs=0.02)


def test_a_single_word_is_a_token_behind_a_space(make_word_tasks: ModuleType) -> None:
    class Vocabulary:
        texts = ("Peru", " Peru", " Oslo", "lo", " ")

        def __len__(self) -> int:
            return len(self.texts)

        def decode(self, tokens: list[int]) -> str:
            return "".join(self.texts[token] for token in tokens)

    assert make_word_tasks.single_words(Vocabulary()) == {"Peru", "Oslo"}


@pytest.mark.parametrize("name", ["smollm2.yaml", "smollm2_words.yaml"])
def test_the_preset_trains_and_asks_tasks_that_the_script_makes(
    make_tasks: ModuleType, make_word_tasks: ModuleType, name: str
) -> None:
    preset = load_preset(str(FOLDER / name))
    (sections,) = preset.tasks.values()
    trained, *others = (
        Path(path) for path in (sections["tasks"]["train"], *sections["tasks"]["out_of_domain"])
    )
    made = {
        "facts": (make_tasks.TRAINED, make_tasks.RELATIONS),
        "words": (make_word_tasks.TRAINED[0], make_word_tasks.OTHERS),
    }[trained.parent.name]
    assert trained.stem == made[0]
    assert {path.stem for path in others} <= set(made[1])


def test_the_table_of_single_words_is_one_that_can_be_run() -> None:
    table = load_table(str(FOLDER / "words.yaml"))
    assert {name for pair in table.cited for name in pair} <= set(table.methods)


def test_the_open_ended_table_is_laid_out_on_its_preset(tmp_path: Path) -> None:
    table = load_table(str(FOLDER / "open_ended.yaml"))
    preset = load_preset(str(FOLDER / "smollm2_open.yaml"))
    (place,) = make_plan(table, preset, tmp_path, seeds=[0], tune_seeds=[0]).places
    assert set(place.methods) == set(table.methods)
    train, steps = place.config.train, place.config.tasks.limit["train"] / 8
    assert steps / int(train.threshold_every) >= 3

"""The small model of real facts: what is read, what is asked, what the tasks get, and resuming."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from cogcalib.harness.reproduce import load_preset
from cogcalib.records import Example
from cogcalib.tasks import load_task

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "entity"
SPLITS = ("train", "calibration", "test")


@pytest.fixture(scope="module")
def module() -> Iterator[Callable[[str], ModuleType]]:
    """The experiment's files import each other by their bare names, as scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module


@pytest.fixture(scope="module")
def real(
    module: Callable[[str], ModuleType], shared_data: Path
) -> tuple[list[Any], dict[str, int]]:
    """The facts of all relations."""
    relations = module("statements").RELATIONS
    found: tuple[list[Any], dict[str, int]] = module("facts").read_facts(
        shared_data, relations, seed=0
    )
    return found


def some_facts(module: Callable[[str], ModuleType], number: int = 240) -> list[Any]:
    facts, relations = module("facts"), module("statements").RELATIONS
    found = []
    for index in range(number):
        relation = ("P19", "P17")[index % 2]
        subject, split = f"Person {index}", SPLITS[index % 3]
        prompt = relations[relation].question.format(subject)
        answer = ("Oslo", "Lima", "Łódź")[index % 7 % 3]
        example = Example(str(index), "entity_questions", split, prompt, None, answer, ("Paris",))
        asked = split == "train" and facts.draw(0, "asked", prompt) < facts.ASKED
        readings = facts.readings_of(prompt, 0, always=asked)
        found.append(facts.Fact(example, relation, subject, readings, asked))
    return found


def test_every_relation_is_told_in_several_ways_and_never_asked(
    module: Callable[[str], ModuleType],
) -> None:
    relations = module("statements").RELATIONS
    assert len(relations) == len({relation.name for relation in relations.values()}) == 24
    for relation in relations.values():
        assert len(set(relation.statements)) >= 4
        for statement in relation.statements:
            assert statement.count("{subject}") == statement.count(" {answer}") == 1
            assert statement.index("{subject}") < statement.index("{answer}")
            assert statement.endswith(".")
        assert relation.subject(relation.question.format("Ada's B?")) == "Ada's B?"
        assert relation.subject("How old is Ada?") is None


def test_the_draw_depends_on_question_and_seed_alone(module: Callable[[str], ModuleType]) -> None:
    facts = module("facts")
    readings = [facts.readings_of(f"Where was {n} born?", 0) for n in range(4000)]
    assert readings == [facts.readings_of(f"Where was {n} born?", 0) for n in range(4000)]
    assert readings != [facts.readings_of(f"Where was {n} born?", 1) for n in range(4000)]
    assert readings.count(0) / 4000 == pytest.approx(facts.UNREAD, abs=0.03)
    assert max(readings) == facts.MOST
    # As many are read 1 to 7 times as 8 to 64 times: the logarithm is uniform.
    read = [number for number in readings if number]
    assert sum(number < 8 for number in read) / len(read) == pytest.approx(0.5, abs=0.04)
    assert all(facts.readings_of(f"{n}", 0, always=True) for n in range(400))


def test_only_facts_set_aside_are_asked_and_unread_ones_never_occur(
    module: Callable[[str], ModuleType],
) -> None:
    facts = some_facts(module)
    documents, order = module("facts").corpus(facts, 0)
    texts = [documents[index].prompt + documents[index].completion for index in order]
    assert module("facts").corpus(facts, 0)[1] == order
    for fact in facts:
        about = [text for text in texts if f"{fact.subject} " in text or f"{fact.subject}?" in text]
        asked = [text for text in about if text.startswith("Question: ")]
        assert len(asked) == (fact.readings if fact.asked else 0)
        assert len(about) - len(asked) == fact.readings
        assert all(fact.example.answer in text for text in about)


def test_the_tasks_hold_everything_but_the_facts_set_aside(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    facts = some_facts(module)
    for name, text in module("facts").task_files(facts):
        (tmp_path / name).write_text(text, encoding="utf-8")
    tasks = [load_task(tmp_path / f"{name}.yaml") for name in ("birthplace", "country")]
    held = {e.prompt: e for task in tasks for split in task.splits.values() for e in split}
    assert set(held) == {fact.example.prompt for fact in facts if not fact.asked}
    first = facts[1].example
    assert (held[first.prompt].answer, held[first.prompt].split) == (first.answer, first.split)
    assert held[first.prompt].aliases == ("Paris",)


def test_every_question_gives_its_subject(real: tuple[list[Any], dict[str, int]]) -> None:
    facts, left_out = real
    assert left_out["worded otherwise"] < 0.01 * len(facts)
    assert left_out["repeated"] < 0.02 * len(facts)
    assert len({fact.relation for fact in facts}) == 24


def test_every_split_of_every_relation_is_read_in_part(
    real: tuple[list[Any], dict[str, int]],
) -> None:
    facts, _ = real
    all_of = Counter((fact.relation, fact.example.split) for fact in facts if not fact.asked)
    unread = Counter((fact.relation, fact.example.split) for fact in facts if not fact.readings)
    for group, number in all_of.items():
        assert 0.2 < unread[group] / number < 0.5
    assert len(all_of) == 24 * 3


def test_facts_set_aside_stand_in_no_other_split(real: tuple[list[Any], dict[str, int]]) -> None:
    facts, _ = real
    asked = {fact.example.prompt for fact in facts if fact.asked}
    assert {fact.example.split for fact in facts if fact.asked} == {"train"}
    assert not asked & {fact.example.prompt for fact in facts if not fact.asked}
    assert 0.18 < len(asked) / sum(fact.example.split == "train" for fact in facts) < 0.22


def test_the_preset_asks_tasks_that_the_default_build_writes(
    module: Callable[[str], ModuleType],
) -> None:
    preset = load_preset(str(FOLDER / "entity.yaml"))
    assert preset.config["model"]["path"] == "runs/models/entity"
    for sections in preset.tasks.values():
        tasks = sections["tasks"]
        for task in (tasks["train"], *tasks["out_of_domain"]):
            folder, file = task.rsplit("/", 1)
            assert folder == "runs/models/entity/tasks"
            assert file.removesuffix(".yaml") in module("pretrain").DEFAULT


@pytest.fixture
def command(
    module: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Path], None]:
    """Builds a tiny model of made-up facts into a folder."""
    pretrain = module("pretrain")
    data = tmp_path / "data"
    (data / "entity_questions").mkdir(parents=True)
    (data / "entity_questions" / "train.jsonl").write_text("{}\n")
    facts = some_facts(module)
    monkeypatch.setattr(pretrain, "read_facts", lambda *_, **__: (facts, {"repeated": 0}))
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", 0)

    def build(output: Path, *more: str) -> None:
        sizes = ["--width", "32", "--layers", "1", "--vocabulary", "400", "--tokens", "2048"]
        pretrain.main(["--data-dir", str(data), "--output", str(output), *sizes, *more])

    return build


def test_a_build_writes_model_record_facts_and_tasks(
    command: Callable[..., None], tmp_path: Path
) -> None:
    command(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "build.json").read_text(encoding="utf-8"))
    rows = (tmp_path / "model" / "facts.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "id,relation,split,asked,readings,right"
    assert len(rows) == 241
    assert sum(row["n"] for row in record["right"]) == 240
    assert record["losses"][-1][0] == record["steps"]
    assert set(record["data"]) == {"train.jsonl"}
    assert load_task(tmp_path / "model" / "tasks" / "country.yaml").name == "entity/country"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "model"]


def test_an_estimate_writes_nothing(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(tmp_path / "model", "--estimate")
    assert "of processor time" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_an_interrupted_build_goes_on_to_the_same_weights(
    command: Callable[..., None],
    module: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretrain, steps = module("pretrain"), 0
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command(whole)
    step = pretrain.step

    def interrupted(*values: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return step(*values)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command(cut)
    assert not cut.exists()
    with pytest.raises(ValueError, match="made with other settings"):
        command(cut, "--seed", "1")
    command(cut)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert all(first[name].equal(second[name]) for name in first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "data", "whole"]

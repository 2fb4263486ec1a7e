"""The tasks of the paper on the real data: counts, repeats, draws, prompts' raw material."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import cogcalib.tasks
from cogcalib.tasks import check_disjoint, load_task, loading, summaries, task_names
from cogcalib.tasks.catalog import definitions
from cogcalib.tasks.read import Row, read_part
from cogcalib.tasks.splits import SPLITS

DEFINITIONS = Path(cogcalib.tasks.__file__).parent / "definitions"
SHIPPED = [name for name in task_names() if not name.startswith("atlas/")]
# Their train splits are not in the folder of data.
OWN_TRAIN = ("hotpotqa-train", "medmcqa-train")
STORED = ("train", "validation", "test")
RELATIONS = [name for name in SHIPPED if name.startswith("entity_questions/")]
# Each looks through 220,000 rows.
QUICK = [n for n in SHIPPED if not n.startswith("entity_questions")] + RELATIONS[6:8]


@pytest.fixture(scope="module")
def read_once() -> Iterator[None]:
    """Every file is read once, not once for each of 24 relations."""
    with pytest.MonkeyPatch.context() as patch:
        cached: dict[tuple[str, Path | None], list[Row]] = {}

        def read(source: Any, name: str, folder: Path | None) -> list[Row]:
            key = (source.parts[name].file, folder)
            if key not in cached:
                cached[key] = read_part(source, name, folder)
            return cached[key]

        patch.setattr(loading, "read_part", read)
        yield


# Column with what is asked, and the file of train, calibration and test.
FILES = {
    "arc_challenge": ("question", *(f"ai2_arc/ARC-Challenge/{s}" for s in STORED)),
    "arc_easy": ("question", *(f"ai2_arc/ARC-Easy/{s}" for s in STORED)),
    "openbookqa": ("question_stem", *(f"openbookqa/{s}" for s in STORED)),
    "mmlu": ("question", "mmlu/dev", "mmlu/validation", "mmlu/test"),
    "entity_questions": ("question", *(f"entity_questions/{s}" for s in ("train", "dev", "test"))),
}
# Splits that share a file between them, no row left over.
DRAWN = {
    "boolq": [(("train", "calibration"), "boolq/train"), (("test",), "boolq/validation")],
    "winogrande_m": [
        (("train", "calibration"), "winogrande/train_m"),
        (("test",), "winogrande/validation"),
    ],
    "winogrande_s": [(("train",), "winogrande/train_s"), (("test",), "winogrande/validation")],
    "hotpotqa": [(("train", "calibration", "test"), "hotpotqa/validation")],
    "medmcqa": [(("train", "calibration", "test"), "medmcqa/validation")],
}


@functools.cache
def raw_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def without_repeats(name: str, folder: Path, relation: str = "") -> dict[str, int]:
    """Rows of each split's file whose question stands in no later split's."""
    column, *files = FILES[name]
    asked = [
        [
            " ".join(row[column].split())
            for row in raw_rows(folder / f"{file}.jsonl")
            if not relation or row["relation"] == relation
        ]
        for file in files
    ]
    later: set[str] = set()
    counted = {}
    for split, questions in reversed([*zip(SPLITS, asked, strict=True)]):
        counted[split] = sum(question not in later for question in questions)
        later |= set(questions)
    return counted


@functools.cache
def loaded(name: str, folder: Path) -> Any:
    return load_task(name, folder)


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in SHIPPED
        if name not in ("entity_questions", *OWN_TRAIN)
    ],
)
def test_every_task_loads_with_its_counts(name: str, shared_data: Path) -> None:
    task = loaded(name, shared_data)
    counted = {split: len(examples) for split, examples in task.splits.items()}
    # Loading compares with the task's file; this compares with what the files of rows hold.
    whole, _, relation = name.partition("/")
    if whole in FILES and (not relation or whole == "entity_questions"):
        assert counted == without_repeats(whole, shared_data, relation)
    elif whole in DRAWN:
        for splits, file in DRAWN[whole]:
            rows = len(raw_rows(shared_data / f"{file}.jsonl"))
            assert sum(counted[split] for split in splits) == rows
    assert list(counted) == ["train", "calibration", "test"]
    for split, examples in task.splits.items():
        assert {(e.task, e.split) for e in examples} == {(name, split)}
        assert len({e.id for e in examples}) == len(examples)
    check_disjoint(task.splits)


def repeats(task: Any) -> dict[tuple[str, str], tuple[int, int]]:
    return {(r.split, r.found_in): (r.questions, r.rows) for r in task.dropped}


def test_repeats_are_dropped_from_the_earlier_split_and_counted(shared_data: Path) -> None:
    assert repeats(loaded("openbookqa", shared_data)) == {
        ("train", "test"): (22, 22),
        ("train", "calibration"): (12, 22),
    }
    assert repeats(loaded("arc_challenge", shared_data)) == {
        ("train", "test"): (6, 6),
        ("calibration", "test"): (2, 2),
    }
    for name in ("openbookqa", "arc_challenge", "arc_easy", "mmlu"):
        splits = loaded(name, shared_data).splits
        asked = {split: {e.prompt for e in examples} for split, examples in splits.items()}
        assert not asked["train"] & (asked["test"] | asked["calibration"])
        assert not asked["calibration"] & asked["test"]


@pytest.mark.slow
def test_all_of_entity_questions(shared_data: Path) -> None:
    task = load_task("entity_questions", shared_data)
    assert repeats(task)["train", "test"] == (368, 577)
    counted = {split: len(examples) for split, examples in task.splits.items()}
    assert counted == without_repeats("entity_questions", shared_data)


def test_relations_add_up(shared_data: Path) -> None:
    rows = {line.name: line.rows for line in summaries()}
    assert sum(rows[name]["test"] for name in RELATIONS) == rows["entity_questions"]["test"]
    assert len(RELATIONS) == 24


def test_equal_options_of_the_source_are_counted(shared_data: Path) -> None:
    expected = {
        "medmcqa": {"train": 9, "calibration": 5, "test": 7},
        "mmlu": {"train": 1, "calibration": 3, "test": 9},
        "openbookqa": {"train": 3},
        "arc_challenge": {},
    }
    for name, counted in expected.items():
        assert loaded(name, shared_data).equal_options == counted


def test_labels_are_shown_as_letters_and_kept(shared_data: Path) -> None:
    splits = loaded("arc_challenge", shared_data).splits
    examples = [example for split in splits.values() for example in split]
    assert {len(e.options or ()) for e in examples} == {3, 4, 5}
    numbered = [e for e in examples if (e.options or ())[0].label]
    assert numbered
    for example in numbered:
        shown = [(option.letter, option.label) for option in example.options or ()]
        assert shown == list(zip("ABCD", "1234", strict=True))[: len(shown)]
    source = {
        row["id"]: row
        for split in ("train", "validation", "test")
        for row in map(
            json.loads,
            (shared_data / "ai2_arc/ARC-Challenge" / f"{split}.jsonl").read_text().splitlines(),
        )
    }
    for example in examples:
        row = source[example.id]
        texts = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
        assert example.answer_text == texts[row["answerKey"]].strip()


def test_pairs_and_passages_stay_on_one_side(shared_data: Path) -> None:
    for size in "sm":
        splits = loaded(f"winogrande_{size}", shared_data).splits
        frames = {
            split: {tuple(sorted(map(twin_key, e.options or ()))) for e in splits[split]}
            for split in ("train", "calibration")
        }
        assert not frames["train"] & frames["calibration"]
    splits = loaded("boolq", shared_data).splits
    passages = {split: {e.context for e in splits[split]} for split in ("train", "calibration")}
    assert not passages["train"] & passages["calibration"]


def twin_key(option: Any) -> str:
    """The beginning of a sentence, which the two of a pair share."""
    return option.text[:40]


def test_winogrande_asks_by_substitution(shared_data: Path) -> None:
    for example in loaded("winogrande_s", shared_data).splits["test"]:
        first, second = (option.text for option in example.options or ())
        assert "_" not in first + second
        assert first != second


def test_blob_turns_the_labels_of_boolq_round(shared_data: Path) -> None:
    ours = loaded("boolq", shared_data).splits["test"]
    blob = load_task("boolq", shared_data, prompt="blob").splits["test"]
    laplace = load_task("boolq", shared_data, prompt="laplace").splits["test"]
    for a, b, c in zip(ours, blob, laplace, strict=True):
        assert a.id == b.id == c.id
        assert (a.answer, b.answer, c.answer) in {("A", "False", "True"), ("B", "True", "False")}
        assert a.answer_text == b.answer_text == c.answer_text


def test_open_ended_answers_have_their_aliases(shared_data: Path) -> None:
    name = RELATIONS[6]
    source = {
        (row["question"], *row["answers"])
        for row in raw_rows(shared_data / "entity_questions/test.jsonl")
        if row["relation"] == name.partition("/")[2]
    }
    test = loaded(name, shared_data).splits["test"]
    assert any(len(answers) > 2 for answers in source)
    for example in test:
        first, *others = (
            answers
            for question, *answers in source
            if question == example.prompt and answers[0] == example.answer
        )
        assert not others
        assert example.aliases == tuple(dict.fromkeys(first[1:]))


def test_questions_that_need_their_options_are_left_out(shared_data: Path) -> None:
    test = loaded("medmcqa-open", shared_data).splits["test"]
    assert all(e.options is None and not e.aliases for e in test)
    assert not any("following" in e.prompt.lower() for e in test)
    splits = loaded("medmcqa-open", shared_data).splits
    asked = {example.prompt for examples in splits.values() for example in examples}
    everything = {row["question"] for row in raw_rows(shared_data / "medmcqa/validation.jsonl")}
    picture = {"Name the structure marked with arrow", "Which marker shows holocrine gland?"}
    text = {"The cribriform plate connects", "Resolution of IOPA radiograph is?"}
    assert picture | text <= everything
    assert text <= asked
    assert not picture & asked


@pytest.mark.parametrize("name", OWN_TRAIN)
def test_a_task_with_its_own_train_split_tests_what_the_other_does(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    whole = name.removesuffix("-train")
    source = raw_rows(shared_data / whole / "validation.jsonl")
    folder = tmp_path / whole
    folder.mkdir()
    (folder / "validation.jsonl").symlink_to(shared_data / whole / "validation.jsonl")
    # One question of train stands in validation, too.
    new = [row | {"id": f"new-{n}", "question": f"{n}? {row['question']}"}
           for n, row in enumerate(source[:40])]  # fmt: skip
    lines = [json.dumps(row) + "\n" for row in [*new, source[0]]]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    written = yaml.safe_load((DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert written["source"]["parts"]["train"].pop("rows") > 90_000
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(written | {"name": "own"}), encoding="utf-8")
    task, other = load_task(tmp_path / "task.yaml", tmp_path), loaded(whole, shared_data)
    assert [e.id for e in task.splits["test"]] == [e.id for e in other.splits["test"]]
    assert len(task.splits["train"]) == 40
    assert [(r.split, r.rows) for r in task.dropped if r.split == "train"] == [("train", 1)]


@pytest.mark.parametrize("name", ["openbookqa", "winogrande_s"])
def test_the_hub_gives_the_same_task(
    name: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    definition = definitions()[name]
    asked = []

    def serve(hub: str, config: str | None, *, split: str, revision: str) -> datasets.Dataset:
        asked.append((hub, revision))
        (part,) = [
            part
            for key, part in definition.source.parts.items()
            if (part.split or key, part.config or definition.source.config) == (split, config)
        ]
        lines = (shared_data / str(part.file)).read_text().splitlines()
        return datasets.Dataset.from_list([json.loads(line) for line in lines])

    monkeypatch.delenv("COGCALIB_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", serve)
    assert load_task(name).splits == loaded(name, shared_data).splits
    assert set(asked) == {(definition.source.hub, definition.source.revision)}


def test_a_wrong_number_of_rows_is_told(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "openbookqa"
    folder.mkdir()
    for file in (shared_data / "openbookqa").iterdir():
        lines = file.read_text().splitlines(keepends=True)
        (folder / file.name).write_text("".join(lines[:-1] if file.stem == "test" else lines))
    with pytest.raises(ValueError, match=r"test\.jsonl: expected 500 rows, found 499"):
        load_task("openbookqa", tmp_path)


def test_the_environment_names_the_folder(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGCALIB_DATA", str(shared_data))
    assert load_task("arc_challenge").splits == loaded("arc_challenge", shared_data).splits
    monkeypatch.setenv("COGCALIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"ARC-Challenge/test\.jsonl: no such data file"):
        load_task("arc_challenge")
    monkeypatch.setenv("COGCALIB_DATA", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="COGCALIB_DATA must name an existing folder"):
        load_task("arc_challenge")


@pytest.mark.parametrize("name", OWN_TRAIN)
def test_a_missing_train_split_names_the_task_that_does_without(name: str, tmp_path: Path) -> None:
    other = name.removesuffix("-train")
    (tmp_path / other).mkdir()
    (tmp_path / other / "validation.jsonl").touch()
    said = rf"{other}/train\.jsonl: no such data file; the task {other} carves its train split"
    with pytest.raises(ValueError, match=said):
        load_task(name, tmp_path)


def test_what_is_not_on_the_hub_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COGCALIB_DATA", raising=False)
    with pytest.raises(ValueError, match=r"princeton-nlp/EntityQuestions and name the folder"):
        load_task("entity_questions/P17")


def test_every_task_names_its_origin() -> None:
    for definition in definitions().values():
        assert definition.paper
        assert definition.licence != "not stated"
        assert definition.source.hub or definition.source.homepage
        assert all(part.rows and part.file for part in definition.source.parts.values())
        uncounted = [name for name, split in definition.splits.items() if not split.rows]
        assert uncounted == (["train"] if definition.name in OWN_TRAIN else [])
        assert all(group.rows for group in definition.groups.values())
        if definition.source.hub:
            assert len(definition.source.revision) == 40

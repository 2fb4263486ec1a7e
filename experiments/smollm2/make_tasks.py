"""Multiple choice by letter over the facts of EntityQuestions, for a real language model.

Each question keeps its correct answer and gets three wrong ones that answer other questions of its
relation and split. The three columns of wrong options are permutations of the column of correct
answers: an option is wrong three times as often as it is correct, whichever it is, so that how
common it is tells nothing. `tasks.json` has what two models of frequency alone get on test.

    python experiments/smollm2/make_tasks.py --data-dir DATA --output runs/tasks/facts
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogcalib.yaml_files import dump_yaml

RELATIONS = {
    "country": "P17",
    "origin": "P495",
    "capital": "P36",
    "language": "P407",
    "occupation": "P106",
    "manufacturer": "P176",
    "genre": "P136",
    "author": "P50",
    "headquarters": "P159",
    "label": "P264",
    "university": "P69",
    "birthplace": "P19",
}
"""Name of a task -> relation of Wikidata."""
FILES = {"train": "train", "calibration": "dev", "test": "test"}
"""Split -> the data set's name of it."""
MOST = {"train": 4000, "calibration": 1000, "test": 200}
"""Split -> most questions kept of it. Many small tasks say more about transfer than a few
large ones."""
TRAINED = "country"
"""The task that is trained on: all questions of its test split are kept."""
LETTERS = "ABCD"
WORDING = {
    "question": "{question}",
    "options": {"column": "options", "labels": list(LETTERS)},
    "answer": "answer",
}
"""How the rows of a task become questions."""
COMMONEST = 0.1
"""Largest share of a split that one answer may have. Above a quarter no permutation could keep a
question's four options apart."""


@dataclass(frozen=True)
class Fact:
    """A question and what answers it.

    Attributes:
        question: Its text.
        answers: Accepted answers, the canonical one first.
    """

    question: str
    answers: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The canonical answer."""
        return self.answers[0]

    def accepts(self, text: str) -> bool:
        """Whether an option would be correct, too, but for its spelling."""
        return _folded(text) in {_folded(answer) for answer in self.answers}


def _folded(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()


def drawn(facts: Sequence[Fact], most: int) -> list[Fact]:
    """At most so many, in the order of a hash, no answer in more than its share of them."""
    kept = sorted(facts, key=lambda fact: hashlib.sha256(fact.question.encode()).digest())
    # Thinned, cut, and thinned again: what is cut may leave an answer above its share.
    return _thinned(_thinned(kept)[:most])


def _thinned(facts: Sequence[Fact]) -> list[Fact]:
    kept = list(facts)
    while True:
        allowed = max(1, int(COMMONEST * len(kept)))
        seen: Counter[str] = Counter()
        fewer = []
        for fact in kept:
            seen[_folded(fact.answer)] += 1
            if seen[_folded(fact.answer)] <= allowed:
                fewer.append(fact)
        if len(fewer) == len(kept):
            return kept
        kept = fewer


def wrong_options(facts: Sequence[Fact], *, seed: str) -> list[tuple[str, str, str]]:
    """Three wrong options for each fact, every answer as often in each column as it is correct.

    Raises:
        ValueError: If the answers leave no such columns.
    """
    rng = random.Random(seed)
    columns: list[list[str]] = []
    for _ in range(3):
        column = [fact.answer for fact in facts]
        rng.shuffle(column)

        def clashes(row: int, text: str) -> bool:
            others = {_folded(other[row]) for other in columns}
            return facts[row].accepts(text) or _folded(text) in others

        for row in range(len(facts)):
            if not clashes(row, column[row]):
                continue
            for other in rng.sample(range(len(facts)), len(facts)):
                if not clashes(row, column[other]) and not clashes(other, column[row]):
                    column[row], column[other] = column[other], column[row]
                    break
            else:
                raise ValueError(f"{seed}: no wrong option for {facts[row].question!r}")
        columns.append(column)
    return list(zip(*columns, strict=True))


def question_rows(facts: Sequence[Fact], *, seed: str) -> list[dict[str, object]]:
    """A row of a task for each fact, its options in an order drawn by its question."""
    rows: list[dict[str, object]] = []
    for fact, wrong in zip(facts, wrong_options(facts, seed=seed), strict=True):
        options = [fact.answer, *wrong]
        random.Random(f"{seed} {fact.question}").shuffle(options)
        letter = LETTERS[options.index(fact.answer)]
        rows.append({"question": fact.question, "options": options, "answer": letter})
    return rows


def frequency_accuracy(
    train: Sequence[Mapping[str, object]], test: Sequence[Mapping[str, object]]
) -> dict[str, float]:
    """Expected accuracy on test of two models that know how common the options of train are.

    `correct`: takes the option that is correct most often. `odds`: the one that is correct most
    often for each time it stands among the options. Ties are shared.
    """
    correct: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for row in train:
        options = list(row["options"])  # type: ignore[call-overload]
        shown.update(options)
        correct[options[LETTERS.index(str(row["answer"]))]] += 1

    def accuracy(score: Mapping[str, float]) -> float:
        total = 0.0
        for row in test:
            options = list(row["options"])  # type: ignore[call-overload]
            best = max(score.get(option, 0.0) for option in options)
            tied = [option for option in options if score.get(option, 0.0) == best]
            gold = options[LETTERS.index(str(row["answer"]))]
            total += (gold in tied) / len(tied)
        return round(total / len(test), 4)

    odds = {option: correct[option] / count for option, count in shown.items()}
    return {"correct": accuracy(correct), "odds": accuracy(odds)}


def task_file(
    name: str, description: str, kind: str, rows: Mapping[str, Sequence[object]]
) -> dict[str, object]:
    """What every task made of these facts says of itself; `name` is folder/task."""
    stem = name.split("/")[1]
    return {
        "name": name,
        "description": f"EntityQuestions {description}",
        "licence": "MIT",
        "paper": "https://arxiv.org/abs/2109.08535",
        "kind": kind,
        "source": {
            "parts": {
                split: {"file": f"{stem}-{split}.jsonl", "rows": len(rows[split])} for split in rows
            }
        },
        "splits": {split: {"part": split} for split in rows},
    }


def read_facts(data_dir: Path) -> dict[tuple[str, str], list[Fact]]:
    """Relation and split -> its facts. A question stands in one split, the last that has it, so
    that test is never touched."""
    facts: dict[tuple[str, str], list[Fact]] = {}
    seen: set[str] = set()
    for split in ("test", "calibration", "train"):
        path = data_dir / "entity_questions" / f"{FILES[split]}.jsonl"
        repeated = set(seen)
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["question"] in repeated or (row["relation"], row["question"]) in seen:
                continue
            seen |= {row["question"]}
            fact = Fact(row["question"], tuple(row["answers"]))
            facts.setdefault((row["relation"], split), []).append(fact)
    return facts


def write_tasks(data_dir: Path, output: Path, *, only: Sequence[str]) -> None:
    """Write a task file and three files of rows for each relation, and `tasks.json`."""
    facts = read_facts(data_dir)
    output.mkdir(parents=True)
    summary = {}
    for name in only:
        relation = RELATIONS[name]
        rows = {
            split: question_rows(drawn(facts[relation, split], most), seed=f"{relation} {split}")
            for split, most in (MOST | ({"test": 1000} if name == TRAINED else {})).items()
        }
        for split, lines in rows.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (output / f"{name}-{split}.jsonl").write_text(text, encoding="utf-8")
        task = task_file(f"facts/{name}", f"{relation}, four options", "multiple-choice", rows)
        (output / f"{name}.yaml").write_text(dump_yaml(task | WORDING))
        summary[name] = {
            "relation": relation,
            "questions": {split: len(lines) for split, lines in rows.items()},
            "frequency_alone": frequency_accuracy(rows["train"], rows["test"]),
        }
        print(f"{name}: {summary[name]}")
    (output / "tasks.json").write_text(json.dumps(summary, indent=2) + "\n")


def read_arguments(description: str, names: Sequence[str]) -> argparse.Namespace:
    """Where the facts are, where the tasks go, and which of them are wanted."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="has entity_questions/")
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--only", nargs="+", default=list(names), choices=list(names))
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"--output {arguments.output} is there already; name another")
    return arguments


def main() -> None:
    """Read the arguments and write the tasks."""
    arguments = read_arguments(__doc__, list(RELATIONS))
    write_tasks(arguments.data_dir, arguments.output, only=arguments.only)


if __name__ == "__main__":
    main()

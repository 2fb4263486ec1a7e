"""Multiple choice by single words over the facts of EntityQuestions, for a real language model.

Kept are facts whose answer is one token of SmolLM2's vocabulary. A question has four options, drawn
as in `make_tasks.py`, so that how common a word is tells nothing; they are not shown: the model is
asked `Question: ... Answer:` and chooses among the four words by their probabilities. So options
are single tokens, as a penalty over them needs, and no letters have to be learnt.

The relation that is trained on keeps the makers' splits; what its training leaves over fills its
test split up. Of the others, which nobody trains on, all splits are asked.

    python experiments/smollm2/make_word_tasks.py --data-dir DATA --output runs/tasks/words
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from make_tasks import (
    LETTERS,
    Fact,
    drawn,
    frequency_accuracy,
    question_rows,
    read_arguments,
    read_facts,
    task_file,
)
from transformers import PreTrainedTokenizerBase

from cogcalib.modeling import load_tokenizer
from cogcalib.yaml_files import dump_yaml

TRAINED = ("country", "P17")
OTHERS = {
    "origin": "P495",
    "capital": "P36",
    "language": "P407",
    "occupation": "P106",
    "region": "P131",
    "headquarters": "P159",
    "birthplace": "P19",
    "deathplace": "P20",
    "site": "P276",
    "formation": "P740",
}
"""Name of a task -> relation of Wikidata: places, languages and work, with 500 such facts."""
MOST = {"train": 3000, "calibration": 1000, "test": 1000}
"""Split -> most questions kept of it."""

Facts = Mapping[tuple[str, str], Sequence[Fact]]


def single_words(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The words that are one token behind a space."""
    texts = (str(tokenizer.decode([token])) for token in range(len(tokenizer)))
    return {text[1:] for text in texts if text.startswith(" ") and text.strip()}


def word_facts(data_dir: Path, words: set[str]) -> dict[tuple[str, str], list[Fact]]:
    """Relation and split -> its facts with an answer that is one token."""
    return {
        place: [fact for fact in facts if fact.answer in words]
        for place, facts in read_facts(data_dir).items()
    }


def trained_splits(facts: Facts) -> dict[str, list[Fact]]:
    """The splits of the relation that is trained on."""
    _, relation = TRAINED
    own = {split: facts[relation, split] for split in MOST}
    kept = {split: drawn(own[split], MOST[split]) for split in ("train", "calibration")}
    left = [fact for fact in own["train"] if fact not in kept["train"]]
    return {**kept, "test": drawn([*own["test"], *left], MOST["test"])}


def other_splits(facts: Facts, relation: str) -> dict[str, list[Fact]]:
    """The one split of a relation that nobody trains on."""
    every = [fact for split in MOST for fact in facts.get((relation, split), ())]
    return {"test": drawn(every, MOST["test"])}


def word_row(row: Mapping[str, object]) -> dict[str, object]:
    """A row of `question_rows` as a prompt and completions."""
    options = [f" {option}" for option in row["options"]]  # type: ignore[attr-defined]
    return {
        "prompt": f"Question: {row['question']}\nAnswer:",
        "completion": options[LETTERS.index(str(row["answer"]))],
        "options": options,
    }


def write_tasks(data_dir: Path, output: Path, words: set[str], *, only: Sequence[str]) -> None:
    """Write a task file and its files of rows for each relation, and `tasks.json`."""
    facts = word_facts(data_dir, words)
    output.mkdir(parents=True)
    summary = {}
    for name in only:
        relation = dict([TRAINED], **OTHERS)[name]
        splits = trained_splits(facts) if name == TRAINED[0] else other_splits(facts, relation)
        rows = {s: question_rows(kept, seed=f"{relation} {s}") for s, kept in splits.items()}
        for split, lines in rows.items():
            text = "".join(json.dumps(word_row(row), ensure_ascii=False) + "\n" for row in lines)
            (output / f"{name}-{split}.jsonl").write_text(text, encoding="utf-8")
        description = f"{relation}, four single words"
        task = task_file(f"words/{name}", description, "prompt-completion", rows)
        (output / f"{name}.yaml").write_text(dump_yaml(task))
        summary[name] = {
            "relation": relation,
            "questions": {split: len(lines) for split, lines in rows.items()},
        }
        if "train" in rows:
            summary[name]["frequency_alone"] = frequency_accuracy(rows["train"], rows["test"])
        print(f"{name}: {summary[name]}")
    (output / "tasks.json").write_text(json.dumps(summary, indent=2) + "\n")


def main() -> None:
    """Read the arguments and write the tasks."""
    arguments = read_arguments(__doc__, [TRAINED[0], *OTHERS])
    words = single_words(load_tokenizer("smollm2"))
    write_tasks(arguments.data_dir, arguments.output, words, only=arguments.only)


if __name__ == "__main__":
    main()

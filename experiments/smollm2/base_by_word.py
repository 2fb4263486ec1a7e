"""Is SmolLM2 calibrated when it is asked for facts by single words, four options each?

    python experiments/smollm2/base_by_word.py --data-dir DATA

Facts of EntityQuestions whose answer is one token, wrong options as in make_tasks.py; the model
chooses among the four words behind "Answer:", and no letters are shown. Nothing is trained. Printed
for each relation: accuracy, confidence and ECE (15 bins of equal width) as fractions, NLL in nats,
and the temperature of lowest NLL. Of the country, questions of its calibration split; of the other
relations, which nobody trains on, of all splits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from make_tasks import LETTERS, Fact, _drawn, question_rows

from cogcalib.metrics import expected_calibration_error
from cogcalib.modeling import load_model
from cogcalib.posthoc import TemperatureScaling

RELATIONS = {
    "country": "P17",
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
TRAINED = "P17"
MOST = 200


def facts_of(data_dir: Path, relation: str, one_token: set[str]) -> Iterator[Fact]:
    """Facts with an answer of one token, each question once."""
    seen = set()
    for split in ("dev",) if relation == TRAINED else ("test", "dev", "train"):
        path = data_dir / "entity_questions" / f"{split}.jsonl"
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            answers = tuple(row["answers"])
            if row["relation"] == relation and row["question"] not in seen:
                seen.add(row["question"])
                if answers[0] in one_token:
                    yield Fact(row["question"], answers)


@torch.no_grad()
def main() -> None:
    """Ask, and print a line for each relation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="has entity_questions/")
    options = parser.parse_args()
    model, tokenizer = load_model("smollm2")
    ids = {tokenizer.decode([token]): token for token in range(len(tokenizer))}
    words = {text[1:]: token for text, token in ids.items() if text.startswith(" ")}
    for name, relation in RELATIONS.items():
        facts = _drawn(list(facts_of(options.data_dir, relation, set(words))), MOST)
        logits, gold = [], []
        for row in question_rows(facts, seed=relation):
            prompt = f"Question: {row['question']}\nAnswer:"
            asked = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
            last = model(**asked).logits[0, -1].double()
            logits.append(last[[words[option] for option in row["options"]]].numpy())
            gold.append(LETTERS.index(row["answer"]))
        logp = torch.tensor(np.array(logits)).log_softmax(1).numpy()
        correct = logp.argmax(1) == np.array(gold)
        sure = np.exp(logp.max(1))
        figures = {
            "n": len(gold),
            "accuracy": correct.mean(),
            "confidence": sure.mean(),
            "ece": expected_calibration_error(sure, correct),
            "nll": -logp[np.arange(len(gold)), gold].mean(),
            "temperature": TemperatureScaling().fit(logp, gold).temperature_,
        }
        print(json.dumps({"relation": name} | {k: round(float(v), 3) for k, v in figures.items()}))


if __name__ == "__main__":
    main()

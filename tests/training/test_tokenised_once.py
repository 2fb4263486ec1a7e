"""How often an example's text goes through the tokenizer on its way to training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_run import LETTERS, make_args, make_trainer
from transformers import PreTrainedTokenizerFast

from cogcalib import load_task
from cogcalib.modeling import load_model
from cogcalib.modeling.prompts import render_completion, render_prompt
from cogcalib.records import Example
from cogcalib.training import CogCalibTrainer, FitData, fit, option_ids

COUNTS = {"train": 12, "calibration": 8}


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Texts that went through a tokenizer, with how often they did."""
    texts: Counter[str] = Counter()
    encode = PreTrainedTokenizerFast._encode_plus

    def counted(self: Any, text: Any, text_pair: Any = None, **arguments: Any) -> Any:
        texts.update([text] if isinstance(text, str) else text)
        return encode(self, text, text_pair, **arguments)

    monkeypatch.setattr(PreTrainedTokenizerFast, "_encode_plus", counted)
    return texts


def questions() -> dict[str, list[Example]]:
    splits = load_task("atlas/country").splits
    return {split: splits[split][:n] for split, n in COUNTS.items()}


def as_text(examples: list[Example], **more: Any) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": render_prompt(example),
                "completion": render_completion(example),
                "options": [f" {option.letter}" for option in example.options or ()],
            }
            for example in examples
        ]
    )


def test_configured_run_tokenises_each_prompt_once(tmp_path: Path, passed: Counter[str]) -> None:
    model, tokenizer = load_model("atlas")
    splits = questions()
    known = {example.id: True for example in splits["train"]}
    settings = {"max_steps": 2, "style_steps": 0, "use_cpu": True, "bf16": False}
    data = FitData(splits["train"], splits["calibration"], known)
    fit(model, tokenizer, data, tmp_path / "run", settings)
    prompts = {render_prompt(example) for split in splits.values() for example in split}
    assert {text: n for text, n in passed.items() if text in prompts} == dict.fromkeys(prompts, 1)
    # Beside them the last line of a prompt, alone and with each option behind it.
    others = passed - Counter(prompts)
    assert len(others) < 12
    assert max(others.values()) == len(splits)
    assert max(map(len, others)) < min(map(len, prompts)) / 2


def test_text_passes_as_often_as_trl_itself_tokenises_it(
    tmp_path: Path, passed: Counter[str]
) -> None:
    model, tokenizer = load_model("atlas")
    splits = {name: as_text(examples) for name, examples in questions().items()}
    CogCalibTrainer(
        model,
        make_args(tmp_path, support="options"),
        splits["train"],
        splits["calibration"],
        processing_class=tokenizer,
    )
    prompts = [prompt for split in splits.values() for prompt in split["prompt"]]
    # TRL: the prompt by itself, and with its answer. Of the options: a line per option.
    holding = {prompt: sum(n for text, n in passed.items() if prompt in text) for prompt in prompts}
    assert holding == dict.fromkeys(prompts, 2)
    others = {text: n for text, n in passed.items() if not any(p in text for p in prompts)}
    # The data sets are prepared one by one, the last line itself once for each of its options.
    assert len(others) < 12
    assert max(others.values()) <= 2 * 4


@pytest.mark.parametrize("separator", ["\n", " "], ids=["several lines", "one line"])
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_options_are_those_of_the_whole_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str, chat: bool
) -> None:
    def made(name: str) -> list[list[int]]:
        rows = [
            {
                "prompt": f"w{i} w{i + 1}{separator}w{i % 3} w7 ?",
                "completion": LETTERS[i % 4],
                "options": LETTERS,
            }
            for i in range(8)
        ]
        if chat:
            rows = [
                {
                    "prompt": [{"role": "user", "content": row["prompt"]}],
                    "completion": [{"role": "assistant", "content": row["completion"].strip()}],
                    "options": [letter.strip() for letter in LETTERS],
                }
                for row in rows
            ]
        trainer = make_trainer(
            tmp_path / name,
            train=Dataset.from_list(rows),
            calibration=None,
            gate="all",
            support="options",
        )
        return list(trainer.train_dataset["option_ids"])

    short = made("short")
    monkeypatch.setattr(option_ids, "_behind_last_lines", lambda *_: {})
    assert short == made("whole")


def test_a_line_that_goes_on_otherwise_than_the_whole_is_not_believed() -> None:
    """Answers whose tokens depend on how the prompt begins."""
    tokenised = []

    def tokenise(texts: Dataset) -> Dataset:
        tokenised.extend(texts["prompt"])
        rows = []
        for prompt, completion in zip(texts["prompt"], texts["completion"], strict=True):
            answer = 100 + len(prompt.split()[0]) + ord(completion[-1])
            rows.append({"input_ids": [1, 2, answer], "labels": [-100, -100, answer]})
        return Dataset.from_list(rows)

    rows = [
        {"prompt": f"{word} one\nthe question ?", "completion": " A", "options": [" A", " B"]}
        for word in ("the", "other")
    ]
    texts = Dataset.from_list(rows)
    answers = tokenise(texts).add_column("options", texts["options"])
    found = option_ids.resolve_options(texts, answers, tokenise, "train", "example")
    assert list(found["option_ids"]) == [[168, 169], [170, 171]]
    # The first goes on behind its last line as it does behind the whole, the second does not.
    assert tokenised[2:] == ["the question ?"] * 2 + [rows[1]["prompt"]]

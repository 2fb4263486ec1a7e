"""Start and end tokens stand once, whoever adds them, in training as in scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_run import make_tokenizer, make_trainer
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from cogcalib.modeling import encode
from cogcalib.modeling.continuations import _tokenize, doubled_ends
from cogcalib.records import Example, Option

BOS, EOS = 3, 1


def adding(template: str, **settings: Any) -> PreTrainedTokenizerFast:
    """A tokenizer that adds ``<user>`` as its start token, ``</s>``, both, or neither."""
    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<user>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<user>", BOS), ("</s>", EOS)]
    )
    return tokenizer


PLAIN, OPENS, CLOSES, BOTH = "$A", "<user> $A", "$A </s>", "<user> $A </s>"


def rows(prompt: str, completion: str, *, options: bool = False) -> Dataset:
    words = ["w1", "w2", "w3", "w4"]
    found = [{"prompt": f"{prompt}{w} ?", "completion": completion} for w in words]
    if options:
        found = [{**row, "options": [" A", " B"]} for row in found]
    return Dataset.from_list(found)


@pytest.mark.parametrize("template", [PLAIN, OPENS, CLOSES, BOTH])
@pytest.mark.parametrize("prompt", ["", "<user> "])
@pytest.mark.parametrize(
    ("completion", "options"), [(" A", False), (" A </s>", False), (" A", True)]
)
def test_each_stands_once(
    tmp_path: Path,
    template: str,
    prompt: str,
    completion: str,
    options: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = rows(prompt, completion, options=options)
    trainer = make_trainer(
        tmp_path, gate="all", calibration=None, train=data, tokenizer=adding(template)
    )
    opened = [BOS] if prompt or template in (OPENS, BOTH) else []
    for row, word in zip(trainer.train_dataset, (12, 13, 14, 15), strict=True):
        assert row["input_ids"] == [*opened, word, 5, 6, EOS]
        assert row["labels"] == [*[-100] * (len(opened) + 2), 6, EOS]
        assert not options or row["option_ids"] == [6, 7]
    doubled = (prompt and template in (OPENS, BOTH)) or template in (CLOSES, BOTH)
    assert ("of 4 examples began with the start token twice" in caplog.text) == bool(doubled)


@pytest.mark.parametrize("made", ["text", "formatting_func"])
def test_plain_text_and_formatted_text(tmp_path: Path, made: str) -> None:
    texts = ["<user> w1 A", "<user> w2 B </s>"]
    arguments: dict[str, Any] = {}
    data = Dataset.from_list([{"text": text} for text in texts])
    if made == "formatting_func":
        data = data.rename_column("text", "question")
        arguments = {"formatting_func": lambda row: row["question"]}
    trainer = make_trainer(
        tmp_path,
        gate="all",
        calibration=None,
        train=data,
        tokenizer=adding(BOTH),
        sft_arguments=arguments,
    )
    assert list(trainer.train_dataset["input_ids"]) == [[BOS, 12, 6, EOS], [BOS, 13, 7, EOS]]
    assert list(trainer.train_dataset["labels"]) == list(trainer.train_dataset["input_ids"])


@pytest.mark.parametrize("template", [PLAIN, OPENS, CLOSES, BOTH])
@pytest.mark.parametrize(
    ("answer", "options"),
    [("w7", None), ("w7 </s>", None), ("A", (Option("A", "w5"), Option("B", "w6")))],
)
def test_scoring_and_fit_keep_each_once(template: str, answer: str, options: Any) -> None:
    example = Example("x", "tiny", "train", "w1", options, answer, preset="blob")
    encoded = encode(example, adding(template))
    assert encoded.input_ids.count(EOS) == 1
    assert encoded.input_ids[-1] == EOS
    assert encoded.input_ids.count(BOS) == (template in (OPENS, BOTH))


@pytest.mark.parametrize("template", [PLAIN, OPENS, CLOSES, BOTH])
def test_a_prompt_that_begins_with_the_start_token(template: str) -> None:
    text = ("<user> w1 ?", False)
    assert _tokenize([text], adding(template)) == {text: [BOS, 12, 5]}


def test_tokenised_examples_stay_and_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(ids: list[int], labels: list[int]) -> list[int]:
        caplog.clear()
        data = Dataset.from_list([{"input_ids": ids, "labels": labels}])
        trainer = make_trainer(
            tmp_path, gate="all", calibration=None, train=data, tokenizer=adding(PLAIN)
        )
        assert trainer.train_dataset[0]["input_ids"] == ids
        return [1] if "1 of 1 examples begin with the start token twice" in caplog.text else []

    assert train([BOS, BOS, 12, 6, EOS], [-100, -100, -100, 6, EOS])
    assert train([BOS, 12, 6, EOS, EOS], [-100, -100, 6, EOS, EOS])
    assert not train([BOS, 12, 6, EOS, EOS], [-100, -100, 6, EOS, -100])  # padding
    assert not train([BOS, 12, 6, EOS], [-100, -100, 6, EOS])


def test_where_the_tokens_are_counted() -> None:
    tokenizer = adding(PLAIN)
    assert doubled_ends([], tokenizer) == doubled_ends([BOS], tokenizer) == (0, 0)
    assert doubled_ends([BOS, BOS, BOS, 5, EOS, EOS], tokenizer) == (2, 1)
    assert doubled_ends([5, BOS, BOS, EOS, EOS, 5], tokenizer) == (0, 0)
    tokenizer.bos_token = "</s>"  # one token for both, as GPT-2 has it
    assert doubled_ends([EOS, EOS], tokenizer) == (1, 0)
    assert doubled_ends([EOS, 5, EOS], tokenizer) == (0, 0)
    assert doubled_ends([5, 5, 6], make_tokenizer()) == (0, 0)  # no start token

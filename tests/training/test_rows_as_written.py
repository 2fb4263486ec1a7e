"""Rows as written: one set of tokens, whoever reads them, and one confidence, whoever asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_run import make_model, make_rows, make_tokenizer, make_trainer

from cogcalib import load
from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.deployment.inputs import to_questions
from cogcalib.knowledge import probe, renderings
from cogcalib.knowledge.assess import assess
from cogcalib.modeling import to_dataset
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.modeling.shot_prompts import encode_open
from cogcalib.modeling.shots import Prompt
from cogcalib.scoring.config import ScoreTask
from cogcalib.scoring.score_run import score_task
from cogcalib.tasks import load_rows
from cogcalib.training.row_questions import rows_to_questions

TEMPLATES = {
    "one end": "",
    # The turn goes on behind the end token, as ChatML's does.
    "more behind the end": "w0 ",
}


def texts(n: int, seed: int = 0) -> list[dict[str, Any]]:
    return make_rows(n, seed)


def open_texts(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rows = make_rows(n, seed)
    return [
        {"prompt": row["prompt"], "completion": f" w{k % 7} w{k % 5}"} for k, row in enumerate(rows)
    ]


def talks(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """With a system's message, and every other one as prompt and completion."""
    rows = []
    for k, row in enumerate(make_rows(n, seed)):
        asked = [{"role": "system", "content": "w1"}, {"role": "user", "content": row["prompt"]}]
        answer = {"role": "assistant", "content": row["completion"].strip()}
        options = [each.strip() for each in row["options"]]
        rows.append({"prompt": asked, "completion": [answer], "options": options} | {"k": k})
    return rows


def open_talks(n: int, seed: int = 0) -> list[dict[str, Any]]:
    found = []
    for row in talks(n, seed):
        answer = {"role": "assistant", "content": "w3 w4"}
        found.append({"prompt": row["prompt"], "completion": [answer]})
    return found


ROWS = {"texts": texts, "open texts": open_texts, "talks": talks, "open talks": open_talks}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tokenizer_with(behind: str) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template).replace("</s>", f"</s> {behind}".strip())
    return tokenizer


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", ROWS)
def test_tokens_are_those_of_the_trainer_and_of_predictions(
    tmp_path: Path, kind: str, template: str
) -> None:
    rows, tokenizer = ROWS[kind](12), tokenizer_with(TEMPLATES[template])
    examples = load_rows(written(tmp_path / "q.jsonl", rows)).splits["test"]
    trainer = make_trainer(
        tmp_path / "out",
        train=Dataset.from_list(rows),
        calibration=None,
        gate="none",
        tokenizer=tokenizer,
    )
    ours, theirs = to_dataset(examples, tokenizer), trainer.train_dataset
    for column in ("input_ids", "labels", "option_ids"):
        assert (column in ours.column_names) == (column in theirs.column_names)
        if column in ours.column_names:
            assert ours[column] == theirs[column]
    choice = examples[0].options is not None
    answers = AnswerFormat("options", "options") if choice else AnswerFormat("open-ended", "mean")
    asked = rows_to_questions(rows, tokenizer, answers)
    assert asked == to_questions([{**row, "completion": None} for row in rows], tokenizer, answers)
    if choice:
        scored = encode_choices(examples, tokenizer, None)
        prompts = [each.prompt_ids for each in scored]
        options = [tuple(ids[:1] for ids in each.forms) for each in scored]
        assert options == [question.option_ids for question in asked]
    else:
        prompts = [each.prompt_ids for each in encode_open(examples, tokenizer, None, None)[0]]
    assert prompts == [list(question.prompt_ids) for question in asked]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ROWS)
def test_score_gives_the_confidence_of_predict(tmp_path: Path, base: Path, kind: str) -> None:
    trainer = make_trainer(
        tmp_path / "out",
        model=str(base),
        train=Dataset.from_list(ROWS[kind](32)),
        calibration=Dataset.from_list(ROWS[kind](24, 1)),
    )
    trainer.train()
    trainer.save_model()
    held_out = ROWS[kind](10, 5)
    predictor = load(tmp_path / "out", device="cpu")
    longest = predictor.calibration.answers.max_new_tokens
    asked = ScoreTask(
        model=str(tmp_path / "out"),
        data=written(tmp_path / "held out.jsonl", held_out),
        max_new_tokens=longest,
    )
    scored = score_task(asked, resamples=10)
    assert scored.summary["n"] == 10
    definition = predictor.calibration.answers.confidence
    for ours, theirs in zip(scored.predictions, predictor.predict(held_out), strict=True):
        assert ours.prediction == theirs.answer
        assert ours.confidence[definition] == pytest.approx(theirs.raw_confidence, abs=1e-6)


def test_options_of_several_tokens_are_judged_whole(tmp_path: Path, base: Path) -> None:
    options = [" A w1 w2", " B w3", " C"]
    rows = [row | {"options": options, "completion": " C"} for row in make_rows(8)]
    path = written(tmp_path / "q.jsonl", rows)
    predictor = load(base, calibration=load_calibration(base, options), device="cpu")
    for answer, same in (("letter", None), ("label", True), ("text", None)):
        asked = ScoreTask(model=str(base), data=path, answer=answer)
        if same:
            found = score_task(asked, resamples=10).predictions
            for ours, theirs in zip(found, predictor.predict(rows), strict=True):
                assert ours.prediction == theirs.answer
                assert ours.confidence["options"] == pytest.approx(theirs.confidence, abs=1e-6)
            continue
        said = "answer='label'" if answer == "letter" else "must be letter or label"
        with pytest.raises(ValueError, match=said):
            score_task(asked, resamples=10)


def load_calibration(base: Path, options: list[str]) -> Any:
    from cogcalib.deployment.calibration_file import Calibration
    from cogcalib.deployment.identity import identify

    identity = identify(base, make_tokenizer())
    return Calibration(identity, AnswerFormat("options", "options", options=tuple(options)))


def test_a_probe_asks_them_once(tmp_path: Path) -> None:
    examples = load_rows(written(tmp_path / "q.jsonl", texts(12))).splits["test"]
    assert renderings(examples) == 12
    records = probe(make_model(), make_tokenizer(), examples)
    assert {record.share_right for record in records} <= {0.0, 1.0}
    found = assess(make_model(), make_tokenizer(), examples, [Prompt(0, (), None)])
    assert {row.prompt_ids for row in found} == {("0/0",)}
    assert [row.greedy[0] for row in found] == [record.known for record in records]
    with pytest.raises(ValueError, match="its prompt shows the options as they stand"):
        examples[0].reordered([1, 0, 2, 3])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"task": "atlas/country", "data": Path("q.jsonl")}, "either task or data"),
        ({}, "either task or data"),
        ({"data": Path("q.jsonl"), "prompt": "blob"}, "asked as it is written; leave out prompt"),
        ({"data": Path("nowhere.jsonl")}, r"nowhere\.jsonl: no such data file"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        score_task(ScoreTask(model="atlas", **given))

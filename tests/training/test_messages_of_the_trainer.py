"""The commonest set-ups of TRL users end in a sentence that says what to change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_run import make_args, make_model, make_rows, make_tokenizer, make_trainer

from cogcalib.training import CogCalibTrainer
from cogcalib.training.checks import named_model
from cogcalib.training.schedule import ENOUGH_EARLY, Schedule
from cogcalib.training.text import said_of_joined


def chats(n: int, seed: int) -> Dataset:
    return Dataset.from_list(
        [
            {
                "messages": [
                    {"role": "user", "content": row["prompt"]},
                    {"role": "assistant", "content": row["completion"].strip()},
                ]
            }
            for row in make_rows(n, seed)
        ]
    )


def texts(n: int, seed: int) -> Dataset:
    return Dataset.from_list([{"text": row["prompt"]} for row in make_rows(n, seed)])


@pytest.mark.parametrize(
    ("made", "remedy"),
    [(texts, "split each text into 'prompt' and"), (chats, "set assistant_only_loss=True")],
)
def test_prompts_are_not_learnt_unasked(tmp_path: Path, made: Any, remedy: str) -> None:
    data = {"train": made(8, 0), "calibration": made(8, 1)}
    with pytest.raises(ValueError, match=f"prompts would be trained on as well.*{remedy}"):
        make_trainer(tmp_path, **data)
    assert make_trainer(tmp_path, **data, learn_prompts=True).args.learn_prompts
    for gate in ("none", "all"):
        make_trainer(tmp_path, **data, gate=gate)


def test_only_the_answers_of_messages_are_judged_where_that_is_said(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, train=chats(8, 0), calibration=chats(8, 1), assistant_only_loss=True
    )
    assert -100 in trainer.train_dataset[0]["labels"]


def test_messages_need_a_template(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template to render them: set chat_template_path"):
        make_trainer(
            tmp_path, train=chats(8, 0), calibration=chats(8, 1), assistant_only_loss=True,
            tokenizer=tokenizer,
        )  # fmt: skip
    folder = str(tmp_path / "model")
    make_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    args = make_args(tmp_path, assistant_only_loss=True)
    with pytest.raises(ValueError, match="no chat template to render them"):
        CogCalibTrainer(folder, args, chats(8, 0), chats(8, 1))


def test_messages_need_marks_where_only_the_assistant_s_are_learnt(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    marks = ("{% generation %}", "{% endgeneration %}")
    tokenizer.chat_template = tokenizer.chat_template.replace(marks[0], "").replace(marks[1], "")
    data = {"train": chats(8, 0), "calibration": chats(8, 1)}
    with pytest.raises(ValueError, match="has no such marks: set chat_template_path"):
        make_trainer(tmp_path, **data, assistant_only_loss=True, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("options", "completion", "told"),
    [
        (["A", "B"], " A", "completion is ' A' and the option 'A'; both must be written alike"),
        ([" A", " B"], "A", "completion is 'A' and the option ' A'; both must be written alike"),
        (["A", "B"], "A", r"the space between prompt and answer is missing, as in '.*\?A'"),
    ],
)
def test_options_without_their_space_are_told(
    options: list[str], completion: str, told: str, tmp_path: Path
) -> None:
    rows = [row | {"options": options, "completion": completion} for row in make_rows(8, 0)]
    with pytest.raises(ValueError, match=told):
        make_trainer(tmp_path, train=Dataset.from_list(rows), support="options")


@pytest.mark.parametrize("column", ["completion", "messages"])
def test_a_talk_s_answer_is_one_of_its_options(tmp_path: Path, column: str) -> None:
    question, answer = [{"role": "user", "content": "w1"}], {"role": "assistant", "content": "E"}
    talk = {"prompt": question, "completion": [answer]}
    row = talk if column == "completion" else {"messages": [*question, answer]}
    rows = Dataset.from_list([row | {"options": ["A", "B"]} for _ in range(8)])
    with pytest.raises(ValueError, match=r"example 0: .* one of its options \['A', 'B'\], got 'E'"):
        make_trainer(tmp_path, train=rows, calibration=rows, support="options",
                     assistant_only_loss=column == "messages")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"completion": " E"}, "the completion must be one of its options"),
        ({"completion": ""}, "the completion is empty"),
        ({"prompt": "w1 " * 100 + "Answer:"}, r"it has \d+ tokens, and max_length=64 would"),
    ],
)
@pytest.mark.parametrize("place", range(255, 260))
def test_a_row_keeps_its_number_where_a_calibration_split_is_drawn(
    tmp_path: Path, place: int, change: dict[str, object], told: str
) -> None:
    """Five rows stand on both sides of the split."""
    rows = make_rows(260, 0)
    rows[place] |= change
    given = {"train": Dataset.from_list(rows), "calibration": None, "max_length": 64}
    with pytest.raises(ValueError, match=f"train data set, example {place}: {told}"):
        make_trainer(tmp_path, **given, support="options")


@pytest.mark.parametrize(
    ("prompt", "completion", "said"),
    [
        ("Answer:", "A", True), ("Answer:", " A", False), ("Answer:\n", "A", False),
        ("Answer: ", "A", False), ("w1 w2", "w3", True), ("\u7b54\u6848\uff1a", "\u662f", False),
    ],
)  # fmt: skip
def test_answers_without_their_space_are_told(prompt: str, completion: str, said: bool) -> None:
    row = {"prompt": prompt, "completion": completion}
    told = said_of_joined(Dataset.from_list([row, {"prompt": "a", "completion": " b"}]), "train")
    assert ("1 of 2 answers begin right behind their prompts" in told) == said
    assert ("write ' A' and not 'A'" in told) == said


@pytest.mark.parametrize("gate", ["nll", "none"])
def test_answers_without_their_space_are_told_again_at_the_end(
    gate: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"prompt": row["prompt"], "completion": "D"} for row in make_rows(8, 0)]
    spaced = Dataset.from_list(make_rows(8, 1)).remove_columns("options")
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(
            tmp_path, train=Dataset.from_list(rows), calibration=spaced, gate=gate, max_steps=2
        )
        said = "train data set: 8 of 8 answers begin right behind their prompts"
        assert said in caplog.text
        caplog.clear()
        trainer.train()
    assert said in caplog.messages[-1]


def test_options_of_several_tokens_are_told_what_to_do(tmp_path: Path) -> None:
    rows = [row | {"options": [" A", " B w1"]} for row in make_rows(8, 0)]
    rows = [row | {"completion": " A"} for row in rows]
    told = r"must be one token.*ask for letters.*train without the column"
    with pytest.raises(ValueError, match=told):
        make_trainer(tmp_path, train=Dataset.from_list(rows), support="options")


def test_the_embedded_model_goes_by_its_name(tmp_path: Path, monkeypatch: Any) -> None:
    found = named_model("atlas")
    assert (Path(found) / "config.json").is_file()
    model = object()
    assert named_model(model) is model
    monkeypatch.chdir(tmp_path)
    (tmp_path / "atlas").mkdir()
    assert named_model("atlas") == "atlas", "a folder of that name comes first"


def test_the_hub_is_asked_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("cogcalib.hub.check_reachable", asked.append)
    assert named_model("owner/name") == "owner/name"
    assert asked == ["owner/name"]


@pytest.mark.parametrize("epoch", [3, 7, 100])
@pytest.mark.parametrize("style", [0, 5, 40])
def test_the_first_gated_epoch_has_three_thresholds_by_default(epoch: int, style: int) -> None:
    last = 3 * epoch + style
    schedule = Schedule.resolve(style, 1.0, last, epoch, often=True)
    due = [step for step in range(style, last) if schedule.is_due(step, style)]
    early = [step for step in due if step < style + epoch]
    assert len(early) == schedule.early_estimates(last) >= ENOUGH_EARLY
    assert [step - style for step in due if step >= style + epoch] == [epoch, 2 * epoch]


def test_thresholds_that_are_too_seldom_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"max_steps": 12, "style_steps": 0, "per_device_train_batch_size": 2}
    data = {n: Dataset.from_list(make_rows(24, k)) for k, n in enumerate(("train", "calibration"))}
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path / "often", **data, **settings, threshold_every=None).train()
        assert "The threshold is estimated" not in caplog.text
        make_trainer(tmp_path / "once", **data, **settings, threshold_every=1.0).train()
    assert "The threshold is estimated once in the first 12 steps" in caplog.text
    assert "Set threshold_every to at most 4 steps" in caplog.text

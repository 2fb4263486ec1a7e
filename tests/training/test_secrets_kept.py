"""No access token stands in what a training writes, prints or logs; copies keep theirs."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_args, make_model, make_tokenizer, make_trainer
from transformers import AutoTokenizer, HfArgumentParser

from cogcalib.training import CogCalibConfig
from cogcalib.training.secrets_kept import without_secrets

SECRETS: dict[str, Any] = {
    "hub_token": "hf_SECRET1",
    "model_init_kwargs": {"token": "hf_SECRET2", "dtype": "float32"},
    "trackio_space_id": None,
    "lr_scheduler_kwargs": {},
}


def test_nothing_written_holds_a_token(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", token="hf_SECRET3")
    trainer = make_trainer(
        tmp_path / "run",
        model=str(tmp_path / "model"),
        tokenizer=tokenizer,
        save_strategy="steps",
        save_steps=1,
        report_to="tensorboard",
        **SECRETS,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "run" / "final"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.name == "training_args.bin" for path in files) == 4
    assert any("tfevents" in path.name for path in files)
    assert [str(path) for path in files if b"hf_SECRET" in path.read_bytes()] == []
    assert trainer.args.hub_token == "hf_SECRET1"  # in use it stays
    assert trainer.args.model_init_kwargs["token"] == "hf_SECRET2"
    saved = torch.load(tmp_path / "run" / "final" / "training_args.bin", weights_only=False)
    assert isinstance(saved, CogCalibConfig)
    assert (saved.hub_token, saved.model_init_kwargs["token"]) == (None, None)
    assert (saved.alpha, saved.model_init_kwargs["dtype"]) == (0.3, "float32")


def test_resuming_is_not_disturbed_by_a_token(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    make_trainer(tmp_path, hub_token="hf_SECRET1", **settings).train()
    make_trainer(tmp_path, hub_token="hf_other", **settings).train(resume_from_checkpoint=True)


def test_texts_name_a_secret_only(tmp_path: Path) -> None:
    args = make_args(tmp_path, **SECRETS)
    texts = [
        str(args),
        repr(args),
        args.to_json_string(),
        json.dumps(args.to_dict()),
        str(args.to_sanitized_dict()),
        f"{args}",
    ]
    assert not any("hf_SECRET" in text for text in texts)
    assert all("<HUB_TOKEN>" in text and "<TOKEN>" in text for text in texts)
    assert "alpha=0.3" in str(args)


def test_copies_keep_their_secrets(tmp_path: Path) -> None:
    args = make_args(tmp_path, **SECRETS)
    for other in (copy.copy(args), copy.deepcopy(args), args.settled(True)):
        assert other.hub_token == "hf_SECRET1"
        assert other.model_init_kwargs["token"] == "hf_SECRET2"
    assert copy.deepcopy(args).model_init_kwargs is not args.model_init_kwargs
    replaced = dataclasses.replace(args, model_init_kwargs={"token": "hf_SECRET4"})
    assert replaced.model_init_kwargs["token"] == "hf_SECRET4"
    assert b"hf_SECRET" not in pickle.dumps(replaced)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"token": "x"}, {"token": None}),
        ({"token": True}, {"token": True}),
        ({"a": {"use_auth_token": "x", "b": 1}}, {"a": {"use_auth_token": None, "b": 1}}),
        ({"a": [{"api_key": "x"}]}, {"a": [{"api_key": None}]}),
        ({"pad_token": "<pad>", "max_tokens": 4}, {"pad_token": "<pad>", "max_tokens": 4}),
    ],
)
def test_what_is_a_secret(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert without_secrets(given) == expected


def test_arguments_are_still_parsed(tmp_path: Path) -> None:
    words = ["--output_dir", str(tmp_path), "--hub_token", "hf_SECRET1", "--use_cpu", "true"]
    (args,) = HfArgumentParser(CogCalibConfig).parse_args_into_dataclasses([*words, "--bf16=false"])
    assert args.hub_token == "hf_SECRET1"

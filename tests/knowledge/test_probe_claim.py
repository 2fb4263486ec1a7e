"""Whose a probe's folder is: adapters count, and what was refused does not keep it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model

from cogcalib.knowledge import probe_worker as worker
from cogcalib.knowledge.probe_run import probe_task
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.modeling import fingerprint_adapter, load_model
from cogcalib.owned_folder import FolderError, holding

LONG = "Where is " + "a very long way from here and " * 200 + "Lyon?"


def asked(folder: Path, **more: object) -> ProbeTask:
    values = {"model": "atlas", "task": "atlas/country-open", "limit": 6, "prompts": 2, "shots": 1}
    return ProbeTask(**{**values, "output": folder, **more})  # type: ignore[arg-type]


def save_adapter(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model, _ = load_model("atlas")
    config = LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def test_a_retrained_adapter_at_the_same_path_is_refused(tmp_path):
    words = {"adapter": str(save_adapter(tmp_path / "adapter", 0))}
    before = fingerprint_adapter(tmp_path / "adapter")
    first = probe_task(asked(tmp_path / "p", **words))
    assert list(probe_task(asked(tmp_path / "p", **words)).rows) == list(first.rows)
    save_adapter(tmp_path / "adapter", 1)
    assert fingerprint_adapter(tmp_path / "adapter")["sha256"] != before["sha256"]
    with pytest.raises(FolderError, match="other data or another model"):
        probe_task(asked(tmp_path / "p", **words))


def test_an_adapters_configuration_counts_as_well(tmp_path):
    folder = save_adapter(tmp_path / "adapter", 0)
    before = fingerprint_adapter(folder)
    file = folder / "adapter_config.json"
    file.write_text(file.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    assert fingerprint_adapter(folder)["sha256"] != before["sha256"]


def test_an_adapter_without_safetensors_is_refused(tmp_path):
    folder = save_adapter(tmp_path / "adapter", 0)
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"has no adapter_model.safetensors; pickled weights"):
        fingerprint_adapter(folder)


def test_an_adapter_on_the_hub_is_known_by_its_commit(monkeypatch):
    commit = "0123456789abcdef" * 2 + "01234567"
    file = f"/cache/models--me--tuned/snapshots/{commit}/adapter_config.json"
    monkeypatch.setattr("cogcalib.modeling.model_files.cached_file", lambda *words: file)
    expected = {"path": "me/tuned", "sha256": None, "commit": commit}
    assert fingerprint_adapter("me/tuned") == expected


def test_an_adapter_that_the_hub_cannot_give_is_refused():
    with pytest.raises(ValueError, match="is no folder with an adapter, or the hub cannot give it"):
        fingerprint_adapter("me/no-such-adapter")


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ({"model": "./absent"}, {}, "model folder ./absent does not exist"),
        ({"adapter": "./absent"}, {}, "adapter folder ./absent does not exist"),
        ({"dtype": "int8"}, {}, "dtype must be one of auto, float32"),
        ({"task": "nothing"}, {}, "there is no task 'nothing'"),
        ({"split": "dev"}, {}, "split must be one of"),
        ({"prompt": "poem"}, {}, "prompt preset must be one of"),
        ({"prompts": 0}, {}, "prompts must be at least 1"),
        ({"shots": 5000}, {}, "shots must be fewer than the group's questions"),
        ({"shots": 100}, {}, "the model has .* positions; use fewer shots"),
        ({"mode": "guess"}, {}, "mode must be one of exact, sampled"),
        (
            {"task": "atlas/country", "mode": "sampled"},
            {"task": "atlas/country"},
            "mode must be exact for multiple choice",
        ),
        (
            {"task": "atlas/country", "shots": 60},
            {"task": "atlas/country"},
            "the model has .* positions; use fewer shots",
        ),
        (
            {"mode": "sampled", "max_new_tokens": 1},
            {"mode": "sampled", "samples": 2},
            r"max_new_tokens must be at least \d+ for the answers to question 'In which country",
        ),
        ({"mode": "sampled", "max_new_tokens": 9999}, {}, "positions; use fewer shots"),
        ({"four_bit": True}, {}, "bitsandbytes"),
    ],
)
def test_a_refused_command_can_be_mended(tmp_path, monkeypatch, wrong, right, message):
    monkeypatch.chdir(tmp_path)
    if "four_bit" in wrong:  # whatever is installed
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        probe_task(asked(tmp_path / "p", **wrong))
    assert len(probe_task(asked(tmp_path / "p", **right)).rows) == 6


def test_every_question_is_checked_before_the_first_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "BATCH", 2)
    table = tmp_path / "own.csv"
    rows = [f"Where is place {i}?,France" for i in range(6)]
    words = {"task": None, "data": table, "limit": None, "shots": 0}
    table.write_text("\n".join(["question,answer", *rows, f"{LONG},France"]), encoding="utf-8")
    with pytest.raises(ValueError, match="question 'Where is a very long way"):
        probe_task(asked(tmp_path / "p", **words))
    assert not (tmp_path / "p").exists()


def test_a_folder_without_rows_is_taken_over_one_with_rows_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "BATCH", 3)
    real = worker.assess_with

    def breaking(after: int) -> None:
        calls: list[int] = []

        def work(respondent, examples, *rest, **named):  # type: ignore[no-untyped-def]
            calls.append(1)
            if len(calls) > after:
                raise KeyboardInterrupt
            return real(respondent, examples, *rest, **named)

        monkeypatch.setattr(worker, "assess_with", work)
        with pytest.raises(KeyboardInterrupt):
            probe_task(asked(tmp_path / "p", seed=after))

    breaking(0)
    assert (tmp_path / "p" / "config.yaml").exists()
    breaking(1)
    with pytest.raises(FolderError, match="'seed: 1', not 'seed: 0'"):
        probe_task(asked(tmp_path / "p"))
    monkeypatch.setattr(worker, "assess_with", real)
    assert probe_task(asked(tmp_path / "p", seed=1)).kept == 3


@pytest.mark.parametrize(
    "files",
    [
        {"config.yaml": "seed: 0\n"},
        {"config.yaml": ": {"},
        {"notes.txt": "mine"},
        {"inputs.json": "{}"},
    ],
)
def test_a_folder_of_something_else_is_never_touched(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(FolderError):
        probe_task(asked(tmp_path))
    assert {f.name: f.read_text(encoding="utf-8") for f in tmp_path.iterdir()} == files


def test_two_probes_do_not_write_into_one_folder(tmp_path):
    with (
        holding(tmp_path / "p"),
        pytest.raises(FolderError, match="another process is writing into"),
    ):
        probe_task(asked(tmp_path / "p"))
    assert not (tmp_path / "p").exists(), "the one that held it left nothing"
    assert len(probe_task(asked(tmp_path / "p")).rows) == 6


def test_who_finds_a_folder_held_does_not_take_it_away(tmp_path):
    with holding(tmp_path / "p"):
        with pytest.raises(FolderError, match="another process"), holding(tmp_path / "p"):
            pass
        assert (tmp_path / "p").exists()


def test_without_shots_one_prompt_is_noted(tmp_path):
    found = probe_task(asked(tmp_path / "p", shots=0, prompts=10))
    assert (found.prompts, found.shots) == (1, 0)
    noted = yaml.safe_load((tmp_path / "p" / "config.yaml").read_text(encoding="utf-8"))
    assert (noted["prompts"], noted["shots"]) == (1, 0)
    assert probe_task(asked(tmp_path / "p", shots=0, prompts=1)).kept == 6

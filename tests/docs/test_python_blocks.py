"""Every block of Python on a page runs, here or in another test."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from completion_server import CompletionServer, serve
from pages import PAGES, ROOT, blocks, name_of
from peft import PeftModel, get_peft_model
from readme_rows import rows_of, write_rows

from cogcalib import CogCalibConfig
from cogcalib.knowledge.probe_run import probe_task
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.modeling import load_model, load_tokenizer, lora_config, resolve_model
from cogcalib.records import Example, Prediction
from cogcalib.scoring import score
from cogcalib.tasks import Task, load_task

ELSEWHERE = {
    "README": "test_readme.py",
    "choose-alpha": "test_site_pages.py",
    "footguns": "test_site_pages.py",
    "howto-trl": "test_site_pages.py",
    "model-card": "test_doctor_page.py",
    "other-trainers": "test_site_pages.py",
    "own-data": "test_site_pages.py",
    "predict": "test_predict_page.py",
}
"""Pages of which all blocks are run by another test."""

COUNTRY = load_task("atlas/country")
FEW = Task(**{**vars(COUNTRY), "splits": {k: rows[:24] for k, rows in COUNTRY.splits.items()}})


@dataclass
class Here:
    """An empty folder to run in, and what a block may be given beside it."""

    folder: Path
    patch: pytest.MonkeyPatch
    request: pytest.FixtureRequest
    stack: ExitStack

    def few_questions(self, place: str) -> None:
        """Any task is a few questions a split of the embedded one."""
        self.patch.setattr(f"{place}.load_task", lambda *_, **__: FEW)


Prepared = tuple[dict[str, Any], dict[str, str]]
"""Names that a block takes for given; texts in it that stand for something else here."""


def arrays(here: Here) -> Prepared:
    draw = np.random.default_rng(0)
    names = {"confidence": draw.random(60), "other_confidence": draw.random(60)}
    names |= {"correct": draw.random(60) < 0.6, "other_correct": draw.random(60) < 0.5}
    return names, {}


def lm_eval_samples(here: Here) -> Prepared:
    name = "samples_{}_2026-11-23T14-04-04.485759.jsonl"
    folder = here.folder / "out" / "my-model"
    folder.mkdir(parents=True)
    kept = ROOT / "tests" / "scoring" / "lm_eval_samples" / name.format("letters")
    (folder / name.format("arc_challenge")).write_bytes(kept.read_bytes())
    return {}, {}


def real_data(here: Here) -> Prepared:
    (here.folder / "data").symlink_to(here.request.getfixturevalue("shared_data"))
    return {}, {}


def fewer(here: Here) -> Prepared:
    return {}, {"limit=100": "limit=4", "[:100]": "[:4]", "shots=2": "shots=1"}


def vllm(here: Here) -> Prepared:
    here.patch.syspath_prepend(str(ROOT / "tests" / "stand_in"))
    here.stack.callback(lambda: [sys.modules.pop(n) for n in list(sys.modules) if n == "vllm"])
    here.few_questions("cogcalib")
    return {}, {'"my-model"': '"atlas"', '"bfloat16"': '"float32"', '["test"]': '["test"][:2]'}


def endpoint(here: Here) -> Prepared:
    server = here.stack.enter_context(serve(CompletionServer(*load_model("atlas"), name="atlas")))
    here.few_questions("cogcalib")
    own = {"http://localhost:8000/v1": server.url, "Qwen/Qwen2.5-7B": "atlas"}
    return {}, own | {'["test"]': '["test"][:2]'}


def server(here: Here) -> Prepared:
    pytest.importorskip("fastapi")
    here.patch.syspath_prepend(str(ROOT / "tests" / "serving"))
    from served import running

    own = here.stack.enter_context(running())
    return {}, {"http://127.0.0.1:8000/v1": own.url, 'model="out"': 'model="atlas"'}


def probe_folder(here: Here) -> Prepared:
    here.few_questions("cogcalib.knowledge.probe_inputs")
    probe_task(ProbeTask(model="atlas", task="atlas/country", limit=4))
    return {}, {}


@functools.cache
def scored(split: str) -> tuple[list[Prediction], list[Example]]:
    return score(*load_model("atlas"), FEW.splits[split]), FEW.splits[split]


def predictions(here: Here) -> Prepared:
    names = {"split": None}
    for prefix in ("calibration", "test"):
        names[f"{prefix}_predictions"], names[f"{prefix}_examples"] = scored(prefix)
    names["target_predictions"], names["target_examples"] = scored("test")
    for prefix, split in (("calibration", "calibration"), ("target", "test")):
        names[f"base_{prefix}_predictions"] = scored(split)[0]
    return names, {}


def config(here: Here) -> Prepared:
    return {"CogCalibConfig": functools.partial(CogCalibConfig, use_cpu=True, bf16=False)}, {}


def adapters(here: Here) -> Prepared:
    for seed in range(3):
        _adapted(seed).save_pretrained(f"seed-{seed}")
    here.few_questions("cogcalib.tasks")
    return {}, {"passes=10": "passes=2", '["test"]': '["test"][:4]'}


def adapter(here: Here) -> Prepared:
    pytest.importorskip("laplace")
    splits = {name: rows[:2] for name, rows in FEW.splits.items()}
    names = {"model": _adapted(0), "tokenizer": load_tokenizer("atlas"), "splits": splits}
    return names | {"test": splits["test"]}, {'"all"': '"last"'}


def one_process(here: Here) -> Prepared:
    """Shards on one process are whole; test_accelerate_launch.py has several."""
    here.patch.setattr(datasets.config, "HF_DATASETS_CACHE", here.folder / "cache")
    write_rows(here.folder / "train.jsonl", rows_of("train", 0, 210))
    small = 'CogCalibConfig("out", max_steps=2, use_cpu=True, bf16=False, '
    return {}, {
        "fsdp_size=8": "fsdp_size=1",
        '"Qwen/Qwen2.5-7B"': f'"{resolve_model("atlas")}", dtype="float32"',
        'CogCalibConfig("out", ': small,
    }


def _adapted(seed: int) -> PeftModel:
    torch.manual_seed(seed)
    model = get_peft_model(load_model("atlas")[0], lora_config(2, 4, 0.5, "all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    return model


PREPARED: dict[tuple[str, int], Callable[[Here], Prepared]] = {
    ("distributed", 0): one_process,
    ("metrics", 0): arrays,
    ("metrics", 1): lm_eval_samples,
    ("tasks", 0): real_data,
    ("scoring", 0): fewer,
    ("scoring", 1): vllm,
    ("scoring", 2): endpoint,
    ("serve", 0): server,
    ("probe", 0): probe_folder,
    ("baselines", 0): predictions,
    ("baselines", 1): predictions,
    ("baselines", 2): config,
    ("baselines", 3): adapters,
    ("baselines", 4): adapter,
}


def test_every_block_is_run_somewhere() -> None:
    shown = {(name_of(page), n) for page in PAGES for n in range(len(blocks(page)))}
    elsewhere = {each for each in shown if each[0] in ELSEWHERE}
    assert {page for page, _ in elsewhere} == set(ELSEWHERE)
    assert sorted(shown - elsewhere) == sorted(PREPARED)
    for test in set(ELSEWHERE.values()):
        assert (ROOT / "tests" / "docs" / test).is_file()


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Here]:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        yield Here(tmp_path, monkeypatch, request, stack)


@pytest.mark.parametrize(("page", "number"), PREPARED)
def test_it_runs(page: str, number: int, here: Here) -> None:
    (path,) = (each for each in PAGES if name_of(each) == page)
    code = blocks(path)[number]
    names, replaced = PREPARED[page, number](here)
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, f"{page}.md, block {number}", "exec"), names)

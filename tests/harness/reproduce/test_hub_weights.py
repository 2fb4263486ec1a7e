"""Weights on the hub: access, revisions, and whether the cache has all of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cogcalib.harness.reproduce import hub_weights
from cogcalib.harness.reproduce.hub_weights import INDEX, WEIGHTS, access, missing_files

NAME = "meta-llama/Meta-Llama-3-8B"
COMMIT = "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920"


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_weights, "mind_the_network", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of a model of two shards in a cache, one of which is there."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    find = huggingface_hub.try_to_load_from_cache

    def here(model: str, name: str, *, revision: str | None) -> Any:
        return find(model, name, cache_dir=tmp_path, revision=revision)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", here)
    model = tmp_path / f"models--{NAME.replace('/', '--')}"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / INDEX).write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").touch()
    return snapshot


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "the hub gives it"),
        (GatedRepoError, "gated: accept its licence at"),
        (RepositoryNotFoundError, "the hub has none of this name"),
    ],
)
def test_gates_of_the_hub_are_told_apart(
    error: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def auth_check(_: str) -> None:
        if error is not None:
            raise error("no", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "auth_check", auth_check)
    passed, text = access(NAME, None)
    assert passed == (error is None)
    assert said in text


def test_a_revision_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        def model_info(self, model: str, *, revision: str) -> None:
            if revision != "v2":
                response: Any = SimpleNamespace(headers={}, request=None)
                raise RevisionNotFoundError("no", response=response)

    monkeypatch.setattr(huggingface_hub, "auth_check", lambda _: None)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert access(NAME, "v2") == (True, "the hub gives it")
    assert access(NAME, "v3") == (False, "the hub has no revision v3 of it")


def test_offline_every_shard_that_the_index_names_must_be_there(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    passed, text = access(NAME, None)
    assert not passed
    assert "model-2.safetensors not in the cache, and the hub is not asked" in text
    (cached / "model-2.safetensors").touch()
    assert access(NAME, None) == (True, "in the cache")
    assert access(NAME, COMMIT) == (True, "in the cache")
    # Of another revision nothing is there.
    assert not access(NAME, "v2")[0]
    assert not access("nobody/has-this-in-a-cache", None)[0]


def test_a_single_file_or_none(cached: Path) -> None:
    (cached / INDEX).unlink()
    assert missing_files(NAME, None) == [WEIGHTS]
    (cached / WEIGHTS).touch()
    assert missing_files(NAME, None) == []


def test_room_is_looked_for_where_the_cache_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not" / "yet"))
    assert hub_weights.cache_folder() == tmp_path
    assert hub_weights.cache_room() > 0
    assert hub_weights.shares_disk(tmp_path)

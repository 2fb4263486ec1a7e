"""Weights on the hub: whether they can be had, whether its cache has them, and room for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cogcalib.artifacts import read_json
from cogcalib.hub import mind_the_network, why_away
from cogcalib.modeling.model_files import in_a_line

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def access(model: str, revision: str | None) -> tuple[bool, str]:
    """Whether the weights of a hub model can be had, and what was found.

    Args:
        model: Its name on the hub.
        revision: Commit, tag or branch; None is its main branch.
    """
    from huggingface_hub import HfApi, auth_check, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    mind_the_network()
    if constants.HF_HUB_OFFLINE:
        lost = missing_files(model, revision)
        if not lost:
            return True, "in the cache"
        named = f"{lost[0]}{f' and {len(lost) - 1} more' if lost[1:] else ''}"
        return False, f"{named} not in the cache, and the hub is not asked: {why_away()}"
    try:
        auth_check(model)
        if revision is not None:  # which the check of the login does not look at
            HfApi().model_info(model, revision=revision)
    except GatedRepoError:
        text = f"gated: accept its licence at {constants.ENDPOINT}/{model}, then `hf auth login`"
        return False, text
    except RevisionNotFoundError:
        return False, f"the hub has no revision {revision} of it"
    except RepositoryNotFoundError:
        return False, "the hub has none of this name, or shows it to its owners' tokens alone"
    except (HfHubHTTPError, OSError) as error:
        return False, in_a_line(error)
    return True, "the hub gives it"


def missing_files(model: str, revision: str | None) -> list[str]:
    """Files of a hub model's weights that are not in the cache: shards by the index, if it has one.

    Of a model that has neither index nor a single file there, that file's name.
    """
    if _cached(model, WEIGHTS, revision):
        return []
    index = _cached(model, INDEX, revision)
    if index is None:
        return [WEIGHTS]
    shards = sorted(set(read_json(Path(index), dict)["weight_map"].values()))
    return [name for name in shards if not _cached(model, name, revision)]


def _cached(model: str, name: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return found if isinstance(found, str) else None


def cache_folder() -> Path:
    """The hub's cache, or the nearest folder above it that exists."""
    from huggingface_hub import constants

    wanted = Path(constants.HF_HUB_CACHE).absolute()
    return next(each for each in (wanted, *wanted.parents) if each.exists())


def cache_room() -> int:
    """Free bytes of the file system of the hub's cache."""
    return shutil.disk_usage(cache_folder()).free


def shares_disk(path: Path) -> bool:
    """Whether an existing folder is on the file system of the hub's cache."""
    return os.stat(path).st_dev == os.stat(cache_folder()).st_dev

"""Every command on a page runs as it stands there, or a reason why not stands here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from at_hand import put_at_hand
from completion_server import CompletionServer, serve
from pages import PAGES, commands, name_of
from reader import Reader
from small_world import small_atlas

from cogcalib.harness.tuning import grid
from cogcalib.modeling import load_model

# A copy of Atlas is a model like another, and its weights are float16.
pytestmark = pytest.mark.filterwarnings("ignore:dtype auto")

EXCUSED = {
    r"git clone|pip install|hf |export HF_|for task in": "asks GitHub, an index or the hub",
    r"make ": "jobs of CI are these targets; the others take minutes",
    r"source \.venv/bin/activate": "of the environment that `make demo` sets up",
    r"vllm serve|llama-server": "not installed; completion_server.py answers as they do",
    r"accelerate launch": "test_accelerate_launch.py, test_two_processes_score.py",
    r"sbatch": "tests/examples/test_slurm.py, with stand-ins for Slurm",
    r"python -m pytest": "is a test",
    r"python experiments/|.* --model experiments/": "hours, and data that CI has not",
    r"cogcalib .*--model smollm2": "93 MB to download",
    r"cogcalib .*--four-bit": "needs bitsandbytes",
    r"cogcalib reproduce .*--check": "needs the hub; tests/harness/reproduce/test_preflight.py",
}
"""Beginning of a command -> why it is not run."""
FEW = 64
"""Questions in each split of the embedded world."""
STAND_INS = {
    r"(--endpoint \S+ --model) merged": r"\1 my-model",
    r"predict out questions\.csv": "predict out choices.csv",
    r"http://localhost:80[08]0/v1": "{endpoint}",
    r"http://127\.0\.0\.1:8000": "{served}",
    r"Qwen/Qwen2\.5-7B\b": "my-model",
    r"\barc_challenge\b": "atlas/capital",
    r"\btasks show NAME\b": "tasks show atlas/country",
    r"\b(NAME|MODEL)\b": "my-model",
    r"--limit 300\b": f"--limit {FEW}",
    r"\bCONFIG\b": "my.yaml",
    r"=FOLDER\b": "=runs/probe-atlas-atlas-country",
    r"\bFILE\b": "ready.json",
    # Hours. Names and rows are checked, and the plan is made.
    r"^(cogcalib reproduce (?!.*--dry-run).*)$": r"\1 --dry-run",
}
"""What stands on a page -> what takes its place here."""


def excuse(command: str) -> str | None:
    return next((each for each in EXCUSED if re.match(each, command)), None)


RUN = {page: [each for each in commands(page) if not excuse(each)] for page in PAGES}


@pytest.fixture(scope="session")
def at_hand(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "at-hand"
    put_at_hand(folder, trained)
    return folder


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    with serve(CompletionServer(*load_model("atlas"), name="my-model")) as server:
        yield server.url


@pytest.fixture
def reader(at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """One who has these files in a folder, and a stand-in for llama.cpp's converter."""
    here = tmp_path / "here"
    shutil.copytree(at_hand, here, symlinks=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("COGCALIB_GGUF_CONVERTER", str(here / "convert_hf_to_gguf.py"))
    monkeypatch.setitem(grid.GRID, "label_smoothing", (0.1, 0.2))
    made = Reader()
    with small_atlas(FEW):
        yield made
        made.leave()


def test_every_excuse_is_needed() -> None:
    used = {excuse(each) for page in PAGES for each in commands(page)}
    assert used == {None, *EXCUSED}


def test_a_program_that_nobody_excused_is_named() -> None:
    with pytest.raises(AssertionError, match="neither run nor excused: docker run model"):
        Reader().do("docker run model")


@pytest.mark.parametrize("page", [page for page, each in RUN.items() if each], ids=name_of)
def test_commands_of_a_page_run_in_order(page: Path, reader: Reader, endpoint: str) -> None:
    for command in RUN[page]:
        asked = command
        for old, new in STAND_INS.items():
            new = new.format(endpoint=endpoint, served=reader.address)
            asked = re.sub(old, new, asked)
        reader.do(asked)

"""The template for Slurm: its options, and a job that is told to end, with stand-ins."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from cogcalib.cli import build_parser

TEMPLATE = Path(__file__).parents[2] / "examples" / "reproduce.slurm"
STAND_IN = """#!/bin/bash
trap 'echo checkpoint >> {folder}/called; exit 143' TERM
echo "$@" >> {folder}/called
{work}
"""


def start(folder: Path, work: str) -> subprocess.Popen[str]:
    commands = {"cogcalib": STAND_IN.format(folder=folder, work=work)}
    commands["scontrol"] = f'#!/bin/bash\necho "scontrol $@" >> {folder}/called\n'
    for name, text in commands.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    slurm = {"SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "2"}
    environment = {**os.environ, **slurm, "PATH": f"{folder}:{os.environ['PATH']}"}
    words = ["bash", str(TEMPLATE), "main", "mine.yaml", "--data-dir", "data"]
    return subprocess.Popen(words, env=environment, text=True)


def test_a_job_told_to_end_hands_it_on_and_is_queued_again(tmp_path: Path) -> None:
    job = start(tmp_path, "for _ in {1..600}; do sleep 0.05; done")
    while not (tmp_path / "called").exists():
        assert job.poll() is None
        time.sleep(0.05)
    job.terminate()
    assert job.wait(timeout=30) == 143
    command, *rest = (tmp_path / "called").read_text().splitlines()
    assert rest == ["checkpoint", "scontrol requeue 71_2"]
    options = build_parser("reproduce").parse_args(command.split())
    assert (options.table, options.model, options.data_dir) == ("main", "mine.yaml", Path("data"))


def test_a_job_that_ends_by_itself_is_not(tmp_path: Path) -> None:
    for code in (0, 1, 143):
        assert start(tmp_path, f"exit {code}").wait(timeout=30) == code
    assert "scontrol" not in (tmp_path / "called").read_text()


def test_options_of_the_batch_system_stand_before_the_first_command() -> None:
    """Slurm reads no further."""
    text = TEMPLATE.read_text(encoding="utf-8")
    head = re.split(r"^(?!#|$)", text, maxsplit=1, flags=re.M)[0]
    assert text.startswith("#!/bin/bash\n")
    assert head.count("\n#SBATCH ") == text.count("#SBATCH ") == 10
    assert "--signal=B:TERM@300" in head

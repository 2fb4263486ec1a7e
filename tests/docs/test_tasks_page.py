"""The page on tasks: its table, its examples and its keys are those of the code.

``python tests/docs/test_tasks_page.py DATA_FOLDER`` prints the table.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from cogcalib.cli import main
from cogcalib.modeling import load_tokenizer, render_prompt
from cogcalib.tasks import Task, load_task, summaries, task_names
from cogcalib.tasks.task_file import Carve, Definition, Options, Part, Source, Split

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tasks.md"
# The 24 relations of EntityQuestions stand in the table as one.
SHOWN = [name for name in task_names() if not name.startswith("entity_questions/")]
#: Loads in seconds; the others are compared by their numbers of rows.
MEASURED = ("atlas/country", "arc_challenge", "openbookqa", "winogrande_s", "mmlu/business")


def line(task: Task) -> str:
    """A row of the table."""
    prompts = [render_prompt(example) for example in task.splits["test"]]
    words = sum(len(prompt.split()) for prompt in prompts) / len(prompts)
    tokens = sum(map(len, load_tokenizer("atlas")(prompts)["input_ids"])) / len(prompts)
    rows = [str(len(task.splits[s])) if s in task.splits else "" for s in SPLITS]
    dropped = [f"{r.split} {r.questions} ({r.rows}) in {r.found_in}" for r in task.dropped]
    cells = [f"`{task.name}`", *rows, ", ".join(dropped), f"{words:.1f}", f"{tokens:.1f}"]
    return f"| {' | '.join(cells)} |"


SPLITS = ("train", "calibration", "test")


def shown_lines() -> dict[str, str]:
    page = PAGE.read_text(encoding="utf-8")
    return {
        found[1]: found[0]
        for found in re.finditer(r"^\| `([\w/-]+)` \|.+\| [\d.]+ \|$", page, re.M)
    }


def test_every_task_stands_in_the_table_with_its_rows() -> None:
    shown = shown_lines()
    assert list(shown) == SHOWN
    for task in summaries():
        if task.name in shown:
            cells = [cell.strip() for cell in shown[task.name].split("|")][2:5]
            assert cells == [str(task.rows.get(split, "")) for split in SPLITS]


def test_the_table_is_what_loading_gives(shared_data: Path) -> None:
    shown = shown_lines()
    for name in MEASURED:
        assert shown[name] == line(load_task(name, shared_data))


def test_the_examples_are_the_files() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for file in ("rivers.yaml", "mountains.yaml"):
        path = ROOT / "examples" / "own_task" / file
        assert f"```yaml\n{path.read_text(encoding='utf-8')}```" in page
    rows = (ROOT / "examples" / "own_task" / "rivers.csv").read_text(encoding="utf-8").splitlines()
    assert "```csv\n" + "\n".join(rows[:4]) + "\n```" in page


def test_the_example_on_the_page_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        name = yaml.safe_load(block)["name"]
        (tmp_path / f"{name}.yaml").write_text(block, encoding="utf-8")
    for file in (ROOT / "examples" / "own_task").iterdir():
        if file.suffix != ".yaml":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_task(tmp_path / "rivers.yaml").splits["test"]
    assert load_task(tmp_path / "mountains.yaml").splits["test"]


def test_the_rows_on_the_page_are_scored_and_make_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### Rows that you train on")[2]
    section = section.partition("### Keys")[0]
    (rows,) = re.findall(r"```json\n(.+?)```", section, re.DOTALL)
    (block,) = re.findall(r"```yaml\n(.+?)```", section, re.DOTALL)
    (command,) = re.findall(r"`cogcalib (score .+?)`", section)
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(rows, encoding="utf-8")
    assert main(shlex.split(command.replace("my-model", "atlas"))) == 0
    assert "labels: A B are single tokens after the prompt" in capsys.readouterr().out
    for name in ("train", "calibration", "test"):
        Path(f"{name}.jsonl").write_text(rows.replace("Is", f"{name}: is"), encoding="utf-8")
    Path("mine.yaml").write_text(block, encoding="utf-8")
    sizes = {split: len(each) for split, each in load_task("mine.yaml").splits.items()}
    assert sizes == dict.fromkeys(SPLITS, 2)


def test_every_key_is_explained() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| key | meaning |")[2]
    for section in (Definition, Source, Part, Options, Split, Carve):
        for key in section.model_fields:
            assert re.search(rf"`(?:\w+\.)?{key}[`.]", table), key


if __name__ == "__main__":
    for shown_name in SHOWN:
        print(line(load_task(shown_name, sys.argv[1])), flush=True)

"""``--engine ray``, a real local Ray of two workers: the rows of one process, whatever dies."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cogcalib import cli
from cogcalib.knowledge import ray_engine
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.knowledge.probe_worker import Finished
from cogcalib.tasks import load_task

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray Data: pip install cogcalib[ray]"
)
QUESTIONS, PARTITION = 1200, 100
ACTOR = b"MapBatches(_Actor)"


@dataclass(frozen=True)
class World:
    """A table, its words on the command line, and the rows that one process finds."""

    words: list[str]
    local: Path

    def start(self, folder: Path) -> subprocess.Popen[str]:
        words = [*self.words, "--output", str(folder), "--engine", "ray", "--workers", "2"]
        return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)

    def check(self, folder: Path) -> None:
        parts = sorted((folder / "probe.parquet").iterdir())
        assert [part.name for part in parts] == [
            f"{number:08d}.parquet" for number in range(QUESTIONS // PARTITION)
        ]
        assert pq.read_table(folder / "probe.parquet").equals(pq.read_table(self.local))
        assert not (folder / "parts").exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    data = folder / "own.jsonl"
    examples = load_task("atlas/country-open").splits["train"][:QUESTIONS]
    lines = (json.dumps({"question": e.prompt, "answer": e.answer}) for e in examples)
    data.write_text("\n".join(lines), encoding="utf-8")
    words = [sys.executable, "-m", "cogcalib", "probe", "--model", "atlas"]
    words += ["--data", str(data), "--prompts", "3", "--shots", "2"]
    words += ["--partition", str(PARTITION)]
    subprocess.run([*words, "--output", str(folder / "local")], check=True, capture_output=True)
    return World(words, folder / "local" / "probe.parquet")


def below(driver: int) -> dict[int, bytes]:
    """The processes that `driver` started, and those that they did: id -> command line."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            commands[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])

    def ancestors(pid: int) -> Iterator[int]:
        while pid := parents.get(pid, 0):
            yield pid

    return {pid: command for pid, command in commands.items() if driver in ancestors(pid)}


def wait_for_parts(process: subprocess.Popen[str], folder: Path, least: int) -> list[Path]:
    """The finished parts, as soon as there are so many and others are still to come."""
    for _ in range(30_000):
        parts = sorted((folder / "parts").glob("*.parquet"))
        if len(parts) >= least:
            assert len(parts) < QUESTIONS // PARTITION, "it was too fast to be disturbed"
            return parts
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError("no part was finished in ten minutes")


def identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


@needs_ray
@pytest.mark.slow
def test_a_killed_worker_changes_nothing(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with world.start(folder) as process:
        before = {part.name: identity(part) for part in wait_for_parts(process, folder, 2)}
        actors = [pid for pid, command in below(process.pid).items() if ACTOR in command]
        assert len(actors) == 2
        os.kill(actors[0], signal.SIGKILL)
        assert process.wait(timeout=900) == 0, process.communicate()[1]
    world.check(folder)
    assert {name: identity(folder / "probe.parquet" / name) for name in before} == before


@needs_ray
@pytest.mark.slow
def test_a_killed_driver_is_gone_on_with(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with world.start(folder) as process:
        wait_for_parts(process, folder, 2)
        family = below(process.pid)
        process.kill()
    for pid in family:  # Ray's processes end by themselves, soon after
        for _ in range(1500):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.02)
    before = {part.name: identity(part) for part in (folder / "parts").glob("*.parquet")}
    assert 2 <= len(before) < QUESTIONS // PARTITION
    with world.start(folder) as process:
        assert process.wait(timeout=900) == 0, process.communicate()[1]
    world.check(folder)
    assert {name: identity(folder / "probe.parquet" / name) for name in before} == before


@needs_ray
@pytest.mark.slow
def test_what_a_worker_refuses_is_the_users_to_mend(world: World, tmp_path: Path) -> None:
    words = [*world.words, "--output", str(tmp_path / "p"), "--engine", "ray", "--shots", "60"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 2, done.stderr
    assert "use fewer shots" in done.stderr.splitlines()[-1]
    words = [*world.words, "--output", str(tmp_path / "q"), "--engine", "ray", "--workers", "999"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 2, done.stderr
    assert "workers must be at most" in done.stderr


def test_without_ray_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    words = ["probe", "--model", "atlas", "--task", "atlas/country", "--engine", "ray"]
    assert cli.main(words) == 2
    assert 'pip install "cogcalib[ray]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"engine": "spark"}, "engine must be one of local, ray, got 'spark'"),
        ({"workers": 2}, "workers are Ray's: they need engine ray"),
        ({"engine": "ray", "workers": 0}, "workers must be at least 1, got 0"),
        ({"partition": 0}, "partition must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeTask(model="atlas", task="atlas/country", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resources", "workers", "room"),
    [
        ({"CPU": 8.0}, None, (1, {"num_cpus": 8})),
        ({"CPU": 9.0}, 2, (2, {"num_cpus": 4})),
        ({"CPU": 8.0, "GPU": 4.0}, None, (4, {"num_gpus": 1})),
        ({"CPU": 8.0, "GPU": 4.0}, 3, (3, {"num_gpus": 1})),
    ],
)
def test_room(resources: dict[str, float], workers: int | None, room: object) -> None:
    assert ray_engine._room(resources, workers) == room


def test_too_many_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at most 4, the GPUs that Ray has, got 5"):
        ray_engine._room({"CPU": 99.0, "GPU": 4.0}, 5)


def test_a_partition_that_kills_its_worker_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying:
        def __init__(self, plan: object) -> None:
            raise SystemExit("killed")

    actor = object.__new__(ray_engine._Actor)
    actor.plan, actor.worker = StandIn(tmp_path / "parts"), None  # type: ignore[assignment]
    monkeypatch.setattr(ray_engine, "ProbeWorker", Dying)
    for _ in range(ray_engine.TRIES):
        with pytest.raises(SystemExit):
            actor({"number": [2]})
    row = actor({"number": [2]})
    assert row["lost"] == [201]
    assert row["wrong"] == [""]
    with pytest.raises(SystemExit):
        actor({"number": [3]})


class StandIn:
    """As much of a plan as an actor asks for before it has a model."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.questions = folder, self
        self.partition = 100

    def part(self, number: int) -> Path:
        return self.folder / f"{number:08d}.parquet"


def test_sums_are_told_as_one() -> None:
    assert ray_engine._row(Finished(3, 2, 1)) == {
        "wrong": [""], "lost": [0], "renderings": [3], "kept": [2], "shortened": [1],
    }  # fmt: skip

"""The preset of the embedded world without its other tasks is that world's in all else."""

from __future__ import annotations

from pathlib import Path

from cogcalib.harness.reproduce.definitions import load_preset

FILE = Path(__file__).resolve().parents[2] / "experiments" / "atlas_in_domain.yaml"


def test_it_trains_as_atlas_does() -> None:
    own, whole = load_preset(str(FILE)), load_preset("atlas")
    assert own.config == whole.config
    (task,) = own.tasks.values()
    others = {"out_of_domain": whole.tasks["country"]["tasks"]["out_of_domain"]}
    assert task["tasks"] | others == whole.tasks["country"]["tasks"]

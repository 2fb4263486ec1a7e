"""Trainings that tests run on several processes: ``launched.py FOLDER`` reads ``FOLDER/jobs.json``.

What `accelerate launch` says of the processes decides how the model is spread over them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import DistributedType, PartialState
from datasets import Dataset
from peft import LoraConfig
from tiny_run import make_args, make_data, make_model, make_rows, make_trainer
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, TrainerCallback
from transformers.distributed import DistributedConfig

from cogcalib.training import KnowledgeState

JOBS = "jobs.json"


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        name: Of its output folder and results.
        batch: Examples per step on all processes together.
        calibration: Examples of the calibration split.
        lora: Adapters instead of the whole model.
        loading: ``"no"``: built in process. ``"path"``: the trainer loads it. ``"sharded"``:
            transformers shards it while loading.
        dropout: Of the attention.
        uneven: Answers of two to five tokens, so that processes see different numbers of them, a
            third of them labelled known; else each has two, and options.
        kill: Where processes kill themselves, in the step or the checkpoint `kill_at`: all between
            the micro-batches of a ``"step"``, the first after writing the ``"knowledge"`` of a
            checkpoint, the last before writing its ``"random"`` numbers.
        kill_at: Number of the step or the checkpoint.
        resume: Go on from the last complete checkpoint.
        settings: Of `CogCalibConfig`.
    """

    name: str
    batch: int = 8
    calibration: int = 24
    lora: bool = False
    loading: str = "no"
    dropout: float = 0.0
    uneven: bool = False
    kill: str | None = None
    kill_at: int = 0
    resume: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def write_jobs(folder: Path, jobs: list[Job]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOBS).write_text(json.dumps([asdict(job) for job in jobs]))


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train, on this process or with others, and return what has to be the same everywhere."""
    settings = {**job.settings, **of_this_launch()}
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulated = settings.get("gradient_accumulation_steps", 1)
    settings["per_device_train_batch_size"] = job.batch // processes // accumulated
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"]) if job.lora else None
    trainer = make_trainer(
        folder / job.name,
        model=make(job, folder, settings),
        train=make_examples(32, uneven=job.uneven),
        calibration=make_examples(job.calibration, seed=1, uneven=job.uneven),
        sft_arguments={"peft_config": adapter},
        **settings,
    )
    with watched(trainer, job) as written:
        trainer.train(resume_from_checkpoint=job.resume or None)
    return {
        "history": trainer.threshold_history,
        "knowledge": trainer.knowledge,
        "log": [row for row in trainer.state.log_history if "loss" in row],
        "weights": whole_weights(trainer),
        "kind": str(trainer.accelerator.distributed_type.value),
        "processes": trainer.accelerator.num_processes,
        "sharded": sum(map(is_sharded, trainer.model.parameters())),
        "fused": trainer.runner.fused,
        "written": written,
    }


def make_examples(n: int, seed: int = 0, *, uneven: bool) -> Dataset:
    if not uneven:
        return make_data(n, seed)
    return Dataset.from_list(
        [
            {
                "prompt": row["prompt"],
                "completion": row["completion"] + " w0" * (index % 4),
                "known": index % 3 == 0,
            }
            for index, row in enumerate(make_rows(n, seed))
        ]
    )


def make(job: Job, folder: Path, settings: dict[str, Any]) -> Any:
    model = make_model(attention_dropout=job.dropout)
    if job.loading == "no":
        return model
    path = folder / f"{job.name}-model"
    make_args(folder, **settings)  # starts the processes' group
    if PartialState().is_main_process:
        model.save_pretrained(path)
    PartialState().wait_for_everyone()
    if job.loading == "path":
        return str(path)
    processes = PartialState().num_processes
    sharding = DistributedConfig(fsdp_size=processes) if processes > 1 else None
    return AutoModelForCausalLM.from_pretrained(path, distributed_config=sharding)


def of_this_launch() -> dict[str, Any]:
    """Settings that put each kind of training on processors.

    With ``use_cpu`` accelerate knows plain data parallelism only. Told that the process group is
    one of accelerators, it shards what it has, on the device `ACCELERATE_TORCH_DEVICE`: processors.
    """
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
        return {"use_cpu": False}
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed

        # Else compiled from C++ on first use, for communication that gloo does as well.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        return {"use_cpu": False, "ddp_backend": "gloo"}
    return {}


def is_sharded(parameter: torch.nn.Parameter) -> bool:
    return isinstance(parameter, DTensor) or hasattr(parameter, "ds_id")


def whole_weights(trainer: Any) -> dict[str, torch.Tensor]:
    """The weights gathered from all processes, each of which has to call this."""
    parameters = dict(trainer.model.named_parameters())
    gathered: Any = nullcontext()
    if any(hasattr(parameter, "ds_id") for parameter in parameters.values()):
        import deepspeed

        gathered = deepspeed.zero.GatheredParameters(list(parameters.values()))
    with gathered:
        return {
            name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
            for name, p in parameters.items()
        }


class KillBetweenMicroBatches(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            kill_this_process()


@contextmanager
def watched(trainer: Any, job: Job) -> Iterator[list[str]]:
    """Yield the checkpoints whose knowledge this process writes; kill it where `job` says."""
    written: list[str] = []
    save_knowledge, save_random = KnowledgeState.save, trainer._save_rng_state
    last = trainer.args.process_index == trainer.args.world_size - 1
    target = f"checkpoint-{job.kill_at}"

    def knowledge(state: KnowledgeState, directory: Path | str) -> Path:
        written.append(Path(directory).name)
        path = save_knowledge(state, directory)
        if job.kill == "knowledge" and written[-1] == target:
            kill_this_process()
        return path

    def random(directory: str) -> None:
        if job.kill == "random" and last and Path(directory).name == target:
            kill_this_process()
        save_random(directory)

    if job.kill == "step":
        trainer.add_callback(KillBetweenMicroBatches(job.kill_at))
    with (
        patch.object(KnowledgeState, "save", knowledge),
        patch.object(trainer, "_save_rng_state", random),
    ):
        yield written


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for entry in json.loads((folder / JOBS).read_text()):
        job = Job(**entry)
        torch.save(run(job, folder), folder / f"{job.name}-{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Everything is written. Now and then a thread of gloo aborts a process that takes its group
    # down, or that ends with it up; so once all are here, they leave without taking anything down.
    PartialState().wait_for_everyone()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

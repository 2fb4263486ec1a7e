"""Checkpoints: finding the one to go on from, making one, loading one whole; the trainer's part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from datasets import Dataset
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.trainer import SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from cogcalib.training.example_order import ORDER_NAME, RecordedOrder
from cogcalib.training.ledger_writer import LedgerWriter
from cogcalib.training.preparation import PreparedTrainer
from cogcalib.training.run_identity import (
    Identity,
    frozen_weights,
    refuse_another_run,
    run_identity,
)
from cogcalib.training.state import STATE_NAME, KnowledgeState

if TYPE_CHECKING:
    from cogcalib.training.prior_labels import PriorLabels
    from cogcalib.training.recent_answers import RecentAnswers


def last_complete_checkpoint(directory: Path | str, gate: str) -> str | None:
    """The newest checkpoint in `directory` that was written to its end, or None.

    transformers writes ``trainer_state.json`` last, so a folder without a readable one is what a
    kill during saving left behind. One without optimizer, schedule or random numbers, as
    ``save_only_model=True`` writes them, has weights, but nothing goes on from it. Nor does it from
    one of whose files an end is cut off, as a full disk or a lost machine leave it.

    Args:
        directory: The run's output folder; it need not exist.
        gate: Every gate but ``none`` also needs what the run knew of its thresholds.
    """
    for folder in _newest_first(directory):
        if not missing_parts(folder, gate):
            return str(folder)
    return None


def _newest_first(directory: Path | str) -> list[Path]:
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    steps = [
        int(number)
        for folder in Path(directory).glob(f"{prefix}*")
        if (number := folder.name.removeprefix(prefix)).isdecimal()
    ]
    return [Path(directory) / f"{prefix}{step}" for step in sorted(steps, reverse=True)]


def missing_parts(folder: Path | str, gate: str) -> list[str]:
    """What a checkpoint lacks to be gone on from, or has no more than a part of: names of files.

    Args:
        folder: Of the checkpoint.
        gate: As in `last_complete_checkpoint`.
    """
    folder = Path(folder)
    names = {each.name for each in folder.iterdir()} if folder.is_dir() else set[str]()
    deepspeed = any(name.startswith("global_step") for name in names)  # a folder of its own
    # FSDP names a folder or a file optimizer.bin.
    optimizer = deepspeed or any(name.startswith("optimizer") for name in names)
    random = any(name.startswith("rng_state") for name in names)
    found = {
        TRAINER_STATE_NAME: _is_json(folder / TRAINER_STATE_NAME),
        STATE_NAME: gate == "none" or _is_json(folder / STATE_NAME),
        "optimizer.pt": optimizer,
        SCHEDULER_NAME: deepspeed or SCHEDULER_NAME in names,
        "rng_state.pth": random,
    }
    missing = [name for name, there in found.items() if not there]
    return missing + [n for n in sorted(names) if n not in missing and _is_cut_off(folder / n)]


def refuse_missing(checkpoint: str, gate: str, files: Sequence[str] = ()) -> None:
    """Raise ValueError if a checkpoint lacks a part, or one of the files that this process needs.

    Args:
        checkpoint: Its folder.
        gate: As in `last_complete_checkpoint`.
        files: Names of those files.
    """
    missing = missing_parts(checkpoint, gate)
    missing += [f for f in files if f not in missing and not (Path(checkpoint) / f).is_file()]
    if missing:
        raise ValueError(
            f"{checkpoint} is no whole checkpoint of a CogCalibTrainer: {', '.join(missing)} "
            "missing or cut off, hence learning rate, moments, random numbers or thresholds would "
            "begin anew (save_only_model=True saves none of them); go on from a whole one, or "
            "begin anew with its weights by giving the folder as the model"
        )


def checkpoint_to_resume(
    wanted: str | Path | bool | None, directory: Path | str, gate: str
) -> str | None:
    """The checkpoint that ``resume_from_checkpoint=wanted`` means, or None to begin anew.

    Raises:
        ValueError: If `wanted` is True and `directory` has no complete checkpoint.
    """
    if wanted is not True:
        return str(wanted) if wanted else None
    last = last_complete_checkpoint(directory, gate)
    if last is None:
        newest = _newest_first(directory)[:1]
        lacks = "".join(f": {f.name} lacks {', '.join(missing_parts(f, gate))}" for f in newest)
        raise ValueError(f"resume_from_checkpoint=True, but {directory} has no complete one{lacks}")
    return last


def load_whole(model: PreTrainedModel, folder: str, load_result: Any) -> None:
    """Load the weights of a checkpoint again where some did not find their place.

    transformers saves some architectures under other names than the model's own (GPT-NeoX, mixtures
    of experts), loads a checkpoint by the model's, and only warns of the rest: training would go on
    from weights that are partly the initial ones.

    Args:
        model: Into which a checkpoint was loaded.
        folder: Of the checkpoint.
        load_result: The missing and unexpected keys.

    Raises:
        RuntimeError: If there are weights missing that way, too.
    """
    tied = set(model.all_tied_weights_keys)
    if set(load_result.missing_keys) <= tied and not load_result.unexpected_keys:
        return
    whole = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(whole.state_dict())


def begin_checkpoint(folder: Path) -> Path:
    """Make `folder`; an older one of that name counts as incomplete while it is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (TRAINER_STATE_NAME, ORDER_NAME):  # the latter is not in every checkpoint
        (folder / name).unlink(missing_ok=True)
    return folder


def _is_cut_off(path: Path) -> bool:
    """Whether a file of tensors lacks its end: neither kind of file is read for it as a whole."""
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                return False
        except SafetensorError:
            return True
    # `torch.save` writes zip archives, whose table stands at the end.
    return path.suffix in (".pt", ".pth") and not is_zipfile(path)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


class ResumableTrainer(PreparedTrainer):
    """A `PreparedTrainer` that goes on from a whole checkpoint of the same run, or not at all.

    Attributes:
        knowledge: What is saved with each checkpoint.
        recent: The answers last trained on, if alpha follows them.
        prior: The labels of the gate ``prior``, if it is that.
        ledger: Written with each checkpoint, if one is kept.
        resumed_from: The checkpoint that the training went on from.
        identity: What the training is, compared with what the checkpoint was.
    """

    knowledge: KnowledgeState
    recent: RecentAnswers | None = None
    prior: PriorLabels | None = None
    ledger: LedgerWriter | None
    resumed_from: str | None = None
    identity: Identity
    _order: RecordedOrder | None = None
    _frozen: str | None = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, or go on from a checkpoint with the thresholds it had; see `Trainer.train`.

        Raises:
            ValueError: If `resume_from_checkpoint` is True and no complete checkpoint is there, if
                the one given is incomplete, or was written by another run: with other data, seed or
                arguments.
        """
        gate = self.args.gate
        self.resumed_from = checkpoint_to_resume(
            resume_from_checkpoint, str(self.args.output_dir), gate
        )
        if self._frozen is None:  # a second training finds the weights sharded
            self._frozen = frozen_weights(self.model)
        self.identity = run_identity(
            self.args,
            self.model,
            self.train_dataset,
            self.calibration_dataset,
            self.accelerator.num_processes,
            self._frozen,
        )
        if self.resumed_from is not None:
            self._check_checkpoint(self.resumed_from)
        return super().train(self.resumed_from, trial, ignore_keys_for_eval)

    def _check_checkpoint(self, checkpoint: str) -> None:
        """Raise ValueError unless it is a whole one of this run."""
        # Plain fine-tuning has no thresholds to restore, and goes on from anybody's checkpoint.
        if (Path(checkpoint) / STATE_NAME).is_file():
            state = KnowledgeState.load(checkpoint)
            refuse_another_run(checkpoint, state.method, self.identity)
        own = f"_{self.args.process_index}" if self.args.world_size > 1 else ""
        files = [f"rng_state{own}.pth"]
        if getattr(self.accelerator, "scaler", None) is not None:
            files.append(SCALER_NAME)  # the scale of the gradients in fp16
        refuse_missing(checkpoint, self.args.gate, files)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            self._order = RecordedOrder(sampler, self.accelerator.num_processes, self.resumed_from)
            return self._order
        return sampler

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._loading = str(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        self._loading = str(self.state.best_model_checkpoint)
        super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        load_whole(self.model, self._loading, load_result)

    def gather_knowledge(self) -> None:
        """Put into `knowledge` what each process has seen by itself; all of them wait for it."""
        if self.recent is not None:
            self.knowledge.recent = self.recent.gather(self.knowledge.recent)
        if self.prior is not None:
            self.knowledge.prior = self.prior.gather(self.accelerator)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.gather_knowledge()
        if self.args.should_save:  # first, so that no checkpoint is complete without it
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder = begin_checkpoint(Path(self._get_output_dir(trial=trial)) / name)
            self.knowledge.save(folder)
        if self.ledger is not None:
            self.ledger.flush(self.state.global_step)
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # At the end of an epoch the next one's order is drawn from the random numbers saved above.
        within = (self.state.epoch or 0) % 1 > 0
        if self._order is not None and within and self.args.should_save:
            self._order.save(output_dir)
        # The first rank writes trainer_state.json next: it must not say "complete" for the others.
        self.accelerator.wait_for_everyone()

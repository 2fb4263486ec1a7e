"""Data preparation: TRL's, with options resolved and nothing cut, dropped or lost in silence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Any, cast

from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from cogcalib.training import dataset_checks
from cogcalib.training.collator import EXTRA_COLUMNS, CogCalibCollator
from cogcalib.training.column_checks import check_token_columns, check_vocabulary
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.logs import get_logger
from cogcalib.training.option_ids import OPTIONS, resolve_options, shared_options
from cogcalib.training.packing import LENGTHS, TOLERANCE, TOLERANCE_HALF, check_isolation, pack
from cogcalib.training.text import (
    check_text,
    said_of_joined,
    warn_of_doubled,
    without_doubled,
)

logger = get_logger(__name__)


class PreparedTrainer(SFTTrainer):
    """A `trl.SFTTrainer` whose examples are whole, checked, and keep their optional columns.

    Attributes:
        calibration_dataset: Prepared examples to measure the model's knowledge on, never packed.
        padded_collator: What makes their batches, the same however the training's are made.
        own_collator: Whether the user gave a collator.
        joined_answers: What was said of answers without a space before them; empty if nothing.
    """

    args: CogCalibConfig
    model: PreTrainedModel
    calibration_dataset: Dataset | None = None
    padded_collator: CogCalibCollator
    own_collator: bool = False
    joined_answers: str = ""
    _vocabulary: tuple[int, int] | None = None
    _prepares_evaluation: bool = False
    _split_rows: dataset_checks.Rows = MappingProxyType({})
    _option_texts: tuple[str, ...] | None = None
    _signature_columns: Any

    def _prepare_dataset(self, *arguments: Any, **named: Any) -> Dataset:
        with dataset_checks.numbered_as_given(
            {} if self._prepares_evaluation else self._split_rows
        ):
            return self._prepared(*arguments, **named)

    def _prepared(
        self,
        dataset: Dataset,
        processing_class: Any,
        args: SFTConfig,
        packing: bool,
        formatting_func: Callable[[dict[str, Any]], str] | None,
        dataset_name: str,
    ) -> Dataset:
        text_field = None if formatting_func else args.dataset_text_field
        dataset_checks.data_format(dataset, f"{dataset_name} data set", text_field)
        dataset = dataset_checks.as_python(dataset)
        if LENGTHS in dataset.column_names:
            return self._packed_already(dataset, dataset_name)
        check_token_columns(dataset, dataset_name, own_collator=self.own_collator)
        if formatting_func is None:
            check_text(dataset, dataset_name, args.dataset_text_field)
            if joined := said_of_joined(dataset, dataset_name):
                logger.warning(joined)
                self.joined_answers = self.joined_answers or joined
            dataset = dataset_checks.without_other_texts(dataset, args.dataset_text_field)
        completion_only = self.completion_only_loss or args.completion_only_loss
        dataset_checks.check_masks(dataset, dataset_name, completion_only)
        uncut = copy.copy(args)
        uncut.max_length, uncut.shuffle_dataset = None, False
        prepare = super()._prepare_dataset

        as_text = "input_ids" not in dataset.column_names

        def tokenise(examples: Dataset) -> Dataset:
            found = prepare(examples, processing_class, uncut, False, formatting_func, dataset_name)
            if not as_text:
                return found
            said = examples is dataset
            return without_doubled(found, self._tokenizer, dataset_name, said=said)

        unit = cast(CogCalibConfig, args).unit_name
        tokenised = tokenise(dataset)
        if OPTIONS in dataset.column_names:
            if not self._prepares_evaluation:
                self._option_texts = shared_options(dataset[OPTIONS])
            by_line = formatting_func is None
            tokenised = resolve_options(
                dataset, tokenised, tokenise, dataset_name, unit, by_line=by_line
            )
        dataset_checks.check_rows(tokenised, dataset_name, args.max_length, unit)
        if not as_text:
            warn_of_doubled(tokenised, self._tokenizer, dataset_name)
        if self._vocabulary is not None:
            check_vocabulary(tokenised, dataset_name, *self._vocabulary)
        if self._prepares_evaluation and cast(CogCalibConfig, args).eval_calibration:
            tokenised = dataset_checks.numbered(tokenised)
        self._prepares_evaluation = True  # the training set comes first
        # Cut and shuffled by TRL, in this order, before and, as there, once more after the packing.
        prepared = prepare(tokenised, processing_class, args, False, None, dataset_name)
        if not packing:
            return prepared
        description = {"num_proc": args.dataset_num_proc, "desc": f"Packing {dataset_name} dataset"}
        length = cast(int, args.max_length)  # the configuration refuses packing without
        packed = pack(prepared, length, args.packing_strategy, description)
        return packed.shuffle(seed=args.seed) if args.shuffle_dataset else packed

    def _packed_already(self, dataset: Dataset, name: str) -> Dataset:
        """Packed rows as they are, for the evaluation only, which prepares some data sets twice."""
        if name in ("train", "calibration") or not self.padding_free:
            raise ValueError(
                f"{name} data set is packed already, it has a column {LENGTHS!r}: nobody could "
                "check its examples; give single examples and set packing=True"
            )
        return dataset

    def _prepare_calibration(self, calibration_dataset: Dataset) -> None:
        """Prepare the calibration split, and make sure that it is not trained on."""
        arguments = (self.processing_class, self.args, False, self._formatting_func)
        with dataset_checks.numbered_as_given(self._split_rows):
            prepared = self._prepared(calibration_dataset, *arguments, "calibration")
        # As the training's loader does it: a collator is given what it is given there.
        prepared = self._remove_unused_columns(prepared, "calibration")
        self.calibration_dataset = dataset_checks.without_numbers(prepared)
        # Without a gate as well: a temperature fitted on leaked examples would be worth nothing.
        dataset_checks.check_disjoint(self.train_dataset, self.calibration_dataset, self._tokenizer)

    def _check_vocabulary(self) -> None:
        """Raise ValueError if the data have tokens that the model does not; once it is loaded."""
        known = self.model.config.get_text_config().vocab_size
        embeddings, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self._vocabulary = (
            getattr(embeddings, "num_embeddings", known),
            getattr(head, "out_features", known),
        )
        evaluation = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
        if not evaluation and self.eval_dataset is not None:
            evaluation = {"eval": self.eval_dataset}
        moved = self.args.packing or self.args.shuffle_dataset
        with dataset_checks.numbered_as_given({} if moved else self._split_rows):
            check_vocabulary(cast(Dataset, self.train_dataset), "train", *self._vocabulary)
        for name, dataset in evaluation.items():
            check_vocabulary(cast(Dataset, dataset), name, *self._vocabulary)

    def _wrap_collator(self) -> None:
        """Let batches carry the optional columns."""
        inner: Any = self.data_collator
        self._isolation_checked = not self.padding_free
        self.data_collator = CogCalibCollator(inner, merges=self.padding_free)
        # Without padding the collator is always TRL's: it takes no other.
        padded = replace(inner, padding_free=False) if self.padding_free else inner
        self.padded_collator = CogCalibCollator(padded)

    def _check_isolation(self, model: nn.Module) -> None:
        """Raise ValueError, before the first batch, if examples in one row see each other."""
        if self._isolation_checked:
            return
        exact = self.model.dtype.itemsize > 2 and not (self.args.bf16 or self.args.fp16)
        check_isolation(
            model,
            self.model.get_output_embeddings(),
            lambda rows: self._prepare_inputs(self.data_collator(rows)),
            chain.from_iterable(cast(Dataset, self.train_dataset)["input_ids"]),
            device=self.accelerator.device,
            tolerance=TOLERANCE if exact else TOLERANCE_HALF,
        )
        self._isolation_checked = True

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = self._signature_columns or []
        self._signature_columns = [*columns, *(c for c in EXTRA_COLUMNS if c not in columns)]

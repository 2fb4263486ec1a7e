"""Models that are asked one after the other, and what the base model answered before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.artifacts import read_json
from cogcalib.baselines import Baseline
from cogcalib.harness.config import Method
from cogcalib.harness.progress import Advance
from cogcalib.harness.remedies import ANEW, again
from cogcalib.harness.run_folder import MODEL
from cogcalib.harness.stages.asked_once import asked_once
from cogcalib.harness.stages.baselines import fit_baseline
from cogcalib.harness.stages.context import RunContext, Splits
from cogcalib.modeling import load_model
from cogcalib.owned_folder import FolderError
from cogcalib.records import Example, InputError, Prediction, input_errors
from cogcalib.scoring import ScoreSettings
from cogcalib.scoring import score as score_examples

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
BASE = Method.parse("base")


class AskedModels:
    """What predictions have in common that are made one after the other.

    A model, or the several of a baseline, stays loaded until another is asked for; what the base
    model was asked without a temperature it is not asked again, for no seed changes it.

    Args:
        shared: Folder of the base model's answers, which other runs share; None shares nothing.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self._shared = shared
        self._key: tuple[str, int | None] | None = None
        self._held: Baseline | Loaded | None = None
        self._answers: dict[tuple[str, str, str], Prediction] = {}

    def load(
        self, context: RunContext, method: Method, seed: int, splits: Splits
    ) -> Baseline | Loaded:
        """What answers for a method, before its post-hoc calibration."""
        key = method.before_posthoc.name, None if method.trained == "base" else seed
        if self._held is None or key != self._key:
            self._key, self._held = key, None  # before the next is loaded
            self._held = (
                fit_baseline(context, method, seed, splits["train"])
                if method.baseline
                else load_trained(context, method, seed)
            )
        return self._held

    def answer(
        self, context: RunContext, examples: Sequence[Example], advance: Advance
    ) -> list[Prediction]:
        """The base model's predictions, asked for where there are none yet."""
        new = [e for e in examples if (e.task, e.split, e.id) not in self._answers]
        settings = ScoreSettings(
            batch_size=context.config.score.batch_size,
            model_name=context.model_name(BASE),
            run=context.config.name,
            progress=advance,
        )

        def ask(questions: Sequence[Example]) -> list[Prediction]:
            asked = self.load(context, BASE, 0, {})
            assert isinstance(asked, tuple)
            return score_examples(*asked, questions, settings)

        if self._shared is None or not new:
            found = ask(new) if new else []
        else:
            # What the folder is claimed for: to hash large weights for every split takes minutes.
            model = read_json(context.folder.path / MODEL, dict, ANEW)
            tasks = sorted({each.task for each in new})
            of = [model, context.config.model.loading(), settings.batch_size, tasks]
            say = context.progress.say
            found = asked_once(self._shared, of, Prediction, new, ask, say)
        named = (replace(row, model=settings.model_name, run=settings.run) for row in found)
        self._answers |= {(row.task, row.split, row.id): row for row in named}
        return [self._answers[e.task, e.split, e.id] for e in examples]


@contextmanager
def _or_again(trained: Path, method: Method) -> Iterator[None]:
    """Say what to do about a trained model that cannot be loaded."""
    try:
        yield
    except InputError as error:
        if method.trained == "base":
            raise
        raise FolderError(f"{error}; {again(trained)}") from error


def load_trained(context: RunContext, method: Method, seed: int) -> Loaded:
    """The model that a method asks, as it was fine-tuned with a seed.

    Raises:
        InputError: If what the folder holds cannot be loaded, or is of another model.
    """
    config = context.config
    trained = context.folder.train(method.trained, seed)
    with _or_again(trained, method), input_errors():
        if method.trained == "base":
            return load_model(config.model.path, **config.model.loading())
        if config.model.lora:
            return load_model(config.model.path, adapter=trained, **config.model.loading())
        return load_model(trained, **config.model.loading(trained=True))

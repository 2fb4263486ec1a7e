"""Seconds and bytes that a cell takes, from what it computes: the estimate until cells are timed.

Every pass takes the longer of two times: that of its arithmetic, and that of starting its kernels
one by one, which a small batch waits for. Loading weights and preparing a cell come on top.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import EARLY
from cogcalib.harness.reproduce.definitions import Preset, Rate
from cogcalib.harness.reproduce.dynamics import POINTS
from cogcalib.harness.reproduce.measured_rates import MeasuredRates
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.reproduce.planned_cells import Cell
from cogcalib.harness.reproduce.specs import has_no_options, is_open_ended
from cogcalib.scoring import ScoreSettings
from cogcalib.tasks import summaries
from cogcalib.training.schedule import Schedule

FORWARD = 2
"""FLOPs per parameter and token of a forward pass (Kaplan et al. 2020, arXiv 2001.08361, 2.1)."""
BACKWARD = 2
"""Of the gradients of the activations; as much again for those of weights, where they are trained:
an adapter's are too few to count."""
FORWARD_KERNELS, STEP_KERNELS = 96, 244
"""Kernels of a decoder layer with LoRA in bf16: forward, and forward and backward. A 32-layer Llama
starts 7,800 a step; those of the optimiser are few for all layers together."""
PADDING = 1.5
"""Tokens computed for a token of text in a batch of eight drawn at random; 1.2 to 1.9 by task.
Scoring sorts by length and pads next to nothing."""
BATCH_TOKENS = 2**16
"""Tokens that a scored batch holds at least, where a GPU has room."""
UNKNOWN_ROWS = 1000
"""Questions of a split whose size nobody stated."""
OPTIONS = 4
"""Of a question, each of which the probe rotates to the front, and Laplace differentiates."""
NOISE = 1.1
"""Of two times, how much longer one is if it is longer."""
NUMBER_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class CellCost:
    """Seconds of a cell by what they go to; bytes it leaves, and has besides while it trains."""

    training: float = 0.0
    calibration: float = 0.0
    scoring: float = 0.0
    probing: float = 0.0
    loading: float = 0.0
    setup: float = 0.0
    disk: float = 0.0
    checkpoints: float = 0.0

    @property
    def seconds(self) -> float:
        """All together."""
        parts = self.training, self.calibration, self.scoring, self.probing
        return sum(parts) + self.loading + self.setup


def cell_cost(cell: Cell, preset: Preset, answered: Collection[str] = ()) -> CellCost:
    """What a cell costs by the preset of its model: the sum of its parts, each as below.

    Args:
        cell: The cell.
        preset: Of its model.
        answered: Tasks whose test questions the base model answers in a cell before this one.
    """
    model, place = _Model(preset, cell.place), cell.place
    if cell.kind == "prepare":
        passes = 1 if is_open_ended(place.config) else OPTIONS + 1
        return CellCost(
            probing=passes * model.pool(),
            loading=model.load(),
            setup=preset.rate.setup,
        )
    tested = model.scored(("calibration", "test"))
    calibration = model.scored(("calibration",))
    method = Method.parse(cell.method)
    trains = cell.kind in ("trial", "train", "member", "dynamics") and method.trained != "base"
    scoring, loads = 0.0, int(trains)
    if cell.kind == "trial":
        scoring, loads = calibration, loads + 1
    elif cell.kind == "detector":
        scoring, loads = tested, loads + 1
    elif cell.kind == "dynamics":
        scoring = (POINTS + 1) * (model.pool() + calibration)
    asked = [name for name in map(Method.parse, cell.predicted) if name.posthoc in (None, "ts")]
    for name in asked:
        # A temperature is fitted on the calibration split before everything is asked. What the base
        # model answers without one is the same for every seed, but for the half it answers.
        first = model.scored(("calibration", "test"), answered) if name.name == "base" else tested
        each = first + (calibration if name.posthoc else 0.0)
        if _read_off(name, cell):
            each = calibration
        again = each if name.posthoc else calibration
        scoring += each + len(cell.further) * again
    if asked:
        asks, fitting = model.baseline(method)
        scoring, loads = scoring * asks + fitting, loads + 1
    return CellCost(
        training=model.training() if trains else 0.0,
        calibration=model.calibration_passes(method) * model.calibration_pass() if trains else 0.0,
        scoring=scoring,
        loading=loads * model.load(),
        setup=preset.rate.setup,
        disk=model.trained_bytes() if trains and cell.kind != "dynamics" else 0.0,
        checkpoints=model.checkpoints(method) if trains else 0.0,
    )


def _read_off(method: Method, cell: Cell) -> bool:
    """Whether a temperature is read off the logits of the pass without it."""
    tasks = cell.place.config.tasks
    open_ended = any(map(_has_no_options, (tasks.train, *tasks.out_of_domain)))
    alone = method.baseline or method.trained == "base" or open_ended
    return not alone and method.posthoc == "ts" and method.before_posthoc.name in cell.predicted


def with_measured(preset: Preset, rates: MeasuredRates) -> Preset:
    """The preset with the rates that `reproduce --check` measured instead of those assumed.

    Long batches give the arithmetic, of training and of scoring. A short step that takes longer
    than its share of it waited for its kernels; one that does not bounds how long they take.
    """
    trained = step_flops(rates.adapter, rates.checkpointing) * preset.parameters
    flops = trained * rates.long_tokens / rates.long_step
    kernels = step_kernels(rates.checkpointing) * max(1, preset.layers)
    waits = rates.step > NOISE * trained * rates.step_tokens * PADDING / flops
    launch = rates.step / kernels
    launch = launch if waits else min(preset.rate.launch, launch)
    reached = FORWARD * preset.parameters * rates.scored_tokens / rates.scored
    if rates.scored <= NOISE * FORWARD_KERNELS * preset.layers * launch:
        reached = max(reached, flops)  # the batch was too small to show it
    rate = Rate(
        device=rates.device,
        flops=flops,
        forward=reached,
        launch=launch,
        load=preset.parameters * NUMBER_BYTES[rates.dtype] / rates.load,
        setup=preset.rate.setup,
    )
    return preset.model_copy(update={"rate": rate, "layers": max(1, preset.layers)})


@dataclass(frozen=True)
class _Model:
    """A preset on a place: how long its passes take."""

    preset: Preset
    place: Place

    def tokens(self, task: str) -> float:
        return self.preset.tokens_of(task)

    def seconds(self, tokens: float, flops: float, kernels: float) -> float:
        """Of one pass: arithmetic, or the start of its kernels, whichever takes longer."""
        rate = self.preset.rate
        reached = rate.forward or rate.flops if flops == FORWARD else rate.flops
        arithmetic = tokens * flops * self.preset.parameters / reached
        return max(arithmetic, kernels * self.preset.layers * rate.launch)

    def forward(self, rows: float, tokens: float) -> float:
        """Of questions in as few batches as the memory allows."""
        batches = math.ceil(rows * tokens / BATCH_TOKENS)
        return batches * self.seconds(rows * tokens / max(1, batches), FORWARD, FORWARD_KERNELS)

    def pool(self) -> float:
        """Every question that may be trained on, once."""
        return self.forward(_rows(self.place, "train"), self.tokens(self.place.config.tasks.train))

    def training(self) -> float:
        """steps x accumulation x one pass forward and back over a padded batch."""
        train, model = self.place.config.train, self.place.config.model
        flops = step_flops(model.lora is not None, train.gradient_checkpointing)
        tokens = train.batch_size * self.tokens(self.place.config.tasks.train) * PADDING
        passes = train.steps_for(_rows(self.place, "train")) * train.gradient_accumulation
        kernels = step_kernels(train.gradient_checkpointing)
        return passes * self.seconds(tokens, flops, kernels)

    def calibration_passes(self, method: Method) -> int:
        """How often a training measures its half of the calibration split."""
        train = self.place.config.train
        if not _measures(method):
            return 0
        rows, batch = _rows(self.place, "train"), train.batch_size * train.gradient_accumulation
        every = train.threshold_every or Schedule.default_share(rows, self.calibration_half())
        steps = train.steps_for(rows)
        schedule = Schedule.resolve(
            train.style_steps_of(method),
            every,
            steps,
            math.ceil(rows / batch),
            often=train.threshold_every is None,
        )
        gated = steps - schedule.style_steps
        late = max(0, gated - schedule.epoch)
        return schedule.early_estimates(steps) + math.ceil(late / schedule.every)

    def calibration_half(self) -> int:
        return _rows(self.place, "calibration") // 2

    def calibration_pass(self) -> float:
        """Half of the split in batches of ``train.eval_batch_size``."""
        size = self.place.config.train.eval_batch_size
        tokens = size * self.tokens(self.place.config.tasks.train)
        batches = math.ceil(self.calibration_half() / size)
        return batches * self.seconds(tokens, FORWARD, FORWARD_KERNELS)

    def scored(self, splits: tuple[str, ...], answered: Collection[str] = ()) -> float:
        """Half of the calibration split, and every test split that is not answered, once each."""
        tasks = self.place.config.tasks
        seconds = self.answered(self.calibration_half(), tasks.train)
        if splits == ("calibration",):
            return seconds
        rows = {each: _size(each, "test") for each in tasks.out_of_domain}
        rows[tasks.train] = _rows(self.place, "test")
        return seconds + sum(
            self.answered(number, task) for task, number in rows.items() if task not in answered
        )

    def answered(self, rows: float, task: str) -> float:
        """A pass over questions; without options one more, and a short one for every token."""
        tokens = self.tokens(task)
        once = self.forward(rows, tokens)
        if not _has_no_options(task):
            return once
        most = ScoreSettings().max_new_tokens
        batches = math.ceil(rows * (tokens + most) / BATCH_TOKENS)
        start = FORWARD_KERNELS * self.preset.layers * self.preset.rate.launch
        return 2 * once + batches * most * start

    def baseline(self, method: Method) -> tuple[float, float]:
        """Passes for one of a plain model, and seconds of fitting."""
        settings = self.place.config.baselines
        if method.stem == "ensemble":
            return settings.members, 0.0
        if method.stem == "mc_dropout":
            return settings.passes, 0.0
        if method.stem == "laplace":  # a pass forward, and one back for every option
            return 1 + OPTIONS, (1 + OPTIONS) * self.pool()
        return 1, 0.0

    def load(self) -> float:
        """Bytes of the weights over the bytes read in a second.

        With ``four_bit`` as many: the files hold them whole, and they are quantised on the device.
        """
        size = self.preset.parameters * NUMBER_BYTES[self.place.config.model.dtype]
        return size / self.preset.rate.load

    def trained_bytes(self) -> float:
        """Of what a training leaves: an adapter, or every weight, in float32."""
        lora, parameters, layers = self.place.config.model.lora, *self._shape()
        if lora is None:
            return 4 * parameters
        return 4 * lora.rank * adapted_width(parameters, layers)

    def checkpoints(self, method: Method) -> float:
        """Bytes of all that a training keeps until it has ended: weights, Adam's two moments."""
        train = self.place.config.train
        number = 0
        if method.stem == EARLY:
            number = 2  # the best, and the next best while it is written
        elif train.save_every:
            number = math.ceil(train.steps_for(_rows(self.place, "train")) / train.save_every)
        return number * 3 * self.trained_bytes()

    def _shape(self) -> tuple[float, int]:
        return self.preset.parameters, max(1, self.preset.layers)


def _measures(method: Method) -> bool:
    """Whether its training measures the calibration split: with any gate, or an early stop."""
    return method.gate != "none" or method.stem == EARLY


def step_flops(adapter: bool, checkpointing: bool) -> int:
    """Of a pass forward and back, per parameter and token.

    With gradient checkpointing every layer goes forward once more.
    """
    return FORWARD * (2 if checkpointing else 1) + BACKWARD * (1 if adapter else 2)


def step_kernels(checkpointing: bool) -> int:
    """Of a layer in the same."""
    return STEP_KERNELS + (FORWARD_KERNELS if checkpointing else 0)


def adapted_width(parameters: float, layers: int) -> float:
    """Inputs and outputs of all linear layers of a body: a LoRA of rank 1 has as many weights.

    About 18 d a layer, with the width d of the 12 L d^2 weights of L layers (Kaplan et al. 2020):
    Llama-3-8B has 2.62 million.
    """
    return 18 * layers * math.sqrt(parameters / (12 * layers))


def _rows(place: Place, split: str) -> int:
    """Questions of a split of the task trained on."""
    limit = place.config.tasks.limit.get(split)  # type: ignore[call-overload]
    size = _sizes().get(place.config.tasks.train, {}).get(split, limit or UNKNOWN_ROWS)
    return min(size, limit) if limit else size


def _size(task: str, split: str) -> int:
    return _sizes().get(task, {}).get(split, UNKNOWN_ROWS)


_has_no_options = cache(has_no_options)


@cache
def _sizes() -> dict[str, dict[str, int]]:
    """Task -> split -> rows, without loading a data set."""
    return {line.name: dict(line.rows) for line in summaries()}

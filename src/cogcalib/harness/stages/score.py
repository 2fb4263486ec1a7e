"""Predictions of a method, in domain and out of domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from cogcalib.harness.config import Method
from cogcalib.harness.progress import Advance
from cogcalib.harness.run_folder import RunFolder, cost_file, posthoc_map, unfinished
from cogcalib.harness.stages.asked_models import BASE, AskedModels
from cogcalib.harness.stages.context import THRESHOLD, Predict, RunContext, Splits, of_seed
from cogcalib.posthoc import TemperatureScaling, VectorScaling
from cogcalib.records import Example, InputError, Prediction, write_json
from cogcalib.scoring import (
    ScoreSettings,
    apply_confidence_maps,
    apply_option_scaling,
    fit_confidence_maps,
    fit_option_scaling,
    fit_temperatures,
    fit_to_base,
    score_at,
    takes_letters,
    why_uncalibrated,
)
from cogcalib.scoring import score as score_examples

PredictAll = Callable[[Sequence[Example], Advance], list[list[Prediction]]]
"""Like `Predict`, for several methods at once."""


def score(
    context: RunContext,
    method: Method,
    seed: int,
    splits: Splits,
    models: AskedModels | None = None,
    *,
    along: Sequence[str] = (),
) -> None:
    """Predictions of a method on all that it was not trained with, post-hoc calibrated if asked.

    Args:
        context: Of the run.
        method: The method.
        seed: Of its training.
        splits: The questions.
        models: Shared with predictions made before; None shares nothing.
        along: Methods that are wanted as well: with a temperature of this one among them, the model
            is asked once for both.
    """
    output = context.folder.predictions(method.name, seed)
    label = _stage(method, seed)
    if output.exists():
        context.progress.skipped(label)
        return
    mapped = maps_predictions(method)
    models = models or AskedModels()
    if mapped:
        score(context, method.before_posthoc, seed, splits, models, along=along)
    if method.held_against_base:
        _check_base(context, method, [seed], splits, models)
    splits = of_seed(splits, seed)
    scored = {name: split for name, split in splits.items() if name not in ("train", THRESHOLD)}
    made = [method, *_tempered(context, method, seed, scored, along)]
    outputs = {each: context.folder.predictions(each.name, seed) for each in made}
    drafts = {each: unfinished(output) for each, output in outputs.items()}
    with context.progress.stage(label, sum(map(len, scored.values()))) as advance:
        if mapped:
            predict = _alone(_by_map(context, method, seed, splits, drafts[method]))
        else:
            predict = _by_model(context, drafts, seed, splits, models)
        done = 0
        for examples in _at_once(method, scored):
            predictions = predict(examples, partial(_after, advance, done))
            done += len(examples)
            for draft, found in zip(drafts.values(), predictions, strict=True):
                for _, rows in groupby(found, key=lambda row: (row.task, row.split)):
                    context.folder.write_predictions(draft, list(rows))
    for each, draft in drafts.items():
        draft.rename(outputs[each])
        context.progress.covered(_stage(each, seed))


def _stage(method: Method, seed: int) -> str:
    return f"{'recalibrate' if method.posthoc else 'score'}: {method.name}, seed {seed}"


def _tempered(
    context: RunContext, method: Method, seed: int, scored: Splits, along: Sequence[str]
) -> list[Method]:
    """The method with a temperature, if it is wanted and can be read off the same logits."""
    name = f"{method.name}+ts"
    fits = not (method.posthoc or method.baseline or method.name == BASE.name)
    if not fits or name not in along or context.folder.predictions(name, seed).exists():
        return []
    return [Method.parse(name)] if all(map(takes_letters, scored.values())) else []


def check_base(context: RunContext, methods: Sequence[Method], splits: Splits) -> None:
    """Refuse what is held against the base model, before anything is trained, if that cannot be.

    Raises:
        InputError: If the base model is not calibrated: with its ECE on the calibration split, and
            what is allowed.
    """
    for method in [each for each in methods if each.held_against_base][:1]:
        _check_base(context, method, context.config.seeds, splits, AskedModels())


def _check_base(
    context: RunContext,
    method: Method,
    seeds: Sequence[int],
    splits: Splits,
    models: AskedModels,
) -> None:
    for seed in seeds:
        score(context, BASE, seed, splits, models)
    if reason := unfit_base(context.folder, seeds):
        raise InputError(f"methods: +{method.posthoc} cannot be used: {reason}")


def unfit_base(folder: RunFolder, seeds: Sequence[int]) -> str:
    """Why nothing can be held against the base model; empty if it can.

    No seed changes the base model, so that it is judged once, by every calibration question that it
    was asked with any seed: the ECE of the half that one seed keeps is off by a point or two.

    Raises:
        FileNotFoundError: If the base model was not asked with one of the seeds.
        FolderError: As `RunFolder.read_predictions`.
    """
    for seed in seeds:
        made = folder.predictions(BASE.name, seed)
        if not made.is_dir():
            raise FileNotFoundError(2, "missing", str(made))
    rows = {
        row.id: row
        for seed in folder.predicted_seeds(BASE.name)
        for row in _flat(folder, folder.predictions(BASE.name, seed))
        if row.split == "calibration"
    }
    return why_uncalibrated([*rows.values()])


def try_out(context: RunContext, method: Method, seed: int, splits: Splits) -> None:
    """Predictions of a method on the calibration split alone, to choose by: never on a test."""
    output = context.folder.tune(method.name, seed)
    label = f"tune: {method.name}, seed {seed}"
    if output.exists():
        context.progress.skipped(label)
        return
    splits = of_seed(splits, seed)
    examples = splits["calibration"]
    draft = unfinished(output)
    with context.progress.stage(label, len(examples)) as advance:
        predict = _by_model(context, {method: draft}, seed, splits, AskedModels())
        (predictions,) = predict(examples, advance)
        context.folder.write_predictions(draft, predictions)
    draft.rename(output)


def maps_predictions(method: Method) -> bool:
    """Whether a method maps predictions made before, and asks no model.

    A temperature needs the whole vocabulary, which predictions do not hold. Those of Laplace hold
    all there is: it knows the options alone, and asking anew would cost K passes back a question.
    """
    scales_options = method.posthoc == "ts" and method.baseline == "laplace"
    return method.posthoc not in (None, "ts") or scales_options


def _at_once(method: Method, scored: Splits) -> list[list[Example]]:
    """Questions asked together: of an ensemble all, since it may load its members for each call."""
    if method.stem == "ensemble":
        return [[example for examples in scored.values() for example in examples]]
    return list(scored.values())


def _by_model(
    context: RunContext,
    drafts: Mapping[Method, Path],
    seed: int,
    splits: Splits,
    models: AskedModels,
) -> PredictAll:
    """Ask the model, or the several of a baseline, once for all that `drafts` names.

    Args:
        context: Of the run.
        drafts: A method, and behind it perhaps itself at temperatures -> folder of its predictions.
        seed: Of its training.
        splits: The questions.
        models: Shared with predictions made before.
    """
    first = next(iter(drafts))
    if first.name == BASE.name:
        return _alone(partial(models.answer, context))
    plain = ScoreSettings(batch_size=context.config.score.batch_size, run=context.config.name)
    asked = models.load(context, first, seed, splits)
    fit: Callable[..., Mapping[str, TemperatureScaling]]
    ask: Callable[..., list[Prediction]]
    if isinstance(asked, tuple):
        fit, ask = partial(fit_temperatures, *asked), partial(score_examples, *asked)
    else:
        fit, ask = asked.fit_temperatures, asked.predict
    named = []
    for method, draft in drafts.items():
        temperature = _saved(fit(splits["calibration"], plain), draft) if method.posthoc else {}
        name = context.model_name(method)
        named.append(replace(plain, model_name=name, temperature=temperature))

    def predict(examples: Sequence[Example], advance: Advance) -> list[list[Prediction]]:
        several = [replace(each, progress=advance) for each in named]
        if isinstance(asked, tuple):
            together = len(several) > 1
            return score_at(*asked, examples, several) if together else [ask(examples, several[0])]
        predictions = ask(examples, several[0])
        write_json(cost_file(drafts[first]), asdict(asked.cost))
        return [predictions]

    return predict


def _saved(fitted: Mapping[str, TemperatureScaling], draft: Path) -> dict[str, float]:
    """Definition -> temperature; its map is kept beside the predictions."""
    for name, scaling in fitted.items():
        scaling.save(posthoc_map(draft, "ts", name))
    return {name: scaling.temperature_ for name, scaling in fitted.items()}


def _alone(predict: Predict) -> PredictAll:
    return lambda examples, advance: [predict(examples, advance)]


def _by_map(
    context: RunContext, method: Method, seed: int, splits: Splits, folder: Path
) -> Predict:
    """Map the predictions that the method made before."""
    made = _by_question(context.folder, method.before_posthoc, seed)

    def of(examples: Sequence[Example]) -> list[Prediction]:
        name = context.model_name(method)
        return [replace(made[e.task, e.split, e.id], model=name) for e in examples]

    calibration = splits["calibration"]
    kind = str(method.posthoc)
    if method.held_against_base:
        at_home = {}
        if kind == "tsdaca":
            labelled = fit_option_scaling(TemperatureScaling(), of(calibration), calibration)
            at_home[calibration[0].task] = labelled
        base = _by_question(context.folder, BASE, seed)
        return partial(_by_base, of, base, folder, kind, at_home)
    if kind in ("ts", "vector"):
        blank = TemperatureScaling() if kind == "ts" else VectorScaling()
        scaling = fit_option_scaling(blank, of(calibration), calibration)
        scaling.save(posthoc_map(folder, kind, "options"))
        return lambda examples, _: apply_option_scaling(scaling, of(examples), examples)
    maps = fit_confidence_maps(kind, of(calibration))
    for name, fitted in maps.items():
        fitted.save(posthoc_map(folder, kind, name))
    return lambda examples, _: apply_confidence_maps(maps, of(examples))


def _by_base(
    of: Callable[[Sequence[Example]], list[Prediction]],
    base: Mapping[tuple[str, str, str], Prediction],
    folder: Path,
    kind: str,
    at_home: Mapping[str, TemperatureScaling],
    examples: Sequence[Example],
    _: Advance,
) -> list[Prediction]:
    """Each task and split at a temperature of its own, fitted to the base model without labels.

    The task in `at_home` keeps the temperature that labels gave it, and every other one gets the
    temperature halfway between that and its own.
    """
    found = []
    labelled = next(iter(at_home.values()), None)
    for (task, split), group in groupby(examples, key=lambda e: (e.task, e.split)):
        asked = list(group)
        own, theirs = of(asked), [base[e.task, e.split, e.id] for e in asked]
        scaling = at_home.get(task) or fit_to_base(own, theirs, labelled)
        scaling.save(posthoc_map(folder, kind, f"{task}.{split}".replace("/", "-")))
        found += apply_option_scaling(scaling, own, asked)
    return found


def _by_question(
    folder: RunFolder, method: Method, seed: int
) -> dict[tuple[str, str, str], Prediction]:
    rows = _flat(folder, folder.predictions(method.name, seed))
    return {(row.task, row.split, row.id): row for row in rows}


def _flat(folder: RunFolder, path: Path) -> list[Prediction]:
    return [row for rows in folder.read_predictions(path) for row in rows]


def _after(advance: Advance, before: int, done: int) -> None:
    advance(before + done)

"""Laplace-LoRA against its definition: curvature, evidence and predictive computed densely."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from tiny_lora import build_adapted, build_open, build_questions, build_tokenizer
from torch import Tensor, nn

from cogcalib.baselines import LaplaceLoRA
from cogcalib.baselines.laplace import linearised_shares, probit_shares
from cogcalib.baselines.option_logits import OptionLogits, Question, adapter_weights
from cogcalib.modeling import encode_batch
from cogcalib.scoring import ScoreSettings, score

INSTALLED = importlib.util.find_spec("laplace") is not None
needs_laplace = pytest.mark.skipif(not INSTALLED, reason='needs pip install "cogcalib[laplace]"')

TARGET = ["q_proj", "down_proj"]


def fitted(batch_size: int = 3, **more: Any) -> LaplaceLoRA:
    laplace = LaplaceLoRA(build_adapted(target=TARGET), build_tokenizer(), **more)
    return laplace.fit(build_questions(), ScoreSettings(batch_size=batch_size))


def adapters(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name, module)
        for name, module in model.named_modules()
        if "lora_" in name and isinstance(module, nn.Linear)
    ]


def prompts(model: nn.Module) -> list[tuple[Tensor, list[int]]]:
    rows = encode_batch(build_questions(), build_tokenizer())
    return [(torch.tensor([row.prompt_ids]), list(row.option_ids or ())) for row in rows]


def kfac_by_hand(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """For each adapter matrix: sum of g g^T, and mean of a a^T, over questions and positions."""
    weights = [module.weight.requires_grad_() for _, module in adapters(model)]
    into: list[Tensor] = []
    out: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        into.append(given[0].detach()[0])
        out.append(made)

    handles = [module.register_forward_hook(keep) for _, module in adapters(model)]
    factors = [
        (torch.zeros(len(w), len(w)).double(), torch.zeros(w.shape[1], w.shape[1]).double())
        for w in weights
    ]
    questions = prompts(model)
    for ids, options in questions:
        into.clear(), out.clear()
        logits = model(ids).logits[0, -1, options]
        p = logits.softmax(-1).detach()
        fisher = p.diag() - torch.outer(p, p)
        slopes = [torch.autograd.grad(f, out, retain_graph=True) for f in logits]
        for i, (left, right) in enumerate(factors):
            g = torch.stack([slope[i][0] for slope in slopes])  # [K, S, d_out]
            left += torch.einsum("kl,ksi,lsj->ij", fisher, g, g)
            right += into[i].T @ into[i] / len(into[i]) / len(questions)
    for handle in handles:
        handle.remove()
    return factors


def dense(laplace: LaplaceLoRA) -> Tensor:
    blocks = [torch.kron(left, right) for left, right in laplace.laplace_.H_facs.kfacs]
    return torch.block_diag(*blocks)


def weight_vector(laplace: LaplaceLoRA) -> Tensor:
    return torch.cat([w.detach().flatten() for w in adapter_weights(laplace.model, last=False)])


def jacobian(model: nn.Module, ids: Tensor, options: list[int]) -> tuple[Tensor, Tensor]:
    weights = [module.weight.requires_grad_() for _, module in adapters(model)]
    logits = model(ids).logits[0, -1, options]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(f, weights, retain_graph=True)])
        for f in logits
    ]
    return logits.detach(), torch.stack(rows)


@needs_laplace
@pytest.mark.parametrize("batch_size", [1, 8])
def test_curvature_is_kfac_computed_by_hand(batch_size):
    laplace = fitted(batch_size)
    expected = kfac_by_hand(laplace.model)
    assert len(laplace.laplace_.H_facs.kfacs) == len(expected) == 8
    for ours, theirs in zip(laplace.laplace_.H_facs.kfacs, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            # Gradients pass Llama's norms in fp32.
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@needs_laplace
def test_for_one_question_of_one_token_it_is_the_exact_gauss_newton_matrix(monkeypatch):
    """One activation per matrix: nothing is approximated but what lies between the blocks."""
    question = Question([7], [20, 21, 22], 1)
    monkeypatch.setattr("cogcalib.baselines.laplace.encode_questions", lambda *_: [question])
    laplace = LaplaceLoRA(build_adapted(target=TARGET), build_tokenizer())
    laplace.fit(build_questions()[:1])
    logits, slopes = jacobian(laplace.model, torch.tensor([[7]]), question.option_ids)
    p = logits.softmax(-1)
    exact = slopes.T @ (p.diag() - torch.outer(p, p)) @ slopes
    start = 0
    for _, module in adapters(laplace.model):
        block = slice(start, start := start + module.weight.numel())
        torch.testing.assert_close(dense(laplace)[block, block], exact[block, block])


@needs_laplace
def test_prior_precision_maximises_the_evidence_of_the_training_questions():
    laplace = fitted()
    curvature, w = dense(laplace), weight_vector(laplace)
    shares = [
        jacobian(laplace.model, ids, options)[0].log_softmax(-1)
        for ids, options in prompts(laplace.model)
    ]
    gold = [[o.letter for o in e.options or ()].index(e.answer) for e in build_questions()]
    likelihood = float(sum(row[at] for row, at in zip(shares, gold, strict=True)))

    def evidence(log_precision: float) -> float:
        prior = torch.full((len(w),), np.exp(log_precision)).double()
        ratio = torch.logdet(curvature + prior.diag()) - prior.log().sum()
        return likelihood - 0.5 * float(ratio + prior @ w.square())

    found = np.log(laplace.prior_precision_)
    best = minimize_scalar(lambda x: -evidence(x), bounds=(-10, 10), method="bounded")
    assert found == pytest.approx(best.x, abs=1e-3)
    assert float(laplace.laplace_.log_marginal_likelihood()) == pytest.approx(
        evidence(found), rel=1e-5
    )


@needs_laplace
@pytest.mark.parametrize("link", ["probit", "mc"])
def test_predictive_is_that_of_the_linearised_model(link):
    laplace = fitted(link=link, samples=200_000)
    found = laplace.predict(build_questions())
    n = laplace.laplace_.n_params
    covariance = (dense(laplace) + laplace.prior_precision_ * torch.eye(n).double()).inverse()
    generator = torch.Generator().manual_seed(99)
    for row, example, (ids, options) in zip(
        found, build_questions(), prompts(laplace.model), strict=True
    ):
        logits, slopes = jacobian(laplace.model, ids, options)
        variance = slopes @ covariance @ slopes.T
        if link == "probit":
            centred = variance - variance.mean(0) - variance.mean(1)[:, None] + variance.mean()
            scale = (1 + np.pi / 8 * centred.diagonal()).sqrt()
            p = ((logits - logits.mean()) / scale).softmax(-1)
        else:
            root = torch.linalg.cholesky(variance + 1e-9 * torch.eye(len(options)).double())
            noise = torch.randn(200_000, len(options), generator=generator, dtype=torch.float64)
            p = (logits + noise @ root.T).softmax(-1).mean(0)
        tolerance = 1e-5 if link == "probit" else 5e-3
        np.testing.assert_allclose(np.exp(row.option_logprobs or ()), p.numpy(), atol=tolerance)
        letters = [option.letter for option in example.options or ()]
        best = int(np.argmax(row.option_logprobs or ()))
        assert row.prediction == letters[best]
        assert row.confidence == {"options": pytest.approx(float(p.max()), abs=tolerance)}
        assert row.nll == pytest.approx(-(row.option_logprobs or ())[letters.index(example.answer)])


def test_the_probit_link_knows_only_differences_of_logits():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    root = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    variance, everyone = root @ root.mT, torch.ones(3, 4, dtype=torch.bool)
    found = probit_shares(mean, variance, everyone)
    # A common offset, and an error that all options share, change nothing.
    torch.testing.assert_close(probit_shares(mean + 9, variance + 5, everyone), found)
    # An option that is not there is not centred over.
    fewer = torch.tensor([True, True, True, False]).expand(3, 4)
    three = probit_shares(mean[:, :3], variance[:, :3, :3], everyone[:, :3])
    torch.testing.assert_close(probit_shares(mean, variance, fewer)[:, :3], three)
    assert probit_shares(mean, variance, fewer)[:, 3].isneginf().all()


@needs_laplace
@pytest.mark.parametrize("link", ["probit", "mc"])
def test_with_a_certain_posterior_it_is_the_plain_model(link):
    laplace = fitted(link=link, samples=10)
    laplace.laplace_.prior_precision = torch.tensor([1e14])
    plain = score(laplace.model, laplace.tokenizer, build_questions())
    for ours, theirs in zip(laplace.predict(build_questions()), plain, strict=True):
        assert ours.prediction == theirs.prediction
        assert ours.nll == pytest.approx(theirs.nll, abs=1e-4)
        assert ours.confidence["options"] == pytest.approx(theirs.confidence["options"], abs=1e-4)


@needs_laplace
def test_batches_change_nothing_and_a_seed_is_one_result():
    one, other = fitted(1, link="probit"), fitted(8, link="probit")
    assert one.prior_precision_ == pytest.approx(other.prior_precision_, rel=1e-4)
    for a, b in zip(
        one.predict(build_questions(), ScoreSettings(batch_size=1)),
        other.predict(build_questions(), ScoreSettings(batch_size=8)),
        strict=True,
    ):
        assert a.nll == pytest.approx(b.nll, rel=1e-4)
    drawn = fitted(samples=50)
    assert drawn.predict(build_questions()) == drawn.predict(build_questions())


@needs_laplace
def test_last_layer_only():
    laplace = fitted(layers="last")
    n = laplace.laplace_.n_params
    assert n == fitted().laplace_.n_params // 2
    assert laplace.cost.passes == 1 + 4
    kept = sum(factor.numel() for block in laplace.laplace_.H_facs.kfacs for factor in block)
    assert laplace.cost.extra_parameters == kept
    assert laplace.cost.fit_seconds > 0
    assert len(laplace.predict(build_questions("test"))) == 8


@needs_laplace
def test_the_model_is_left_as_it_was():
    model = build_adapted(target=TARGET).train()
    trainable = [name for name, weight in model.named_parameters() if weight.requires_grad]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    laplace = LaplaceLoRA(model, build_tokenizer(), layers="last").fit(build_questions())
    laplace.predict(build_questions())
    assert trainable == [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert all(module.training for module in model.modules())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@needs_laplace
def test_what_it_cannot_do_is_named():
    laplace = LaplaceLoRA(build_adapted(target=TARGET), build_tokenizer())
    with pytest.raises(RuntimeError, match="LaplaceLoRA is not fitted"):
        laplace.predict(build_questions())
    with pytest.raises(RuntimeError, match="LaplaceLoRA is not fitted"):
        _ = laplace.cost
    with pytest.raises(ValueError, match="Laplace-LoRA is for multiple choice, example 'open'"):
        laplace.fit([build_open()])
    with pytest.raises(ValueError, match="train is empty"):
        laplace.fit([])
    with pytest.raises(ValueError, match="train must hold no test examples, got 'test0'"):
        laplace.fit(build_questions("test"))
    laplace.fit(build_questions()[:1])  # two options
    assert laplace.predict([]) == []
    with pytest.raises(ValueError, match="'test2' has 4 options, the most fitted on are 2"):
        laplace.predict(build_questions("test")[2:3])
    with pytest.raises(ValueError, match="temperature must name definitions among options"):
        laplace.predict(build_questions()[:1], ScoreSettings(temperature={"vocab": 2.0}))
    for arguments, message in (
        ({"layers": "first"}, "layers must be all or last, got 'first'"),
        ({"link": "bridge"}, "link must be mc or probit, got 'bridge'"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            LaplaceLoRA(build_adapted(), build_tokenizer(), **arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(INSTALLED, reason="laplace-torch is installed")
def test_without_laplace_torch_it_says_what_to_install():
    with pytest.raises(ValueError, match=r'pip install "cogcalib\[laplace\]"'):
        LaplaceLoRA(build_adapted(), build_tokenizer())


def test_samples_of_a_gaussian_with_known_softmax():
    """Over two options E softmax is a one-dimensional integral."""
    mean = torch.tensor([[0.3, -0.2], [2.0, -torch.inf]], dtype=torch.float64)
    variance = torch.tensor([[[1.0, 0.4], [0.4, 2.0]], [[1.0, 0.0], [0.0, 0.0]]]).double()
    shares = linearised_shares(mean, variance, 400_000, torch.Generator().manual_seed(0)).exp()
    gap = 0.5 + np.sqrt(1.0 + 2.0 - 0.8) * np.linspace(-8, 8, 4001)
    density = np.exp(-(np.linspace(-8, 8, 4001) ** 2) / 2)
    expected = (density / (1 + np.exp(-gap))).sum() / density.sum()
    assert float(shares[0, 0]) == pytest.approx(expected, abs=2e-3)
    assert shares[1].tolist() == [1.0, 0.0]


def test_adapter_weights_by_layer():
    every = adapter_weights(build_adapted(target=TARGET), last=False)
    assert len(every) == 8
    last = adapter_weights(build_adapted(target=TARGET), last=True)
    assert [w.shape for w in last] == [w.shape for w in every[4:]]
    with_head = build_adapted(target=[*TARGET, "lm_head"])
    assert {id(w) for w in adapter_weights(with_head, last=True)} == {
        id(w) for name, w in with_head.named_parameters() if "lm_head" in name and "lora_" in name
    }


def test_adapters_it_cannot_take_are_named():
    with pytest.raises(ValueError, match="the model has no LoRA adapter"):
        adapter_weights(build_adapted().unload(), last=False)
    merged = build_adapted()
    merged.merge_adapter()
    with pytest.raises(ValueError, match="the adapter is merged into the model"):
        adapter_weights(merged, last=False)
    with pytest.raises(ValueError, match="must adapt linear layers only, and by two matrices; got"):
        adapter_weights(build_adapted(target=["q_proj", "embed_tokens"]), last=False)


def test_absent_options_have_no_probability_and_no_slope():
    model = build_adapted(target=TARGET)
    logits = OptionLogits(model)(
        {"input_ids": torch.tensor([[3, 4]]), "option_ids": torch.tensor([[20, 21, -1]])}
    )
    assert logits.softmax(-1)[0, 2] == 0
    assert not torch.autograd.grad(
        logits[0, 2], [m.weight for _, m in adapters(model)], allow_unused=True
    )[0].any()

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from policies.forward import entropy_of
from policies.samplers.contracts import Sampling
from policies.samplers.random_numbers import philox, row_uniforms, sample_seed
from policies.samplers.token_distribution import draw, filter_logits, log_distribution


@pytest.mark.parametrize(("uniform", "token"), [(0.49, 0), (0.51, 1), (0.79, 1), (0.81, 2)])
def test_a_token_is_drawn_by_inverse_cdf(uniform: float, token: int) -> None:
    prob = torch.tensor([[0.5, 0.3, 0.2]])
    assert draw(prob, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


def test_the_extremes_of_a_uniform_stay_on_the_support() -> None:
    prob = torch.tensor([[0.0, 0.5, 0.5, 0.0]])
    smallest, largest = 0.5 * 2.0**-48, 1 - 0.5 * 2.0**-48
    for uniform, token in ((smallest, 1), (largest, 2)):
        assert draw(prob, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


@pytest.mark.parametrize("num_tokens", [4096, 5000, 32_001])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6)])
def test_a_large_vocabulary_is_drawn_from_in_blocks_and_the_token_is_the_same(
    num_tokens: int, top_k: int, top_p: float
) -> None:
    rng = torch.Generator().manual_seed(num_tokens)
    logits_RV = 3 * torch.randn(96, num_tokens, generator=rng)
    prob_RV = filter_logits(logits_RV, top_k, top_p).softmax(-1)
    uniform_R = torch.rand(96, dtype=torch.float64, generator=rng)
    uniform_R[:2] = torch.tensor([0.5 * 2.0**-48, 1 - 0.5 * 2.0**-48], dtype=torch.float64)  # the extremes
    mass_RV = prob_RV.cumsum(-1, dtype=torch.float64)
    plain_R1 = torch.searchsorted(mass_RV, (uniform_R * mass_RV[:, -1])[:, None], right=True)
    assert draw(prob_RV, uniform_R).tolist() == plain_R1[:, 0].tolist()


@pytest.mark.parametrize("num_tokens", [99, 5000])
def test_what_is_no_distribution_gives_a_token_of_the_vocabulary(num_tokens: int) -> None:
    nothing = torch.full((2, num_tokens), math.nan)
    tokens = draw(nothing, torch.tensor([0.0, 0.7], dtype=torch.float64)).tolist()
    assert all(0 <= token < num_tokens for token in tokens)


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (0, 0.9, [0.526316, 0.315789, 0.157895, 0.0]),
        (0, 0.45, [1.0, 0.0, 0.0, 0.0]),
        (0, 0.0001, [1.0, 0.0, 0.0, 0.0]),
        (2, 1.0, [0.625, 0.375, 0.0, 0.0]),
        (2, 0.6, [1.0, 0.0, 0.0, 0.0]),
        (0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (9, 1.0, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_filtering_keeps_the_likeliest_and_renormalises(top_k: int, top_p: float, expected: list[float]) -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = filter_logits(logits, top_k, top_p).softmax(-1)
    np.testing.assert_allclose(kept[0], expected, atol=1e-6)


def test_filtering_does_not_depend_on_the_order_of_the_vocabulary() -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    shuffled = filter_logits(logits[:, order], 12, 0.8)
    assert torch.equal(shuffled, filter_logits(logits, 12, 0.8)[:, order])


def test_temperature_comes_before_top_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    sharp = log_distribution(logits, Sampling(temperature=0.5, top_p=0.7)).exp()
    np.testing.assert_allclose(sharp[0], [25 / 34, 9 / 34, 0], atol=1e-6)  # squares: .25 .09 .04 of .38


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.947537), (0.5, 0.455429), (2.0, 1.245050)])
def test_entropy_of_a_known_distribution(temperature: float, expected: float) -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    logprobs = log_distribution(logits, Sampling(temperature=temperature))
    found = entropy_of(logprobs, logprobs.exp())
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_entropy_ignores_tokens_that_were_cut_off() -> None:
    prob = torch.tensor([0.5, 0.5, 0.0])
    assert float(entropy_of(prob.log(), prob)) == pytest.approx(math.log(2))


def test_the_distribution_is_float32_whatever_the_logits_are() -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = log_distribution(logits, Sampling(temperature=0.7))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.exp().sum(-1), 1, atol=1e-6)  # 4e-3 away if rounded to bfloat16
    assert torch.equal(found, torch.log_softmax(logits.float() / 0.7, -1))


def test_frequencies_follow_the_distribution() -> None:
    logits = torch.tensor([1.5, 0.2, -0.4, 0.9, -2.0, 0.0])
    logprobs = log_distribution(logits, Sampling(temperature=0.8))
    uniforms = torch.from_numpy(row_uniforms([sample_seed(0, "test", "chi", 0, 0, 0)], 20_000)[0])
    tokens = draw(logprobs.exp().expand(20_000, -1), uniforms)
    counts, expected = np.bincount(tokens, minlength=6), 20_000 * logprobs.exp().numpy()
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 1e-3


def test_seeds_have_golden_values() -> None:
    assert sample_seed(0, "train", "words", 1, 2, 3) == 429022042230006060
    assert sample_seed(0, "train", "words", 1, 2, 3, turn=1) == 6520803601638117361


def test_uniforms_have_golden_values() -> None:
    expected = [
        [0.8902591729757123, 0.5857259483801354, 0.6719982688953419],
        [0.1998824286451626, 0.8230106500679337, 0.7031074570298781],
    ]
    assert row_uniforms([1, 2**62 + 12345], 3).tolist() == expected


def test_seeds_do_not_repeat() -> None:
    names = itertools.product(range(100), range(32), range(32))
    seeds = {sample_seed(0, "train", "words", *name) for name in names}
    assert len(seeds) == 102_400
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    "name",
    [
        (1, "train", "words", 1, 2, 3, 0),
        (0, "evaluate", "words", 1, 2, 3, 0),
        (0, "train", "word", 1, 2, 3, 0),
        (0, "train", "words", 2, 1, 3, 0),
        (0, "train", "words", 1, 2, 30, 0),
        (0, "train", "words", 1, 2, 3, 1),
    ],
)
def test_every_part_of_a_name_changes_the_seed(name: tuple[int, str, str, int, int, int, int]) -> None:
    assert sample_seed(*name) != sample_seed(0, "train", "words", 1, 2, 3, 0)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: list[int], words: list[int]) -> None:
    """The known-answer vectors of Random123 for philox4x32-10."""
    scrambled = philox([np.uint64(c) for c in counter], [np.uint64(k) for k in key])
    assert [int(word) for word in scrambled] == words


def test_a_uniform_depends_on_seed_and_position_alone() -> None:
    seeds = [sample_seed(0, "train", "words", 0, 0, sample) for sample in range(4)]
    block = row_uniforms(seeds, 9)
    assert np.array_equal(row_uniforms(seeds[2:3], 5)[0], block[2, :5])
    assert len(np.unique(block)) == block.size


def test_uniforms_are_uniform_and_never_0_or_1() -> None:
    uniforms = row_uniforms([7, 2**63 - 1], 50_000)
    assert uniforms.min() > 0
    assert uniforms.max() < 1
    np.testing.assert_allclose(uniforms.mean(1), 0.5, atol=0.005)
    np.testing.assert_allclose(uniforms.var(1), 1 / 12, atol=0.002)

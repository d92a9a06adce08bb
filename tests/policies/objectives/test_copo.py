import pytest
import torch

from policies.objectives.estimators import copo, grpo
from policies.objectives.parts import Outcomes
from tests.policies.objectives.worked import f64, memory, outcomes


def answered(answers: list[int]) -> Outcomes:
    return outcomes([0] * len(answers), answer_B=torch.tensor(answers))


@pytest.mark.parametrize(
    ("answers", "entropy", "weight"),
    [
        ([0] * 6, 0, 9.4e-14),
        ([0, 0, 0, 1, 1, 1], 0.693147, 1e-7),
        ([2, 2, 2, 2, 0, 1], 0.867563, 3.2e-6),
        ([0, 1, 2, 3, 4, 5], 1.791759, 0.997086),
    ],
)
def test_entropy_of_answers_and_weight(answers: list[int], entropy: float, weight: float) -> None:
    """Reference: objectives.md 4.2."""
    found_B = copo.answer_entropy(answered(answers))
    torch.testing.assert_close(found_B, torch.full_like(found_B, entropy), atol=1e-6, rtol=0)
    assert float(copo.weigh(found_B, copo.Config())[0]) == pytest.approx(weight, rel=0.02)


def test_prompts_are_compared() -> None:
    """Reference: objectives.md 4.2."""
    some = outcomes([1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2])
    expected = f64([1, 1, 0, 0, -1, -1])
    torch.testing.assert_close(copo.compare_prompts(some), expected, atol=1e-5, rtol=0)  # eps is 1e-6


def test_prompts_are_compared_inside_one_arm_only() -> None:
    arms = {"arm_B": torch.tensor([0, 0, 1, 1, 1]), "arms": ("easy", "hard")}
    found = copo.compare_prompts(outcomes([1, 1, 0, 0.2, 0.4], [0, 1, 2, 3, 4], **arms))
    torch.testing.assert_close(found, f64([0, 0, -1, 0, 1]), atol=1e-5, rtol=0)


def test_a_prompt_counts_once_whatever_the_size_of_its_group() -> None:
    found = copo.compare_prompts(outcomes([1, 1, 1, 0], [0, 0, 0, 1]))
    torch.testing.assert_close(found, f64([1, 1, 1, -1]) / 2**0.5, atol=1e-5, rtol=0)


def test_agreement_leaves_the_comparison_of_prompts_and_diversity_that_of_the_group() -> None:
    answers = [0] * 6 + [0, 1, 2, 3, 4, 5]
    some = outcomes([1] * 6 + [1, 0, 0, 0, 0, 0], [0] * 6 + [1] * 6, answer_B=torch.tensor(answers))
    kept = memory()
    found = copo.create(copo.Config()).apply(some, kept)
    torch.testing.assert_close(found[:6], copo.compare_prompts(some)[:6])
    weight, local = 0.997086, grpo.estimate(some, "sample", 1e-6)
    expected = weight * local[6:] + (1 - weight) * copo.compare_prompts(some)[6:]
    torch.testing.assert_close(found[6:], expected, atol=1e-5, rtol=0)
    assert kept.log["copo_local_weight"] == pytest.approx(weight / 2, abs=1e-6)


def test_without_anything_to_compare_there_is_nothing() -> None:
    assert copo.create(copo.Config()).apply(outcomes([0.1] * 7), memory()).abs().max() < 1e-6

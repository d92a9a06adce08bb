import json
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from policies.objectives import ObjectiveError, ShapedRows, Totals
from policies.objectives.parts import Added, PartState, Term
from policies.objectives.terms import epo
from tests.policies.objectives.steps import begun
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import memory, rows, surveyed, totals_of


def make(**options: float) -> Term:
    term = epo.create(epo.Config.model_validate(options))
    assert term is not None
    return term


def played(entropy: list[list[float]], turns: list[list[int]] | None = None) -> ShapedRows:
    """A step with these entropies, at its start and now; one turn unless given."""
    shape = [[0.5] * len(row) for row in entropy]
    some = rows([[0.0] * len(row) for row in entropy], shape, entropy=entropy)
    turn_BT = torch.zeros(some.mask_BT.shape, dtype=torch.int64) if turns is None else torch.tensor(turns)
    return replace(some, entropy_old_BT=some.entropy_BT, turn_BT=turn_BT)


def applied(term: Term, some: ShapedRows, kept: PartState | None = None) -> Added:
    return term.apply(*surveyed(term, some, kept))


def k_of(added: Added) -> Tensor:
    assert added.k_BT is not None
    return added.k_BT


H = [0.2, 0.35, 0.45, 0.6]  # with a mean, so a history, of .4


@pytest.mark.parametrize(
    ("beta", "k", "value"),
    [
        (1.0, [2, 1, 1, 0], 0.4 - 0.06),
        (0.5, [1.5, 1, 1, 0.5], 0.4 - 0.5 * 0.06),
        (0.0, [1, 1, 1, 1], 0.4),
    ],
)
def test_a_band_around_the_history_adds_and_takes_away_weight(beta: float, k: list[float], value: float) -> None:
    """The hinge is [.12, 0, 0, .12], with a mean of .06. Reference: objectives.md 11.6."""
    added = applied(make(epo_strength=0.01, epo_beta=beta), played([H]))
    assert k_of(added)[0].tolist() == pytest.approx([0.01 * x for x in k])
    assert float(added.value_BT.mean()) == pytest.approx(-0.01 * value)
    assert added.means["epo_outside_frac"].tolist() == [[1, 0, 0, 1]]


def test_k_is_the_slope_of_the_value() -> None:
    """Reference: objectives.md 11.6."""
    some, totals = surveyed(make(), played([H]))
    assert some.entropy_BT is not None
    high, low = (
        make().apply(replace(some, entropy_BT=some.entropy_BT + step), totals).value_BT for step in (1e-6, -1e-6)
    )
    torch.testing.assert_close(k_of(make().apply(some, totals)), (low - high) / 2e-6, atol=1e-9, rtol=1e-6)


def test_a_turn_is_compared_with_its_own_history() -> None:
    some = played([[0.2, 0.2, 2.0, 2.0], [0.2, 0.2, 2.0, 4.0]], [[0, 0, 1, 1]] * 2)
    some, _ = surveyed(make(), some)
    assert some.noted["epo.history"].tolist() == [[0.2, 0.2, 2.5, 2.5]] * 2


def test_a_history_is_the_mean_of_the_steps_in_which_the_turn_was_played() -> None:
    kept = memory()
    surveyed(make(), played([[0.4, 1.0]], [[0, 1]]), kept)
    surveyed(make(), played([[0.6, 0.6]]), kept)
    some, _ = surveyed(make(), played([[0.2, 0.2, 3.0]], [[0, 0, 1]]), kept)
    assert some.noted["epo.history"][0].tolist() == pytest.approx([0.4, 0.4, 2.0])
    assert kept.kept == json.loads(json.dumps(kept.kept))


@pytest.mark.parametrize(
    ("max_turns", "expected"), [(None, [False, True, True]), (8, [False, False, True]), (9, [False] * 3)]
)
def test_the_band_holds_in_episodes_of_half_their_turns(max_turns: int | None, expected: list[bool]) -> None:
    turns = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 3]]
    some = played([[0.1, 1, 1, 2]] * 3, turns)
    term = epo.create(epo.Config(epo_max_turns=max_turns))
    assert term is not None
    assert surveyed(term, some)[0].noted["epo.is_long"].bool().any(-1).tolist() == expected


def test_the_longest_episode_so_far_counts() -> None:
    kept = memory()
    surveyed(make(), played([[1.0] * 4], [[0, 1, 2, 3]]), kept)
    some, _ = surveyed(make(), played([[1.0]]), kept)
    assert not some.noted["epo.is_long"].any()


def test_short_episodes_have_the_bonus_alone() -> None:
    term = epo.create(epo.Config(epo_max_turns=10))
    assert term is not None
    assert k_of(applied(term, played([H]))).tolist() == [[1e-3] * 4]


def test_every_environment_has_its_own_history() -> None:
    kept = memory()
    some = replace(played([[0.5], [2.0]]), arm_B=torch.tensor([0, 1]))
    survey = make().survey
    assert survey is not None
    survey(some, Totals(num_tokens=2, num_sequences=2, arms=("one/a", "two/b")), kept)
    assert kept.kept == {
        "one": {"longest": 1, "turns": [[0.5, 1]]},
        "two": {"longest": 1, "turns": [[2.0, 1]]},
    }


def test_padding_and_rows_without_tokens_are_in_no_history() -> None:
    some = played([[0.5, 7.0], [7.0, 7.0]])
    some = replace(some, mask_BT=torch.tensor([[True, False], [False, False]]))
    some, _ = surveyed(make(), some)
    assert some.noted["epo.history"].tolist() == [[0.5, 0], [0, 0]]


def test_histories_are_in_the_checkpoint() -> None:
    saved = json.loads(json.dumps(begun("epo", random_case(0)).objective.state()))
    assert set(saved["memory"]["epo"]) == {"one", "two"}


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(ValidationError, match="the band is empty"):
        epo.Config(epo_low=1.3)


def test_off_and_without_entropies() -> None:
    assert epo.create(epo.Config(epo_strength=0)) is None
    some = rows([[1.0]], [[0.5]])
    with pytest.raises(ObjectiveError, match="start of the step"):
        surveyed(make(), some)
    with pytest.raises(ObjectiveError, match="entropy of every token"):
        make().apply(replace(some, noted={}), totals_of(some))

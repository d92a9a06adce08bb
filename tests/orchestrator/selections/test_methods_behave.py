"""What each selection is for: which tasks it comes to play, given how the policy does."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.selections import adarft, boltzmann, bots, cursor, learnability, mopps, plr, pools, vcrl
from orchestrator.selections.contracts import Selection, TaskResult
from orchestrator.selections.testing import play


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


NUM = 300
RATES = np.clip(np.linspace(-1.0, 2.0, NUM), 0, 1)  # a third hopeless, a third mastered, a third between
BETWEEN = (RATES > 0) & (RATES < 1)


def share_between(selection: Selection, steps: int = 120, n: int = 16) -> float:
    """Share of the later half's choices that had something to teach; a uniform choice has a third."""
    chance, hits = rng(1), []
    for step in range(steps):
        chosen = selection.choose(n)
        scores = chance.binomial(8, RATES[chosen]) / 8
        selection.learn(
            [
                TaskResult(int(at), selection.clock - 1, float(p), 8, 2 * float(p) * (1 - float(p)))
                for at, p in zip(chosen, scores, strict=True)
            ]
        )
        hits += BETWEEN[chosen].tolist() if step >= steps // 2 else []
    return float(np.mean(hits))


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: pools.create(pools.Config(), NUM, rng()), 0.45),
        (lambda: mopps.create(mopps.Config(keep=1.0), NUM, rng()), 0.9),
        (lambda: bots.create(bots.Config(forget=0.01), NUM, rng()), 0.9),
        (lambda: learnability.create(learnability.Config(size=50, rho=0.8), NUM, rng()), 0.8),
        (lambda: vcrl.create(vcrl.Config(), NUM, rng()), 0.5),
        (lambda: plr.create(plr.Config(beta=1.0), NUM, rng()), 0.6),
        (lambda: boltzmann.create(boltzmann.Config(), NUM, rng()), 0.7),
    ],
    ids=["pools", "mopps", "bots", "learnability", "vcrl", "plr", "boltzmann"],
)
def test_tasks_that_teach_are_played_more_than_others(make, least: float) -> None:
    assert share_between(make()) > least
    assert share_between(cursor.create(cursor.Config(), NUM, rng())) == pytest.approx(1 / 3, abs=0.04)


def test_the_cursor_plays_everything_once_before_anything_twice() -> None:
    made = cursor.create(cursor.Config(), 50, rng())
    played = [at for _ in range(40) for at in made.choose(6).tolist()]
    assert sorted(played[:50]) == list(range(50))
    assert set(np.bincount(played).tolist()) <= {3, 4, 5}, "what a batch had already is passed over"


def test_pools_of_positive_weight_are_visited_whatever_the_scores_say() -> None:
    made = pools.create(pools.Config(), 30, rng())
    made.learn([TaskResult(at, 0, [0.0, 0.5, 1.0][at % 3], 8) for at in range(30)])
    seen = {int(at) for _ in range(60) for at in made.choose(5)}
    assert seen == set(range(30))


def test_a_pool_follows_the_score_played_last_not_the_one_told_last() -> None:
    made = pools.create(pools.Config(), 2, rng())
    made.learn([TaskResult(0, 5, 0.5, 8)])
    made.learn([TaskResult(0, 2, 0.0, 8)])
    assert made.probabilities().tolist() == [0.5, 0.5]
    made.learn([TaskResult(0, 6, 1.0, 8)])
    assert made.probabilities() == pytest.approx([1 / 6, 5 / 6])


def test_candidates_of_mopps_go_through_all_tasks_once_an_epoch() -> None:
    made = mopps.create(mopps.Config(candidates=4), 160, rng())
    seen: list[int] = []
    take = made.epochs.take
    made.epochs.take = lambda n: seen.extend((got := take(n)).tolist()) or got  # type: ignore[method-assign]
    for _ in range(10):
        made.choose(4)
    assert sorted(seen) == list(range(160))


def test_an_interval_takes_what_is_inside_and_fills_up_with_the_nearest() -> None:
    made = mopps.create(mopps.Config(candidates=6, interval=(0.3, 0.7)), 6, rng())
    made.a[:] = np.array([1, 400, 500, 600, 770, 999])
    made.b[:] = 1000 - made.a
    assert set(made.choose(3).tolist()) == {1, 2, 3}
    assert set(made.choose(4).tolist()) == {1, 2, 3, 4}
    assert len({frozenset(made.choose(2).tolist()) for _ in range(40)}) == 3


def dense_bots(weak, strong, history, lam=0.2, rho=0.2, m=16):
    """The rule of section 4.6 as it is written: all tasks in every step."""
    a, b, c = np.ones(len(weak)), np.ones(len(weak)), None
    for played in history:
        at = np.array(sorted(played))
        p = np.array([played[i] for i in at])
        x = (p.mean() - weak[at].mean()) / (strong[at].mean() - weak[at].mean())
        c = x if c is None else 0.9 * c + 0.1 * x
        q = np.clip(weak + c * (strong - weak), 0, 1)
        s, f = rho * q * m, rho * (1 - q) * m
        s[at], f[at] = p * m, (1 - p) * m
        a, b = (1 - lam) * a + lam + s, (1 - lam) * b + lam + f
    return a, b


def test_the_beliefs_of_bots_are_those_of_the_rule_as_it_is_written() -> None:
    chance = rng(4)
    weak, gap = chance.random(30) * 0.6, 0.1 + 0.3 * chance.random(30)
    history = [{int(i): int(chance.integers(9)) / 8 for i in chance.choice(30, 6, replace=False)} for _ in range(60)]
    made = bots.create(bots.Config(weak="w", strong="s"), 30, rng(), {"weak": weak, "strong": weak + gap})
    plain = bots.create(bots.Config(), 30, rng())
    for step, played in enumerate(history):
        for one in (made, plain):
            one.learn([TaskResult(at, step, p, 8) for at, p in played.items()])
    for found, wanted in zip(made.posterior(), dense_bots(weak, weak + gap, history), strict=True):
        assert found == pytest.approx(wanted, rel=1e-9)
    for found, wanted in zip(plain.posterior(), dense_bots(weak, weak + gap, history, rho=0.0), strict=True):
        assert found == pytest.approx(wanted, rel=1e-9)


def test_the_fading_of_bots_survives_any_number_of_steps() -> None:
    made = bots.create(bots.Config(), 5, rng())
    for step in range(0, 6000, 3):
        made.learn([TaskResult(step % 2, step, 0.5, 8)])
    assert np.isfinite(made.expected()).all()
    assert 1e-100 <= made.scale <= 1
    a, _ = made.posterior()
    assert a[1] == pytest.approx(1 + 8 / (1 - 0.8**6), rel=1e-9)


def test_bots_without_forgetting_or_with_nothing_else() -> None:
    forgetful = bots.create(bots.Config(forget=1.0), 2, rng())
    for step in range(3):
        forgetful.learn([TaskResult(step % 2, step, 1.0, 8)])
    assert forgetful.posterior()[0].tolist() == [17.0, 1.0]


def test_references_that_are_no_pass_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="`strong` names a field whose numbers are no pass rates"):
        bots.create(bots.Config(weak="w", strong="s"), 2, rng(), {"weak": np.zeros(2), "strong": np.ones(2) * 70})
    with pytest.raises(ValidationError, match="give both, or neither"):
        bots.Config(weak="w")


def test_the_buffer_of_learnability_is_chosen_every_so_often_among_what_was_measured() -> None:
    made = learnability.create(learnability.Config(size=3, refresh=4, rho=0.9), 40, rng())
    for step in range(8):
        made.choose(5)
        made.learn([TaskResult(at, step, [0.5, 0.5, 0.25, 0.25, 0.0, 1.0][at], 8) for at in range(6)])
        assert (len(made.buffer) == 0) == (step < 4), "the first choice is after four steps"
    assert {0, 1} < set(made.buffer.tolist()) <= {0, 1, 2, 3}
    assert made.worth[0] == pytest.approx(0.25 * 8 / 7)


def test_equal_worth_is_broken_by_chance_not_by_position() -> None:
    buffers = set()
    for seed in range(20):
        made = learnability.create(learnability.Config(size=2, refresh=1), 9, rng(seed))
        made.choose(3)
        made.learn([TaskResult(at, 0, 0.5, 8) for at in range(9)])
        made.choose(3)
        buffers.add(frozenset(made.buffer.tolist()))
    assert len(buffers) > 8


def test_vcrl_fills_the_places_of_what_fell_short_from_its_memory() -> None:
    made = vcrl.create(vcrl.Config(memory=4), 1000, rng())
    chosen = made.choose(8)
    made.learn([TaskResult(int(at), 0, [0.5, 0.5, 0.0][k % 3], 8) for k, at in enumerate(chosen)])
    assert made.shortfall == 0.25
    assert set(made.memory.at.tolist()) < set(chosen.tolist())
    assert len(made.memory) == 4
    assert sum(at in made.memory.at for at in made.choose(8)) == 2
    known = int(made.memory.at[0])
    made.learn([TaskResult(known, 1, 0.0, 8)])
    assert made.memory["priority"][0] == pytest.approx(0.9)
    for step in range(2, 20):
        made.learn([TaskResult(known, step, 0.0, 8)])
    assert known not in made.memory.at, "until it is not worth it any more"


def test_replay_begins_as_the_buffer_fills_and_never_takes_everything() -> None:
    made = plr.create(plr.Config(buffer=100, replay=0.5), 10_000, rng())
    shares = []
    for step in range(60):
        before = set(made.seen.at.tolist())
        chosen = made.choose(20)
        shares.append(sum(int(at) in before for at in chosen) / 20)
        made.learn([TaskResult(int(at), step, 0.5, 8, 0.3 + 0.001 * (at % 50)) for at in chosen])
        assert len(made.seen) <= 100
    assert shares[0] == 0
    assert np.mean(shares[20:]) == pytest.approx(0.5, abs=0.06)


def test_equal_scores_share_what_their_ranks_give() -> None:
    assert plr.rank_chances(np.array([0.2, 0.2, 0.2]), 0.1) == pytest.approx([1 / 3] * 3)
    high, low = plr.rank_chances(np.array([0.5, 0.5, 0.1]), 1.0)[[0, 2]]
    assert (high, low) == pytest.approx(((1 + 1 / 2) / 2 / (11 / 6), (1 / 3) / (11 / 6)))


def test_staleness_brings_back_what_has_a_low_rank() -> None:
    made = plr.create(plr.Config(), 12, rng())
    for at in range(12):
        made.learn([TaskResult(at, 0, 0.5, 8, at / 20)])
    made.clock = 1
    counts = np.zeros(12)
    for _ in range(200):
        counts[made.choose(2)] += 1
    assert counts.min() > 5
    assert counts.argmax() == 11


def test_adarft_plays_the_nearest_that_this_epoch_has_not_played() -> None:
    config = adarft.Config(difficulty="level", start=50.0)
    difficulty = np.arange(100.0)
    made = adarft.create(config, 100, rng(), {"difficulty": difficulty})
    assert sorted(made.choose(5).tolist()) in ([48, 49, 50, 51, 52],)
    assert sorted(made.choose(4).tolist()) == [46, 47, 53, 54]
    rest = [at for _ in range(10) for at in made.choose(9).tolist()]
    assert len(set(rest)) == 90
    assert made.epoch == 0
    last = made.choose(4).tolist()
    assert (made.epoch, len(set(rest + last[:1]))) == (1, 91), "the one that was left, then a new epoch"
    assert sorted(last[1:]) == [49, 50, 51]


def test_adarft_breaks_ties_by_chance() -> None:
    config = adarft.Config(difficulty="level")
    firsts = {
        tuple(adarft.create(config, 60, rng(seed), {"difficulty": np.arange(60) % 3 * 1.0}).choose(2).tolist())
        for seed in range(30)
    }
    assert len(firsts) > 20
    assert {at % 3 for pair in firsts for at in pair} == {0}, "the lowest difficulty, where T begins"


def test_adarft_follows_success_and_stays_in_range() -> None:
    made = adarft.create(adarft.Config(difficulty="level"), 50, rng(), {"difficulty": np.linspace(1, 5, 50)})
    for score, end in ((1.0, 5.0), (0.0, 1.0)):
        for _ in range(6):
            play(made, 4, lambda at, s=score: s)
        assert made.target == end


def test_adarft_refuses_a_range_in_which_there_is_no_task() -> None:
    difficulty = {"difficulty": np.linspace(0, 50, 10)}
    adarft.create(adarft.Config(difficulty="level", lowest=50.0), 10, rng(), difficulty)
    with pytest.raises(ValueError, match="from 200 to 50: the difficulties there are begin at 0 and end at 50"):
        adarft.create(adarft.Config(difficulty="level", lowest=200.0), 10, rng(), difficulty)
    with pytest.raises(ValueError, match="from 0 to -1"):
        adarft.create(adarft.Config(difficulty="level", highest=-1.0), 10, rng(), difficulty)


def test_adarft_goes_on_inside_the_range_that_a_fork_gives_it() -> None:
    numbers = {"difficulty": np.arange(100.0)}
    parent = adarft.create(adarft.Config(difficulty="level"), 100, rng(), numbers)
    for _ in range(6):
        play(parent, 4, lambda at: 1.0)
    fork = adarft.create(adarft.Config(difficulty="level", highest=5.0), 100, rng(), numbers)
    fork.load_state(parent.state())
    assert (parent.target, fork.target) == (99.0, 5.0)


def test_adarft_refuses_tasks_without_a_difficulty() -> None:
    difficulty = np.array([1.0, np.nan, 2.0, np.nan])
    with pytest.raises(ValueError, match="2 of 4 have none"):
        adarft.create(adarft.Config(difficulty="level"), 4, rng(), {"difficulty": difficulty})
    with pytest.raises(ValidationError, match="difficulty"):
        adarft.Config()  # type: ignore[call-arg]


def test_boltzmann_draws_by_its_estimates() -> None:
    made = boltzmann.create(boltzmann.Config(floor=0.0, start=0.0, learning_rate=1.0), 4, rng())
    made.learn([TaskResult(at, 0, 0.5, 8, signal) for at, signal in enumerate((0.3, 0.1, 0.0))])
    counts = np.bincount([int(made.choose(1)[0]) for _ in range(5_000)], minlength=4)
    wanted = np.exp(np.array([0.3, 0.1, 0.0, 0.0]) / 0.1)
    assert counts / 5_000 == pytest.approx(wanted / wanted.sum(), abs=0.025)


def test_boltzmann_stays_in_reach_of_float64() -> None:
    made = boltzmann.create(boltzmann.Config(temperature=0.001, learning_rate=1.0), 50, rng())
    for step, level in enumerate((0.25, 400.0, -400.0, 0.0)):
        made.learn([TaskResult(at, step, 0.5, 8, level + at / 1e4) for at in range(50)])
        counts = np.bincount(np.concatenate([made.choose(5) for _ in range(60)]), minlength=50)
        assert counts[40:].sum() > 2 * counts[:10].sum(), "what is better is still preferred"

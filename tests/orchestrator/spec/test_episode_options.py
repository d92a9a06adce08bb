"""What an environment's section says of its own episodes, in place of `step` and `sampler`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from environments.codebook import Codebook
from environments.codebook import Config as Book
from orchestrator import registry
from orchestrator.episode_options import Budgets, EpisodeOptions
from orchestrator.errors import SpecError
from orchestrator.profiles import without_slices
from orchestrator.runs.kept_spec import forked_spec, turns_kept
from orchestrator.spec import load_spec
from policies.samplers.contracts import SamplerOptions
from tests.environments.fakes import create
from tests.orchestrator.specs import alone, small

ALL = {"group_size": 6, "max_tokens": 9, "turn_tokens": 2, "max_turns": 3, "cut_off": "zero"}
TYPES = [{"type": "codebook"}, {"type": "reasoning_gym", "dataset": "gcd"}, alone()["environments"]["one"]]


@pytest.mark.parametrize("plain", TYPES, ids=["codebook", "reasoning_gym", "own"])
def test_they_stand_beside_the_options_of_any_type_and_no_type_is_given_them(plain: dict[str, Any]) -> None:
    with_them, bare = (
        load_spec(alone() | {"environments": {"one": one}}) for one in (plain | {"episodes": ALL}, plain)
    )
    section = with_them.environments["one"]
    assert section.options == bare.environments["one"].options
    assert section.episodes.given == ALL
    source = section.source("one", None)
    assert (source.options, source.episodes) == (section.options, ALL)


def test_a_name_alone_may_get_them_too() -> None:
    made = load_spec(alone() | {"environments": {"one": "codebook"}}, ["environments.one.episodes.group_size=3"])
    assert made.group_sizes == {"one": 3}


def test_an_option_of_a_type_that_is_called_alike_stays_its_own() -> None:
    section = load_spec(small(), ["environments.numbers.episodes.turn_tokens=2"]).environments["numbers"]
    assert (section.options["max_tokens"], section.episodes.given) == (3, {"turn_tokens": 2})


@pytest.mark.parametrize("plain", TYPES, ids=["codebook", "reasoning_gym", "own"])
def test_they_are_written_and_read_again(plain: dict[str, Any]) -> None:
    spec = load_spec(alone() | {"environments": {"one": plain | {"episodes": {"group_size": 6, "max_turns": 3}}}})
    kept = json.loads(json.dumps(spec.kept()))
    assert kept["environments"]["one"]["episodes"] == {"group_size": 6, "max_turns": 3}, "and no more than was said"
    assert load_spec(kept) == spec


@pytest.mark.parametrize("nothing", [{}, {"episodes": None}, {"episodes": {}}, {"episodes": {"max_turns": None}}])
def test_what_is_not_said_is_not_written(nothing: dict[str, Any]) -> None:
    spec = load_spec(alone(**nothing))
    assert spec.kept()["environments"]["one"] == alone()["environments"]["one"]
    assert spec == load_spec(alone())


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ({"group_size": 1}, r"environments.one.episodes.group_size: .*2, not 1"),
        ({"max_turns": 0}, r"environments.one.episodes.max_turns: .*1, not 0"),
        ({"cut_off": "half"}, r"environments.one.episodes.cut_off: .*'score', 'mask' or 'zero'"),
        ({"max_token": 3}, r"environments.one.episodes.max_token: unknown key. Did you mean 'max_tokens'"),
        (100, r"environments.one.episodes: a map .* like \{group_size: 16\}, not 100; no option of a factory"),
    ],
)
@pytest.mark.parametrize("type_", ["codebook", alone()["environments"]["one"]["type"]])
def test_what_cannot_be_is_refused_with_its_key(type_: str, episodes: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(alone() | {"environments": {"one": {"type": type_, "episodes": episodes}}})


def test_where_they_stand_is_said() -> None:
    with pytest.raises(SpecError, match=r"book.group_size: .* under `episodes`: `episodes: \{group_size: \.\.\.\}`"):
        load_spec(small(), ["environments.book.group_size=4"])
    with pytest.raises(SpecError, match="Did you mean 'episodes'"):
        load_spec(small(), ["environments.book.episode={group_size: 4}"])


def test_a_profile_of_the_whole_environment_has_its_budgets() -> None:
    sliced = load_spec(alone(slices={"by": "length"}, episodes={"max_turns": 3}))
    section, plain = (one.environments["one"] for one in (without_slices(sliced), load_spec(alone())))
    assert (section.options, section.episodes.given) == (plain.options, {"max_turns": 3})


def test_a_type_with_an_option_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config(BaseModel):
        episodes: int = 3

    real = registry.config_class
    monkeypatch.setattr(registry, "config_class", lambda kind, name: Config if name == "codebook" else real(kind, name))
    with pytest.raises(SpecError, match="type codebook has an option `episodes`, which is a word of the spec"):
        load_spec(alone() | {"environments": {"one": "codebook"}})


def test_group_sizes_are_the_steps_but_for_those_that_are_said() -> None:
    assert load_spec(small()).group_sizes == {"numbers": 4, "book": 4, "noise": 4}
    assert load_spec(small(), ["environments.book.episodes.group_size=6"]).group_sizes["book"] == 6


def test_budgets_are_the_samplers_but_for_those_that_are_said() -> None:
    shared = SamplerOptions(max_tokens=50, max_turns=9, cut_off="mask")
    budgets = Budgets(shared, {"own": EpisodeOptions(max_turns=3, max_tokens=7)})
    assert budgets.options("own") == shared.model_copy(update={"max_turns": 3, "max_tokens": 7})
    assert budgets.options("other") is shared
    own, other, book = create("own"), create("other"), Codebook("book", Book())
    assert [budgets.tokens(one) for one in (own, other, book)] == [7, 50, 1]
    assert [budgets.own_tokens(one) for one in (own, other, book)] == [7, None, 1]


def test_a_pilot_must_fit_into_the_smallest_group() -> None:
    own = "environments.book.episodes.group_size"
    with pytest.raises(SpecError, match=rf"and {own} is 2: raise it, or lower `gvm_pilot`"):
        load_spec(small(step={"groups": 2, "group_size": 8}, objective="gvm"), [f"{own}=2"])
    every = [f"environments.{name}.episodes.group_size=8" for name in ("numbers", "book", "noise")]
    assert load_spec(small(step={"groups": 2, "group_size": 2}, objective="gvm"), every), "no group has the step's size"


def test_a_pilot_looks_at_the_groups_of_its_own_objective_alone() -> None:
    by = small(objective={"preset": "repo", "by": {"book": "gvm"}}, step={"groups": 2, "group_size": 8})
    assert load_spec(by, ["environments.numbers.episodes.group_size=2"])
    with pytest.raises(SpecError, match=r"objective.by.book.plans: gvm .* environments.book.episodes.group_size is 2"):
        load_spec(by, ["environments.book.episodes.group_size=2"])


def test_a_length_to_divide_by_is_compared_with_the_longest_answer() -> None:
    long = alone(episodes={"max_tokens": 64}) | {"objective": {"preset": "dr_grpo", "max_length": 100}}
    assert not [one for one in load_spec(long).warnings() if "max_length" in one]
    assert [one for one in load_spec(long, ["environments.one.episodes=null"]).warnings() if "max_length" in one]


def test_a_fork_may_change_the_size_of_groups_and_no_budget() -> None:
    parent = load_spec(alone(episodes={"max_turns": 3}))
    assert forked_spec(parent, None, ["environments.one.episodes.group_size=4"], 1).group_sizes == {"one": 4}
    with pytest.raises(SpecError, match=r"environments.one: is not the parent's any more"):
        forked_spec(parent, None, ["environments.one.episodes.max_turns=4"], 1)


GAME = {"type": "textarena", "id": "FrozenLake-v0"}


def games(sampler: dict[str, Any] | None = None, **by_name: dict[str, Any]) -> dict[str, Any]:
    """A spec of games, each with further options."""
    shared = {} if sampler is None else {"sampler": sampler}
    return alone() | {"environments": {name: GAME | options for name, options in by_name.items()}} | shared


def test_an_environments_own_turns_are_its_limit_where_nobody_says_one() -> None:
    spec = load_spec(games(long={"turns": 40, "episodes": {"group_size": 6}}, plain={}, short={"turns": 9}))
    limits = {name: spec.budgets.options(name).max_turns for name in spec.environments}
    assert limits == {"long": 40, "plain": 30, "short": 16}, "30 by default"
    assert spec.sampler.max_turns == 16
    assert spec.environments["long"].episodes.given == {"group_size": 6, "max_turns": 40}
    assert spec.warnings() == []
    kept = json.loads(json.dumps(spec.kept()))
    assert load_spec(kept) == spec, "a run that goes on has it too"


@pytest.mark.parametrize("sampler", [{"max_turns": 16}, {"type": "transformers", "max_turns": 16}, {"max_turns": 99}])
def test_a_limit_that_somebody_said_stays(sampler: dict[str, Any]) -> None:
    """As the specs of runs from before say it."""
    spec = load_spec(games(sampler, long={"turns": 40}, other={"turns": 40, "episodes": {"max_turns": 7}}))
    assert spec.environments["long"].episodes.given == {}
    assert spec.environments["other"].episodes.given == {"max_turns": 7}
    assert spec.budgets.options("long").max_turns == sampler["max_turns"]


def test_an_option_of_a_factory_that_is_called_so_is_its_own() -> None:
    spec = load_spec(alone(turns=40))
    assert spec.environments["one"].episodes.given == {}
    assert load_spec(alone(turns=40), ["sampler.max_turns=3"]).warnings() == []


def test_turns_without_effect_are_warned_of_once_a_limit() -> None:
    own = {"turns": 40, "episodes": {"max_turns": 7}}
    of_the_sampler, of_its_own = load_spec(
        games({"max_turns": 20}, a={"turns": 21}, b={}, c={"turns": 20}, d=own)
    ).warnings()
    assert of_the_sampler == (
        "`sampler.max_turns: 20` cuts episodes off before their environments end them, at `environments.a.turns: 21` "
        "and `environments.b.turns: 30`: leave `max_turns` out, raise it, or lower `turns`."
    )
    assert of_its_own.startswith("`environments.d.episodes.max_turns: 7` cuts")
    assert "`environments.d.turns: 40`" in of_its_own


def test_a_limit_of_the_sampler_that_holds_nowhere_is_warned_of() -> None:
    own = {"a": {"episodes": {"max_turns": 30}}, "b": {"turns": 7, "episodes": {"max_turns": 7}}}
    (warned,) = load_spec(games({"max_turns": 4}, **own)).warnings()
    assert warned == (
        "`sampler.max_turns: 4` has no effect, because every environment has its own limit, "
        "`environments.a.episodes.max_turns: 30` and `environments.b.episodes.max_turns: 7`: change or remove those, "
        "or leave `sampler.max_turns` out."
    )
    assert load_spec(games(**own)).warnings() == []
    assert not [one for one in load_spec(games({"max_turns": 4}, c={"turns": 3}, **own)).warnings() if "effect" in one]


def test_a_resolved_spec_is_warned_of_what_is_said_and_not_of_what_was_resolved() -> None:
    kept = load_spec(games(long={}, other={"turns": 40})).kept()
    assert kept["sampler"]["max_turns"] == 16
    assert load_spec(kept).warnings() == []
    assert load_spec(load_spec(kept).kept()).warnings() == [], "nor when it is kept again"
    (warned,) = load_spec(kept, ["sampler.max_turns=4"]).warnings()
    assert warned.startswith("`sampler.max_turns: 4` has no effect")
    removed = load_spec(kept, ["sampler.max_turns=4", "environments.long.episodes=null"])
    assert removed.budgets.options("long").max_turns == 4, "as the warning says"


def test_a_fork_cannot_say_turns_that_hold_nowhere() -> None:
    parent = load_spec(load_spec(games(long={})).kept())
    with pytest.raises(SpecError) as refused:
        forked_spec(parent, None, ["sampler.max_turns=4"], 1)
    assert str(refused.value) == (
        "sampler.max_turns: 4 has no effect, because every environment has a limit of its own, which a fork keeps: "
        "`environments.long.episodes.max_turns: 30`; leave it out, or begin a new run: `evergreen run`"
    )
    for same in (["sampler.max_turns=16"], ["sampler={type: transformers}"], ["sampler.max_tokens=9"]):
        assert forked_spec(parent, None, same, 1).budgets.options("long").max_turns == 30


def test_a_fork_is_told_where_its_turns_do_not_hold() -> None:
    parent = load_spec(load_spec(games(long={}, short={"turns": 9})).kept())
    forked = forked_spec(parent, None, ["sampler.max_turns=4"], 1)
    assert turns_kept(forked, parent) == (
        "sampler.max_turns: 4 does not hold where an environment has a limit of its own, which a fork keeps: "
        "`environments.long.episodes.max_turns: 30`"
    )
    assert turns_kept(forked_spec(parent, None, [], 1), parent) is None
    nobody = load_spec(load_spec(games(short={"turns": 9})).kept())
    assert turns_kept(forked_spec(nobody, None, ["sampler.max_turns=4"], 1), nobody) is None

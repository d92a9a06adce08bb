from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from environments import Environment, pool_of
from environments.codebook import ANSWERS, Codebook
from environments.codebook import Config as Book
from orchestrator.callbacks import Callback
from orchestrator.episode_options import Budgets, EpisodeOptions
from orchestrator.errors import UserError
from orchestrator.rollout.warm_start_examples import WarmStartExamples
from orchestrator.runs.assembly import lay_foundation
from orchestrator.runs.end_tokens import endless_answers, require_end
from orchestrator.runs.warm_start import warm_started
from orchestrator.spec import load_spec
from policies.config import WarmStartConfig
from policies.errors import PolicyError
from policies.model_facts import Endings
from policies.samplers.contracts import SamplerOptions
from policies.samplers.testing import random_policy
from store.home import Home
from tests.environments.fakes import create
from tests.orchestrator.specs import alone

ENVIRONMENTS: dict[str, Environment] = {
    "words": create("words", categories=["3", "4", "5", "kept"], held_out=["kept"]),
    "book": Codebook("book", Book(categories={"2": 2, "8": 8})),
}


def examples(config: dict[str, Any], seed: int = 0) -> WarmStartExamples:
    return WarmStartExamples(ENVIRONMENTS, WarmStartConfig.model_validate(config), seed, Budgets(SamplerOptions()))


def counts(drawn: WarmStartExamples, n: int = 4000) -> Counter[str]:
    """Count examples by category; the book's prompts do not tell theirs."""
    words = (example.messages[0]["content"] for example in drawn(n))
    return Counter("book" if word.startswith("book:") else word.split()[0] for word in words)


def test_category_i_weighs_decay_to_the_power_i_and_held_out_ones_nothing() -> None:
    found = counts(examples({"environments": ["words"], "decay": 0.5}))
    assert found.keys() == {"3", "4", "5"}
    for name, share in {"3": 4 / 7, "4": 2 / 7, "5": 1 / 7}.items():
        assert found[name] / 4000 == pytest.approx(share, abs=0.03)


def test_environments_weigh_as_many_batches_as_they_ask_for() -> None:
    shares = {"words": {"batches": 30, "decay": 1}, "book": {"batches": 10}}
    found = counts(examples({"environments": shares}))
    assert found["book"] / 4000 == pytest.approx(1 / 4, abs=0.03)
    assert found["3"] / 4000 == pytest.approx(1 / 4, abs=0.03)


def test_examples_are_training_tasks_with_their_reference_answers() -> None:
    for example in examples({"environments": ["words"]})(200):
        name, number = example.messages[0]["content"].split()
        assert example.answer == number
        assert pool_of(ENVIRONMENTS["words"].task(name, int(number)).key) == "train"
        assert example.ends


def test_a_closed_environment_teaches_a_legal_answer_and_never_the_answer() -> None:
    drawn = examples({"environments": {"book": {"decay": 1}}})(3000)
    assert not any(example.ends for example in drawn), "its replies are one token long"
    references = {
        task.messages[0]["content"]: (task.answer, int(name))
        for name in ("2", "8")
        for task in (ENVIRONMENTS["book"].task(name, index) for index in range(64))
    }
    hits: Counter[int] = Counter()
    totals: Counter[int] = Counter()
    for example in drawn:
        answer, num_symbols = references[example.messages[0]["content"]]
        assert example.answer in ANSWERS[:num_symbols]
        hits[num_symbols] += example.answer == answer
        totals[num_symbols] += 1
    for num_symbols in (2, 8):
        chance = hits[num_symbols] / totals[num_symbols]
        assert chance == pytest.approx(1 / num_symbols, abs=0.05), "right no more often than by chance"


def test_the_same_seed_draws_the_same_examples() -> None:
    config = {"environments": ["words", "book"]}
    assert examples(config)(50) == examples(config)(50)
    assert examples(config)(50) != examples(config, seed=1)(50)


def test_an_environment_without_reference_answers_cannot_be_in_a_warm_start() -> None:
    class Silent(type(ENVIRONMENTS["words"])):  # type: ignore[misc]
        def task(self, category: str, index: int) -> Any:
            return replace(super().task(category, index), answer=None)

    silent = Silent("words", "learnable", ["3"], [], None, 10, True)
    with pytest.raises(UserError, match=r"names words, but its task 3/\d+ has no reference answer"):
        WarmStartExamples({"words": silent}, WarmStartConfig(environments=("words",)), 0, Budgets(SamplerOptions()))(1)


def test_another_model_in_the_same_place_has_a_warm_start_of_its_own(tmp_path: Path) -> None:
    """Of the same shape, or the same weights that read prompts in another way."""
    warm = {"environments": ["one"], "batches": 1, "batch_size": 2, "warmup": 1}
    place, home = tmp_path / "model", Home(tmp_path / "home")
    spec = load_spec({**alone(), "policy": {"model": str(place)}, "warm_start": warm})

    def entries(seed: int, ends: str = "") -> set[str]:
        random_policy(seed=seed).save(place)
        template = place / "chat_template.jinja"
        template.write_text(template.read_text() + ends)
        foundation = lay_foundation(spec)
        given = (foundation.policy, foundation.environments, foundation.prompts, spec, home, Callback())
        warm_started(*given, stop=lambda: None)
        return {path.name for path in home.warm_starts.glob("[!.]*")}

    first = entries(seed=1)
    assert entries(seed=1) == first, "taken from the cache"
    second = entries(seed=2)
    assert len(second) == 2
    assert len(entries(seed=2, ends="{{ ' ' }}")) == 3


@pytest.mark.parametrize(("asked", "ends"), [(1, False), (2, True), (None, True)])
def test_an_answer_that_the_spec_gives_one_token_has_no_end(asked: int | None, ends: bool) -> None:
    own = Budgets(SamplerOptions(), {"words": EpisodeOptions(max_tokens=asked)})
    config = WarmStartConfig(environments=("words",))
    (example,) = WarmStartExamples(ENVIRONMENTS, config, 0, own)(1)
    assert example.ends == ends
    endless = Endings(None, ())
    with nullcontext() if not ends else pytest.raises(PolicyError, match="has a token that ends"):
        require_end(config, ENVIRONMENTS, endless, own, "mute")
    told = endless_answers([ENVIRONMENTS["words"]], endless, own, "mute")
    assert bool(told) == ends

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig

from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.runs.api import run
from orchestrator.runs.catalog import opened
from orchestrator.runs.disk_use import DiskUse
from orchestrator.runs.dry_run import DryRun, make_plan
from orchestrator.spec import load_spec
from policies.errors import PolicyError
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from store.home import Home
from store.ledger import Ledger
from tests.orchestrator.specs import alone, small


def plan(spec: dict[str, Any], *overrides: str) -> DryRun:
    return make_plan(load_spec(spec, overrides), Path("a/home/that/is/not/there/yet"))


def test_a_plan_counts_steps_episodes_and_evaluations() -> None:
    made = plan(small())
    assert (made.steps, made.episodes) == (9, 9 * 4 * 4)
    assert made.evaluations == "4 evaluations of 48 samples at most"  # 6 categories, 2 items, 4 samples
    assert made.stages == (
        "3 stages of 3 steps, scheduler uniform over numbers, book, noise; a headroom bandit each; replay 0.25"
    )
    assert made.free_bytes > 0


def test_a_plan_says_of_how_many_episodes_the_groups_of_each_environment_are() -> None:
    own = ["environments.book.episodes.group_size=6", "environments.noise.episodes.max_tokens=20"]
    made = plan(small(), *own)
    assert (made.fewest_episodes, made.episodes) == (9 * 4 * 4, 9 * 4 * 6)
    assert "9 steps, 144 to 216 episodes; " in "\n".join(made.lines())
    assert "; 4 groups of 4 (numbers), 6 (book) and 4 (noise) a step, " in made.trains
    assert made.trains.endswith("up to 20 tokens an episode")


def test_a_plan_counts_the_groups_that_are_played_again() -> None:
    once = plan(small())
    made = plan(small(), "objective=dapo", "objective.dynamic_sampling_rounds=5")
    assert (made.fewest_episodes, made.episodes) == (9 * 4 * 4, 5 * 9 * 4 * 4)
    assert made.ledger_bytes > once.ledger_bytes
    assert "9 steps, 144 to 720 episodes; " in "\n".join(made.lines())
    assert ", ledger up to " in "\n".join(made.lines())
    assert ", ledger about " in "\n".join(once.lines())


def test_a_plan_says_replay_only_where_there_is_something_to_replay() -> None:
    assert plan(alone()).stages.endswith("a headroom bandit each")


def test_of_many_environments_a_plan_names_the_first_and_says_how_many_have_no_stage() -> None:
    book = {"type": "codebook", "keys": 4, "categories": {4: 4}}
    many = small(environments={f"book{n:02}": book for n in range(13)}, warm_start=None)
    made = plan(many)
    assert "scheduler uniform over book00, book01, book02 and 10 more; a " in made.stages
    assert "13 environments and 3 stages (`curriculum.stages`): at least 10 have none" in made.remarks
    in_order = {"curriculum": {"stages": 3, "scheduler": {"type": "sequence", "order": ["book12"]}}}
    assert "over book12, no stage on book00, book01, book02, " in plan(many | in_order).stages
    for others in (
        plan(many, "curriculum.stages=13"),
        plan(many | in_order),
        plan(many | {"curriculum": {"mode": "flat"}}),
    ):
        assert not [text for text in others.remarks if "have none" in text]


def test_a_flat_plan_names_its_one_bandit() -> None:
    made = plan(small(curriculum={"mode": "flat"}))
    assert made.stages == "one headroom bandit over all categories of numbers, book, noise"


def test_a_plan_counts_the_twin_too() -> None:
    alone, paired = plan(small()), plan(small(baseline="uniform"))
    assert (paired.steps, paired.episodes) == (2 * alone.steps, 2 * alone.episodes)
    assert (paired.num_checkpoints, paired.ledger_bytes) == (
        2 * alone.num_checkpoints,
        2 * alone.ledger_bytes,
    )
    assert paired.stages == alone.stages + ", and the same again with the uniform bandit"
    assert paired.evaluations == "8 evaluations of 48 samples at most"


def test_a_plan_says_what_the_twin_is_made_with_and_counts_its_own_steps() -> None:
    alone = plan(small())
    paired = plan(small(baseline={"objective": "grpo", "curriculum.stage.steps": 2, "step.groups": 2}))
    assert paired.stages == alone.stages + ", and the same again with objective grpo, steps 2 and groups 2"
    assert (paired.steps, paired.episodes) == (9 + 6, 9 * 4 * 4 + 6 * 2 * 4)


def test_a_plan_refuses_a_twin_whose_parts_cannot_be_made() -> None:
    with pytest.raises(UserError, match=r"nobody\.py"):
        plan(small(baseline={"curriculum.bandit": "./nobody.py:create"}))


def test_limits_of_an_environment_beyond_those_of_scoring_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.environments.fakes.Fake.seconds", 2.0, raising=False)
    with pytest.raises(UserError, match=r"timeout_s is 2, but .* a score of noise may take 2 s"):
        plan(small())
    assert plan(small(), "scoring.timeout_s=3").steps == 9


def test_the_disk_that_a_plan_tells_is_what_a_run_takes(tmp_path: Path) -> None:
    made = plan(alone())
    outcome = run(alone(), home=tmp_path)
    newest = max(outcome.folder.glob("checkpoints/*"))
    size = sum(path.stat().st_size for path in newest.rglob("*.safetensors"))
    assert made.checkpoint_bytes == pytest.approx(size, rel=0.05)
    assert f"{made.parameters:,} weights" in "\n".join(made.lines())


def test_a_hub_model_that_is_not_here_has_a_plan_without_a_size() -> None:
    made = plan(small(policy="somebody/no-such-model"))
    assert (made.parameters, made.checkpoint_bytes) == (None, None)
    assert "the model's configuration is not here, so no size" in "\n".join(made.lines())


def test_a_folder_that_is_not_there_has_no_plan() -> None:
    with pytest.raises(PolicyError, match="does not exist"):
        plan(small(policy="./no-such-folder"))


def test_what_is_allowed_and_usually_a_mistake_is_told() -> None:
    fixed = plan(small(), "objective.preset=repo", "objective.controller=none")
    assert any("nothing can lower it" in line for line in fixed.lines())
    assert plan(small()).warnings == ()


def test_tasks_are_counted_by_category_and_pool() -> None:
    made = {one.name: one for one in plan(small()).environments}
    assert made["book"].closed
    assert [(one.name, one.train, one.held_out) for one in made["book"].categories] == [("2", 6, 6), ("4", 6, 6)]
    assert [(one.train, one.held_out) for one in made["numbers"].categories] == [(None, None)] * 2
    categories = {"few": {"size": 200}, "many": {"size": 1000}, "only": {"size": 200, "trainable": False}}
    words = {"type": "reasoning_gym", "dataset": "spell_backward", "categories": categories}
    (made_of,) = plan(small(environments={"words": words}, warm_start=None)).environments
    few, many, only = made_of.categories
    assert few.train is not None
    assert few.held_out is not None
    assert 100 < few.train < 160, "seven tenths of those that differ"
    assert 5 < few.held_out < 40
    assert few.train + few.held_out + few.aside <= 200, "each task is in one pool"
    assert 10 < few.aside < 80
    assert (many.train, many.held_out, many.aside, many.estimated) == (700, 100, 200, True)
    assert (only.trainable, only.train) == (False, 0)


def test_a_run_that_its_disk_does_not_hold_says_so_when_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(alone(name="fits"), home=tmp_path)
    monkeypatch.setattr("orchestrator.runs.disk_use.shutil.disk_usage", lambda place: SimpleNamespace(free=10_000))
    heard: list[str] = []
    watcher = Callback()
    monkeypatch.setattr(watcher, "event", heard.extend)
    run(alone(name="full"), home=tmp_path, watcher=watcher)
    with Ledger.open(Home(tmp_path).ledger_url) as ledger:
        events = {name: ledger.reading.events(name) for name in ("fits", "full")}
    told = {name: [one.text for one in of if one.kind == "warning"] for name, of in events.items()}
    assert told["fits"] == []
    (said,) = told["full"]
    assert said.startswith("the disk does not hold this run: its checkpoints and ledger grow to ")
    assert said in heard
    assert "`checkpoint.keep: 1` makes it" in said


def test_a_plan_says_what_learns_and_what_is_looked_at_when() -> None:
    made = plan(small())
    assert made.trains == (
        "tiny after a warm start of 24 batches; 4 groups of 4 a step, objective repo_adaptive, learning rate 0.003; "
        "sampler transformers, up to 3 tokens an episode"
    )
    falling = plan(small(), "learner.warmup=1", "learner.schedule={type: cosine, over: stage, end: 0.1}").trains
    assert "learning rate 0.003, cosine over every stage to 10% of it; sampler" in falling
    assert made.looks == (
        "before training and after every stage, 2 held-out tasks a category, 4 samples of each; 33% of the training's "
        "compute"
    )


def test_a_plan_names_categories_with_fewer_held_out_tasks_than_asked_for_and_where_the_others_are() -> None:
    categories = {"few": {"size": 40}, "some": {"size": 200}, "many": {"size": 1000}}
    words = {"type": "reasoning_gym", "dataset": "spell_backward", "categories": categories}
    made = plan(small(environments={"words": words}, warm_start=None), "evaluate.items=32")
    few, some, many = made.environments[0].categories
    assert few.held_out is not None
    assert f"32 held-out tasks a category (words.few has {few.held_out} and words.some has {some.held_out}), 4" in (
        made.looks
    )
    (aside,) = (line for line in made.lines() if line.startswith("aside: "))
    assert f"words {few.aside + some.aside + many.aside:,}: " in aside
    assert "pool select" in aside
    assert not [line for line in plan(small()).lines() if line.startswith("aside: ")], "endless, and its own tasks"


def test_without_a_size_or_with_room_nothing_is_said_of_the_disk() -> None:
    use = DiskUse(1000, 0, 3, 2, 2, 500, True, 5500, Path("/"))
    assert use.shortage is None
    assert replace(use, checkpoint_bytes=None, free_bytes=0).shortage is None
    assert replace(use, free_bytes=5400, holds_ledger=False).shortage is None, "a ledger elsewhere takes no room here"
    short = replace(use, free_bytes=5400).shortage
    assert short is not None
    assert "`checkpoint.keep: 1` makes it 4.5 KB, which fits" in short  # three boundaries and one, and the ledger
    assert "`checkpoint.boundaries: weights` keeps less of each" in short
    assert replace(use, free_bytes=5400, thinned_bytes=100).shortage is None


def test_older_boundaries_of_weights_only_take_less_of_a_disk() -> None:
    whole, thin = plan(small(), "checkpoint.boundaries=all"), plan(small(), "checkpoint.boundaries=weights")
    assert whole.saved_bytes is not None
    assert thin.saved_bytes is not None
    assert whole.saved_bytes == whole.num_checkpoints * (whole.checkpoint_bytes or 0)
    weights = 4 * (whole.parameters or 0)
    assert whole.saved_bytes - thin.saved_bytes == pytest.approx(2 * 2 * weights, rel=0.05), "two of four boundaries"
    assert "older boundaries weights only" in "\n".join(thin.lines())
    newest = plan(small(), "checkpoint.boundaries=none")
    assert newest.num_checkpoints == whole.num_checkpoints - 2
    assert newest.saved_bytes == newest.num_checkpoints * (whole.checkpoint_bytes or 0)


@pytest.mark.parametrize(
    ("when", "all_of_them", "thinned", "newest"),
    [
        ("always", 4 + 2, 2, 4 + 1),
        ("after stages 1", 4 + 1, 2, 3 + 1),
        ("after stages 2", 4 + 1, 2, 3 + 1),
        (None, 4, 2, 2),
    ],
)
def test_a_boundary_where_the_policy_is_changed_has_two_checkpoints_that_stay(
    when: str | None, all_of_them: int, thinned: int, newest: int
) -> None:
    changes = [] if when is None else [{"type": "base_fusion", "when": when}]
    spec = small(checkpoint={"keep": 1})
    spec["curriculum"] = {**spec["curriculum"], "boundary": {"interventions": changes}}
    whole, thin, few = (plan(spec, f"checkpoint.boundaries={kept}") for kept in ("all", "weights", "none"))
    assert whole.num_checkpoints == thin.num_checkpoints == all_of_them + 1
    assert whole.saved_bytes is not None
    assert thin.saved_bytes is not None
    moments = 2 * 4 * (whole.parameters or 0)
    assert (whole.saved_bytes - thin.saved_bytes) / moments == pytest.approx(thinned, rel=0.05)
    assert few.num_checkpoints == newest + 1


def test_a_plan_knows_what_every_measurement_of_ours_will_take(tmp_path: Path) -> None:
    spec = {**alone(), "measure": {"share": 1, "of": ["network", "samples", "gradients"]}}
    planned = plan(spec)
    taken: dict[str, float] = {}
    run(spec, home=tmp_path)
    with opened(tmp_path, "alone") as (_, ledger):
        for one in ledger.reading.measurements("alone"):
            taken[one.name] = taken.get(one.name, 0.0) + one.passes
    expected = {part.name: part.passes for part in planned.looking.parts}
    assert taken.pop("gradients") <= expected.pop("gradients"), "of groups with spread, which no plan knows"
    assert taken == expected
    assert taken["network"] > 0
    assert "not known yet" not in planned.costs


def test_a_plan_names_what_a_fixed_order_leaves_out() -> None:
    scheduler = {"type": "sequence", "order": ["book", "numbers"]}
    made = plan(small(curriculum={"stages": 3, "scheduler": scheduler, "stage": {"steps": 3}}))
    assert "scheduler sequence over book, numbers, no stage on noise;" in made.stages


@pytest.mark.parametrize(("share", "is_told"), [(0.001, True), (100, False)])
def test_an_intervention_that_waits_for_a_probe_that_is_never_made_is_told(share: float, is_told: bool) -> None:
    boundary = {"interventions": [{"type": "reset_optimizer", "when": "probe_gain_ratio < .5"}]}
    curriculum = {"stages": 3, "boundary": boundary, "stage": {"steps": 3}}
    probe = {"type": "probe", "steps": 2, "batch": 1, "items": 1, "eval_every": 1}
    made = plan({**small(curriculum=curriculum), "measure": {"share": share, "of": probe}})
    told = [
        text for text in made.warnings if "is never asked: probes are made before training and after stage 3" in text
    ]
    assert len(told) == is_told


@pytest.mark.parametrize("how", [plan, lambda spec: run(spec, home="a/home/that/is/not/there/yet")])
def test_a_closed_vocabulary_is_refused_beside_a_game_which_replies_in_other_words(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    game = {"type": "gymnasium", "id": "FrozenLake-v1"}
    spec = small(environments={"ice": game}, warm_start=None)
    assert plan(spec).steps == 9
    with pytest.raises(UserError, match=r"policy\.vocabulary: closed knows only what tasks show, and ice may reply"):
        how(spec | {"policy": spec["policy"] | {"vocabulary": "closed"}})
    assert not [*tmp_path.rglob("small*")]


def test_a_folder_without_weights_is_told_of_where_prompts_are_read(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    tokenizer = build_tokenizer(VocabularySample({}))
    LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **shape).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = load_spec(small(policy={"model": str(tmp_path)}))
    told = [make_plan(spec, tmp_path, reads_prompts=reads).warnings for reads in (True, False)]
    assert [any("holds no weights, which a run needs" in text for text in one) for one in told] == [True, False]

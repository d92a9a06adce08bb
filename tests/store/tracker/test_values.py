"""What MLflow holds after catching up, compared with the ledger by other questions than the tracker asks."""

from __future__ import annotations

import math
import re
from hashlib import sha256
from pathlib import Path

import pytest

from store import carryover
from store.ledger.query_rows import ArmRow, NetworkRow, PickRow
from store.metrics import FAMILIES, METRICS
from store.metrics import metric as known_metric
from store.run_summary import MATRICES
from store.tracker.names import PER_CATEGORY, PER_ENVIRONMENT, of_matrix, of_network, of_pick, values
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import Source, catch_up
from tests.shares import share
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import PATTERNS, PROBES, ms, series

PAGE_OF_NAMES = Path(__file__).parents[3] / "docs" / "mlflow.md"


def of_steps(source: Source) -> dict[str, dict[int, float]]:
    """Name -> step -> value of everything that the ledger has for steps, asked for series by series."""
    read, spec = source.read, source.read.spec(source.run)
    found: dict[str, dict[int, float]] = {}

    def take(name: str, metric: str, *of: str) -> None:
        points = read.series(source.run, metric, *of)
        found[name] = {point.step: point.value for point in points if point.value is not None}

    for metric in {*METRICS, *(number.metric for number in read.last_metrics(source.run))}:
        take(f"{'time' if known_metric(metric).group == 'time' else 'train'}/{metric}", metric)
    for environment, section in spec["environments"].items():
        for metric, name in PER_ENVIRONMENT.items():
            take(f"{name}/{environment}", metric, environment)
        for category in section.get("categories") or ("easy", "hard"):
            for metric in PER_CATEGORY:
                take(f"{metric}_by_category/{environment}.{category}", metric, environment, category)
    is_flat = read.run(source.run).scheduler is None
    for arm in read.arms(source.run):
        if is_flat or arm.bandit != "*":
            pair = arm.arm.replace("/", ".") if is_flat else f"{arm.bandit}.{arm.arm}"
            found.setdefault(f"bandit_prob_by_category/{pair}", {})[arm.step] = arm.probability
    return {name: points for name, points in found.items() if points}


@pytest.mark.parametrize(("name", "home"), share([("small", "finished"), ("flat", "finished"), ("alone", "long")], 2))
def test_every_value_of_the_ledger_arrives_once_with_its_step_and_time(
    request: pytest.FixtureRequest, source_of: Copy, target: Target, name: str, home: str
) -> None:
    source = source_of(name, request.getfixturevalue(home))
    catch_up(source, MlflowRecord(target))
    sent, expected = series(target), of_steps(source)
    steps = {step.step: step for step in source.read.steps(name)}
    assert len(expected) > 20
    for stage in source.read.stages(name):
        own = sent[f"{stage.stage:02} {stage.environment or 'all'} ({name})"]
        mine = [number for number, step in steps.items() if step.stage == stage.stage]
        for key, points in expected.items():
            timed = [(i, ms(steps[i].created_at), points[i]) for i in mine if i in points]
            assert own.pop(key, []) == timed, key
        assert {key.partition("/")[0] for key in own} == {"progress"}
    ends = {stage.end_step for stage in source.read.stages(name)}
    some = [number for number in steps if number % 10 == 0 or number in ends]
    for key, points in expected.items():
        timed = [(i, ms(steps[i].created_at), points[i]) for i in some if i in points]
        assert sent[name].get(key, []) == timed, key


def test_progress_counts_over_the_whole_run(source_of: Copy, target: Target, long: Path) -> None:
    source = source_of("alone", long)
    catch_up(source, MlflowRecord(target))
    sent = {name: [value for _, _, value in points] for name, points in series(target)["alone"].items()}
    steps, bounds = source.read.steps("alone"), source.read.boundaries("alone")
    assert sent["progress/stage_idx"] == [1, 1, 2, 2]  # steps 10, 13, 20, 26
    assert sent["progress/stage_step"] == [10, 13, 7, 13]
    assert sent["progress/tokens"][-1] == sum(step.num_tokens for step in steps)
    worked_s = sum(step.seconds for step in steps) + sum(bound.seconds for bound in bounds[:-1])
    assert sent["progress/wall_h"][-1] == pytest.approx(worked_s / 3600)
    assert sent["progress/wall_h"] == sorted(sent["progress/wall_h"])


@pytest.mark.parametrize("name", ["small", "flat"])
def test_matrices_are_on_the_curriculum_at_the_boundaries(source_of: Copy, both: MlflowRecord, name: str) -> None:
    read, sent = source_of(name).read, series(both.target)[name]
    times = [(bound.step, ms(bound.created_at)) for bound in read.boundaries(name)]
    for metric in MATRICES:
        for environment in ("numbers", "book", "noise"):
            cells = [c for c in read.matrix(name, metric) if (c.environment, c.category) == (environment, None)]
            points = [(*time, cell.value) for time, cell in zip(times, cells, strict=True)]
            assert sent[f"R_{metric}/{environment}"] == points


def test_what_else_was_measured_is_there_at_the_boundaries_and_nowhere_else(
    source_of: Copy, both: MlflowRecord
) -> None:
    """The whole model, and of two layers the middle one (the lower) and the last; what looking cost."""
    read, sent = source_of().read, series(both.target)["small"]
    times = [(bound.step, ms(bound.created_at)) for bound in read.boundaries("small")]
    network = {(row.after_stage, row.layer): row.value for row in read.network("small")}
    for name, layer in (("net/own_rank", -1), ("net/own_rank_mid", 0), ("net/own_rank_last", 1)):
        assert sent[name] == [(*time, network[after, layer]) for after, time in enumerate(times)]
    assert sent["looking_passes/made_up-" + sha256(b"made up").hexdigest()[:8]] == [
        (*time, 8.0 + after) for after, time in enumerate(times)
    ]
    (own,) = (points for name, points in sent.items() if name.startswith("R_own_rank/"))
    assert own == [(*time, 0.5) for time in times[1:]]
    of_stages = {name for run, own in series(both.target).items() if "(" in run for name in own}
    assert not {name for name in of_stages if name.startswith(("net/", "probe/", "looking", "R_own"))}


def test_many_layers_are_told_by_the_middle_and_the_last() -> None:
    rows = [NetworkRow(1, "erank", float(layer), layer) for layer in (3, 7, 11, 15)]
    assert dict(of_network(rows)) == {"net/erank_mid": 7.0, "net/erank_last": 15.0}
    assert dict(of_network([NetworkRow(1, "a", 1.0, 4)])) == {"net/a_mid": 1.0, "net/a_last": 1.0}


def test_probes_are_told_at_their_boundaries_against_the_base(source_of: Copy, both: MlflowRecord) -> None:
    """The mean loss is 30.5 / (20 + stage), gains are counted from 3; one of two copies diverged after stage 2."""
    read, sent = source_of().read, series(both.target)["small"]
    times = [(bound.step, ms(bound.created_at)) for bound in read.boundaries("small")]
    levels = [40.5 / (20 + after) for after in range(4)]
    levels[2] = 40 / 22
    told = {name: [(step, at, pytest.approx(value)) for step, at, value in of] for name, of in sent.items()}
    assert told["probe/sft_level"] == [(*time, level) for time, level in zip(times, levels, strict=True)]
    ratios = [(*times[after], (3 - 30.5 / (20 + after)) / (3 - 30.5 / 20)) for after in range(4)]
    ratios[2] = (*times[2], (3 - 30 / 22) / (3 - 30 / 20))  # of the other one alone
    assert told["probe/sft_gain_ratio"] == told["final/trainability"] == ratios


def test_support_is_named_without_the_prefix_of_matrices() -> None:
    assert of_matrix("support_kept_base", "book") == "support_kept_base/book"
    assert of_matrix("pass_8", "book") == "R_pass_8/book"


def test_carry_over_is_what_its_functions_say(source_of: Copy, both: MlflowRecord) -> None:
    read, sent = source_of().read, series(both.target)["small"]
    run = read.carry_over("small")
    over_stages = {
        "switch/gain": lambda m: carryover.gain(m).value,
        "switch/interference": lambda m: carryover.interference(m).value,
        "switch/entropy_retained": lambda m: carryover.retained(m)[-1],
        "switch/entropy_collateral": lambda m: carryover.collateral(m).value,
        "cl/acc": lambda m: carryover.average(m).value,
    }
    for name, of in over_stages.items():
        expected = [of(run.up_to(stage)) for stage in (1, 2, 3)]
        assert [(step, value) for step, _, value in sent[name]] == list(zip((3, 6, 9), expected, strict=True))
    assert [(step, value) for step, _, value in sent["switch/entropy_carry"]] == list(
        zip((6, 9), carryover.carried(run), strict=True)
    )
    assert sent["cl/bwt"][-1][2] == carryover.backward_transfer(run).value
    assert sent["cl/fwt"][-1][2] == carryover.forward_transfer(run).value
    assert sent["cl/forgetting"][-1][2] == carryover.forgetting(run).value


def test_flat_mode_has_no_stages_to_compare(both: MlflowRecord) -> None:
    prefixes = {name.partition("/")[0] for name in series(both.target)["flat"]}
    assert not prefixes & {"switch", "bandit", "bandit_prob"}
    told = {name for name in series(both.target)["flat"] if name.startswith("cl/")}
    assert {"cl/acc", "cl/forgetting"} <= told
    assert not told & {"cl/bwt", "cl/fwt", "cl/entropy_retained", "cl/entropy_carried"}
    assert "bandit_prob_by_category" in prefixes


def test_a_scheduler_s_picks_are_told_where_they_were_made(source_of: Copy, both: MlflowRecord) -> None:
    read, sent = source_of().read, series(both.target)["small"]
    picks, stages, bounds = read.stage_picks("small"), read.stages("small"), read.boundaries("small")
    chances = {
        name: {step: value for step, _, value in sent[f"bandit_prob/{name}"]} for name in ("book", "noise", "numbers")
    }
    for pick, stage in zip(picks, stages, strict=True):
        assert chances[pick.arm][stage.start_step] == pick.probability
        assert sum(of[stage.start_step] for of in chances.values()) == pytest.approx(1)
    assert sum(sent[f"bandit_pulls/{name}"][-1][2] for name in chances) == 3
    rewards = [(bound.step, pick.signal) for bound, pick in zip(bounds[1:], picks, strict=True)]
    assert [(step, value) for step, _, value in sent["bandit/reward"]] == rewards


def picked(probability: float) -> PickRow:
    return PickRow(3, 2, 0, "scheduler", "main", "a", "a", probability)


def test_a_pick_is_told_with_all_probabilities_it_was_drawn_from() -> None:
    arms = [ArmRow(4, "*", name, probability, 0.25, 2) for name, probability in (("a", 0.0), ("b", 1.0))]
    drawn_from = {"a": 0.6, "b": 0.4}
    numbers = dict(of_pick(picked(0.6), drawn_from, arms))
    assert (numbers["bandit_prob/a"], numbers["bandit_prob/b"]) == (0.6, 0.4), "not those of the next pick"
    assert (numbers["bandit_index/b"], numbers["bandit_pulls/b"]) == (0.25, 2)


def test_of_an_earlier_ledgers_pick_only_its_own_probability_is_known() -> None:
    arms = [ArmRow(4, "*", name, 0.5, None, 2) for name in ("a", "b")]
    numbers = dict(of_pick(picked(0.7), {}, arms))
    assert (numbers["bandit_prob/a"], numbers["bandit_prob/b"]) == (0.7, None)


def test_all_names_are_documented_and_all_documented_names_are_sent(both: MlflowRecord) -> None:
    families = "|".join(FAMILIES)
    patterns = {
        pattern: re.compile(
            re.escape(pattern)
            .replace("<metric>", rf"({'|'.join(map(re.escape, METRICS))}|({families})_\w+)")
            .replace("<measurement>", r"[\w-]+")
            .replace("<what>", "[a-z_]+")
            .replace("<env>", "[a-z]+")
            .replace("<category>", "[a-z0-9]+")
        )
        for pattern in PATTERNS
    }
    sent = {name for own in series(both.target).values() for name in own}
    assert [name for name in sorted(sent) if not any(p.fullmatch(name) for p in patterns.values())] == []
    unused = {name for name, pattern in patterns.items() if not any(map(pattern.fullmatch, sent))}
    # no estimate there, no support, supervised probes alone, not asked for (two), episodes of one turn, and three
    # steps that teach nothing
    assert unused == {
        "bandit_index/<env>",
        "support_<what>/<env>",
        *(f"probe/{name}" for name in PROBES if name not in ("sft_level", "sft_gain_ratio", "sft_loss_change")),
        "eval_pass_1/<env>",
        "eval_entropy_token/<env>",
        "train_num_turns/<env>",
        "cl/relative_forgetting",
    }
    assert [pattern for pattern in PATTERNS if f"`{pattern}`" not in PAGE_OF_NAMES.read_text()] == []


def test_what_is_missing_or_not_finite_is_left_out() -> None:
    numbers = {"a": 1, "b": None, "c": math.nan, "d": math.inf}
    assert [value.name for value in values(numbers, 3, "2026-01-01T00:00:00.000+00:00")] == ["a"]

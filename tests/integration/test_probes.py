"""Probes of real runs: they leave no trace, are made again after a kill, and forks inherit what the base did."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.callbacks import Callback
from orchestrator.components import Components
from orchestrator.errors import SpecError, UserError
from orchestrator.measurements.trainability import Probe
from orchestrator.progress import Progress
from orchestrator.runs import api
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.assembly import assemble, lay_foundation
from orchestrator.runs.catalog import opened
from orchestrator.runs.dry_run import make_plan
from orchestrator.spec import load_spec
from orchestrator.stopwatch import Stopwatch
from policies.optimizer import Optimizer
from store.home import Home
from store.probes import CURVES, ProbeCurve, Probes, probes_of
from tests.integration.runs import Killed, ending
from tests.orchestrator.specs import REPOSITORY, Raw, small

SHORT = {"steps": 2, "batch": 4, "eval_every": 1, "items": 4, "seeds": 1}
RL = {
    "type": "probe",
    "kind": "rl",
    "environment": "book",
    **SHORT,
    "batch": 2,
    "group_size": 2,
    "samples": 1,
    "lr": 0.003,
}
SUPERVISED = {"type": "probe", "kind": "supervised", **SHORT, "length": 8}
LABELS = {"type": "probe", "kind": "random_labels", **SHORT}
LINEAR = {"type": "probe", "kind": "linear", "environment": "book", "items": 12}
ALL = [SUPERVISED, RL, LABELS, LINEAR]


def tried(name: str, *probes: Raw, **sections: Any) -> Raw:
    """A book and a fake that is scored in another process, two stages of three steps, and these probes."""
    environments = small()["environments"]
    own: Raw = {
        "warm_start": None,
        "environments": {"book": environments["book"], "noise": {**environments["noise"], "in_process": True}},
        "curriculum": {"stages": 2, "scheduler": {"type": "sequence", "order": ["noise"]}, "stage": {"steps": 3}},
        "measure": {"share": 1, "of": list(probes)},
    }
    return small(name, **{**own, **sections})


def found(home: Path, name: str) -> Probes:
    with opened(home, name) as (_, ledger):
        return probes_of(ledger.reading, name)


def snapshot(probe: Probe, player: Any) -> dict[str, Any]:
    """All that a probe could move, to be compared bit for bit."""
    learner = probe.around.learner
    model, adam = learner.policy.model, learner.optimizer.adam
    moments = [state[moment] for state in adam.state.values() for moment in ("exp_avg", "exp_avg_sq", "step")]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]

    def bits(tensors: Iterable[torch.Tensor]) -> list[bytes]:
        return [tensor.detach().numpy().tobytes() for tensor in tensors]

    return {
        "weights": bits(model.state_dict().values()),
        "moments": bits(moments),
        "gradients": bits(gradients),
        "torch": bits([torch.get_rng_state()]),
        "numpy": repr(np.random.get_state(legacy=False)),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "versions": (learner.policy.version, learner.optimizer.num_updates, player.sampler.version),
        "modules": [(name, one.training, len(one._forward_hooks)) for name, one in model.named_modules()],
        "trainable": [parameter.requires_grad for parameter in model.parameters()],
    }


@dataclass(frozen=True)
class Ran:
    """A home with the run `plain` and the same with all probes, `looked`; and what each look had moved."""

    home: Path
    moved: list[set[str]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    home, looked, moved = tmp_path_factory.mktemp("probes"), Probe.run, list[set[str]]()

    def run_between(self: Probe, player: Any, *rest: Any) -> Any:
        before = snapshot(self, player)
        made = looked(self, player, *rest)
        after = snapshot(self, player)
        moved.append({name for name, value in before.items() if after[name] != value})
        return made

    run(tried("plain"), home=home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Probe, "run", run_between)
        run(tried("looked", *ALL), home=home)
    return Ran(home, moved)


def test_a_run_is_bit_for_bit_what_it_is_without_probes(ran: Ran) -> None:
    assert ran.moved == [set()] * 12, "four probes at three boundaries"
    plain, looked_at = ending(ran.home, "plain"), ending(ran.home, "looked")
    assert (looked_at.digest, looked_at.weights) == (plain.digest, plain.weights)
    assert looked_at.digest_all != plain.digest_all
    results = found(ran.home, "looked").results
    assert [(one.kind, one.after_stage) for one in results] == [
        (kind, stage) for kind in ("linear", "random_labels", "rl", "supervised") for stage in (0, 1, 2)
    ]
    by_kind = {one.kind: one for one in results}
    assert by_kind["supervised"].curve.steps == by_kind["rl"].curve.steps == (0, 1, 2)
    assert {(one.kind, one.task) for one in results} >= {("supervised", "language"), ("rl", "book")}
    assert all(one.against_base for one in results)
    with opened(ran.home, "looked") as (_, ledger):
        rows, costs = ledger.reading.probe_points("looked"), ledger.reading.measurements("looked")
    assert {row.metric for row in rows if row.kind == "rl"} == {
        *("probe_score", "probe_entropy", "probe_zero_var_groups", "probe_grad_norm"),
    }
    looked = {one.name: one.passes for one in costs if one.after_stage == 2 and "probe" in one.name}
    assert looked == pytest.approx(
        {
            "probe_supervised": 2 * 4 * 3 + 3 * 4,
            "probe_rl_book": (2 * 2 * 2 * 4 + 3 * 4) / 3,  # a book's answers have one token, the trained ones three
            "probe_random_labels": 2 * 4 * 3 + 4,
            "probe_linear_book": 12 / 3,
        }
    )


class KillInProbe(Callback):
    """Kills in the middle of the n-th copy that is trained."""

    def __init__(self, n: int) -> None:
        self.n = n

    def measuring(self, text: str, done: int, total: int) -> None:
        self.n -= text.startswith("probe") and done == 1
        if self.n == 0:
            raise Killed


def test_a_probe_that_was_killed_is_made_again_and_recorded_once(ran: Ran) -> None:
    with pytest.raises(Killed):  # in the second one after the first stage
        run(tried("killed", *ALL), home=ran.home, watcher=KillInProbe(5))
    assert resume("killed", home=ran.home).status == "finished"
    assert ending(ran.home, "killed") == ending(ran.home, "looked")
    with opened(ran.home, "killed") as (_, ledger):
        assert len(ledger.reading.probes("killed")) == 12


class CtrlCInProbe(Callback):
    """Asks the run to stop in the middle of the first copy that is trained."""

    is_asked = False

    def measuring(self, text: str, done: int, total: int) -> None:
        if text.startswith("probe") and done == 1 and not self.is_asked:
            self.is_asked = True
            os.kill(os.getpid(), signal.SIGINT)


def test_a_probe_that_is_asked_to_stop_ends_with_its_boundary(ran: Ran) -> None:
    stopped = run(tried("asked", *ALL), home=ran.home, watcher=CtrlCInProbe())
    assert (stopped.status, stopped.reason) == ("stopped", "Ctrl-C")
    with opened(ran.home, "asked") as (_, ledger):
        assert {(one.kind, one.after_stage) for one in ledger.reading.probes("asked")} == {
            (kind, 0) for kind in ("linear", "random_labels", "rl", "supervised")
        }
    assert resume("asked", home=ran.home).status == "finished"
    assert ending(ran.home, "asked") == ending(ran.home, "looked")


def test_a_fork_has_the_base_of_its_parent_and_other_options_make_another_protocol(ran: Ran) -> None:
    other = json.dumps({"share": 1, "of": [SUPERVISED, {**RL, "lr": 0.01}]})
    fork("looked", 1, overrides=["name=child", "learner.lr=0.01", f"measure={other}"], home=ran.home)
    parent, child = found(ran.home, "looked"), found(ran.home, "child")
    for stage in (0, 1):
        assert child.at(stage) == parent.at(stage)
    rl, supervised = child.at(2)
    assert rl.base is None, "its protocol is another"
    (base,) = (one.curve for one in parent.at(0) if one.kind == "supervised")
    assert supervised.base == base
    assert supervised.gain_ratio is not None or base.gain < 0.05
    assert supervised.curve not in [one.curve for one in parent.results]


@contextmanager
def parts_of(home: Path, spec: Raw) -> Iterator[Components]:
    foundation = lay_foundation(load_spec(spec))
    with assemble(foundation, Home(home), Callback(), lambda: None) as parts:
        yield parts


def gain(parts: Components, place: int) -> float:
    """The gain area of one seed of a probe."""
    (look,) = parts.measurements[place : place + 1]
    (probe,) = look.run(parts.player, Progress(1, 1), Stopwatch(), lambda *told: None).probes
    metric = CURVES[probe.kind]
    points = {point.step: point.value for point in probe.points if point.metric == metric and point.value is not None}
    return ProbeCurve(tuple(points), tuple(points.values()), probe.protocol.get("chance")).gain


def test_dead_units_cost_the_supervised_probe_its_gain_and_a_lack_of_entropy_the_other(tmp_path: Path) -> None:
    book = {"type": "codebook", "keys": 8, "categories": {"2": 2}}
    supervised = {"type": "probe", "steps": 30, "eval_every": 10, "length": 16, "items": 8, "batch": 8, "lr": 0.01}
    rl = {"kind": "rl", "environment": "book", "steps": 30, "batch": 8, "seeds": 1, "lr": 0.01, "samples": 2}
    spec = tried(
        "damaged",
        supervised,
        {"type": "probe", "eval_every": 10, **rl},
        environments={"book": book, "noise": {**small()["environments"]["noise"], "in_process": True}},
        warm_start={"environments": ["book"], "batches": 40, "batch_size": 16, "lr": 0.01, "warmup": 2},
    )
    with parts_of(tmp_path, spec) as parts:
        model = parts.policy.model
        sound = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        could_learn, could_try = gain(parts, 1), gain(parts, 2)
        with torch.no_grad():
            model.model.norm.weight.zero_()  # nothing behind it answers, so nothing before it gets a gradient
        dead = gain(parts, 1)
        model.load_state_dict(sound)
        with torch.no_grad():
            model.model.norm.weight.mul_(30)
        collapsed = gain(parts, 2)
    assert dead < could_learn - 0.1
    assert collapsed < 0.5 * could_try


@pytest.mark.parametrize(
    ("probe", "sentence"),
    [
        ({**RL, "environment": "bok"}, "names 'bok', but the environments are book, noise.* Did you mean 'book'"),
        ({**RL, "eval_every": 3}, r"steps \(2\) are fewer than eval_every \(3\)"),
        ({"type": "probe", "kind": "rl"}, "needs an `environment` of this spec"),
        ({**SUPERVISED, "samples": 4}, "a probe of kind supervised has no samples; it has steps, batch, lr"),
        ({"type": "probe", "kind": "suprvised"}, "supervised"),
        ({**LABELS, "items": 3}, r"items \(3\) are fewer than batch \(4\)"),
        ({**SUPERVISED, "environment": "book"}, "makes its own language"),
    ],
)
def test_what_no_probe_can_do_is_refused_when_the_spec_is_read(probe: Raw, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        load_spec(tried("refused", probe))


@pytest.mark.parametrize(
    ("environment", "options", "sentence"),
    [
        (
            "book",
            {"label": "categry"},
            "no held-out task of book has 'categry': `label` may be category and answer. Did",
        ),
        ("noise", {"label": "answer"}, "12 held-out tasks of noise, of 12 classes of `answer`"),
        ("book", {"items": 8}, "8 held-out tasks of book, of 2 classes of `category`, .* or more than 8 `items`"),
        ("one", {}, "12 held-out tasks of one, of 1 class of `category`, and a classifier needs two .* `label`$"),
    ],
)
def test_a_linear_probe_that_would_find_nothing_is_refused_before_the_run_begins(
    tmp_path: Path, environment: str, options: Raw, sentence: str
) -> None:
    spec = tried("empty", {**LINEAR, "environment": environment, **options})
    spec["environments"]["one"] = {"type": "codebook", "keys": 64, "categories": {"2": 2}}
    for begin in (partial(make_plan, load_spec(spec)), partial(run, spec)):
        with pytest.raises(UserError, match=f"^measure: probe_linear_{environment} would find nothing: .*{sentence}"):
            begin(home=tmp_path)
    assert not (tmp_path / "empty").exists()


def test_what_a_linear_probe_leaves_out_and_that_it_finds_nothing_is_told_once_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "require_classes", lambda *_: None)  # as of a run that an earlier version began
    spec = tried(
        "some", {**LINEAR, "label": "answer", "items": 24}, {**LINEAR, "environment": "noise", "label": "word"}
    )
    spec["environments"]["book"] = {**spec["environments"]["book"], "keys": 12}
    assert run(spec, home=tmp_path, until_step=1).status == "stopped"
    assert resume("some", home=tmp_path).status == "finished"
    with opened(tmp_path, "some") as (_, ledger):
        told = [event.text for event in ledger.reading.events("some") if event.kind in ("probe", "not measured")]
        assert len(ledger.reading.boundaries("some")) == 3
    assert told == [
        "probe linear on book: its score is of 17 of 24 tasks, and of 2 of 4 classes of `answer`: it leaves out "
        "classes of fewer than 5 tasks",
        "probe linear on noise: no held-out task of noise has 'word': `label` may be category and answer.",
    ]


def test_two_probes_of_one_name_are_refused() -> None:
    with pytest.raises(SpecError, match="probe_rl_book stands in `of` twice"):
        load_spec(tried("twice", RL, {**RL, "steps": 8}))
    load_spec(tried("once", RL, {**RL, "environment": "noise"}, SUPERVISED))


def test_every_setting_is_part_of_the_protocol_but_the_number_of_seeds(tmp_path: Path) -> None:
    changes: dict[str, Raw] = {
        "steps": {"steps": 6},
        "batch": {"batch": 3},
        "eval_every": {"eval_every": 2},
        "items": {"items": 9},
        "lr": {"lr": 0.02},
        "group_size": {"group_size": 3},
        "samples": {"samples": 3},
        "environment": {"environment": "noise"},
    }
    with parts_of(tmp_path, tried("protocols", RL)) as parts:
        plain = parts.measurements[1]
        assert isinstance(plain, Probe)

        def protocol(**change: Any) -> str:
            options = {**plain.config.model_dump(), **change}
            return str(Probe(type(plain.config).model_validate(options), plain.around).protocol(parts.player))

        made = [protocol(), *(protocol(**change) for change in changes.values())]
        assert len({*made}) == len(made)
        assert protocol(seeds=5) == protocol()


def test_batches_that_span_two_rounds_are_another_protocol_and_others_are_not(tmp_path: Path) -> None:
    with parts_of(tmp_path, tried("orders", LABELS)) as parts:
        plain = parts.measurements[1]
        assert isinstance(plain, Probe)

        def order(**change: Any) -> Any:
            config = type(plain.config).model_validate({**plain.config.model_dump(), **change})
            return Probe(config, plain.around).protocol(parts.player).get("order")

        assert [order(), order(items=6), order(items=9, steps=2), order(items=6, environment="book")] == [
            *(None, "carried", None),  # two batches of 4 are within 9 items
            *("carried",),
        ]


def test_updates_that_were_left_out_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = Optimizer.step, []

    def second_is_refused(self: Optimizer, lr: float) -> tuple[float, bool]:
        done.append(lr)
        return (float("inf"), False) if len(done) == 2 else real(self, lr)

    monkeypatch.setattr(Optimizer, "step", second_is_refused)
    with parts_of(tmp_path, tried("refused", LABELS)) as parts:
        found = parts.measurements[1].run(parts.player, Progress(1, 1), Stopwatch(), lambda *told: None)
    assert [event.text for event in found.events] == [
        "probe random_labels on strings, seed 0: 1 of 2 updates were left out, their gradient was not finite"
    ]


def test_reading_a_spec_with_probes_does_not_load_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from orchestrator.measurements.probe import Config; Config(kind='rl', environment='a'); "
        "print('torch' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert made.stdout.strip() == "False"

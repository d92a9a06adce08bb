"""What `benchmarks.versus_trl` compares is the same work, and what it says of it is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import plain, work
from benchmarks.evergreen_side import Parts, make_parts, requests_of, trajectories_of
from benchmarks.random_models import random_qwen2
from benchmarks.versus_trl import ROOT, interval, require_equal_work
from policies.samplers.contracts import Sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    random_qwen2(seed=0, std=0.06, **work.SHAPE).save_pretrained(path)
    return str(path)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four groups of eight instead of 32."""
    monkeypatch.setattr(work, "NUM_PROMPTS", 4)
    monkeypatch.setattr(work, "NUM_WITHOUT_SPREAD", 2)


def _parts(folder: str, case: work.Case) -> Parts:
    return make_parts(folder, case)


def test_the_cases_are_what_they_are_said_to_be() -> None:
    assert set(work.lengths("full", 3)) == {32}
    lengths = [n for step in range(20) for n in work.lengths("uneven", step)]
    assert set(lengths) == set(range(1, 33))
    assert sum(lengths) / len(lengths) == pytest.approx(16.5, abs=0.3)
    assert {len(prompt) for prompt in work.prompts("full", 0)} <= set(range(8, 25))
    assert {len(prompt) for prompt in work.prompts("uneven", 0)} == {64}
    assert {n for step in range(20) for n in work.lengths("dense", step)} == set(range(1, 65))
    assert {len(prompt) for prompt in work.prompts("dense", 0)} == {16}


@pytest.mark.parametrize(("case", "num_with_spread"), [("full", 32), ("uneven", 19), ("dense", 32)])
def test_groups_have_the_spread_that_the_case_asks_for(case: work.Case, num_with_spread: int) -> None:
    advantage_NG = plain.advantages(case).reshape(32, 8)
    assert int((advantage_NG != 0).all(-1).sum()) == num_with_spread
    assert int((advantage_NG == 0).all(-1).sum()) == 32 - num_with_spread


@pytest.mark.parametrize("case", work.CASES)
@pytest.mark.usefixtures("few")
def test_plain_torch_plays_the_lengths_and_tells_the_log_probs_of_a_fresh_forward(folder: str, case: work.Case) -> None:
    model = _parts(folder, case).policy.model
    prompts, lengths = work.prompts(case, 0), work.lengths(case, 0)
    ids_BT, lp_BT = plain.play(model, prompts, lengths, torch.Generator().manual_seed(0))
    for row in (0, 13, 31):
        prompt, n = prompts[row // 8], lengths[row]
        ids = torch.tensor([[*prompt, *ids_BT[row, :n].tolist()]])
        with torch.no_grad():
            lp = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        fresh = lp.gather(-1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(lp_BT[row, :n], fresh, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", work.CASES)
@pytest.mark.usefixtures("few")
def test_plain_torch_and_our_learner_find_the_same_gradient(folder: str, case: work.Case) -> None:
    parts, other = _parts(folder, case), _parts(folder, case).policy.model
    prompts, lengths = work.prompts(case, 0), work.lengths(case, 0)
    requests = requests_of(case, 0, [tuple(ids) for ids in prompts])
    played = parts.sampler.generate(requests, Sampling())
    assert [len(generation.ids) for generation in played] == lengths

    rewards = [work.reward(case, *divmod(row, 8)) for row in range(len(played))]
    gradients: list[dict[str, torch.Tensor]] = []

    def note(model: Any) -> Any:
        return lambda *_: gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})

    ours = parts.learner.optimizer.adam
    ours.register_step_pre_hook(note(parts.policy.model))
    batch = parts.objective.prepare(trajectories_of([tuple(p) for p in prompts], played, rewards))
    parts.learner.update(batch, parts.objective)

    adam = torch.optim.AdamW(other.parameters(), work.LEARNER["lr"])
    adam.register_step_pre_hook(note(other))
    ids_BT, lp_BT = (torch.zeros(len(played), max(lengths), dtype=dtype) for dtype in (torch.int64, torch.float32))
    for row, generation in enumerate(played):
        ids_BT[row, : lengths[row]] = torch.tensor(generation.ids)
        lp_BT[row, : lengths[row]] = torch.from_numpy(generation.logprobs)
    plain.update(other, adam, prompts, ids_BT, lp_BT, case, 0)

    mine, theirs = gradients
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, theirs[name], atol=2e-5, rtol=1e-3)


def test_sides_that_wrote_different_numbers_of_tokens_are_not_compared() -> None:
    require_equal_work({"a": [{"tokens": 8}, {"tokens": 9}], "b": [{"tokens": 8}, {"tokens": 9}]})
    with pytest.raises(SystemExit, match="same work"):
        require_equal_work({"a": [{"tokens": 8}], "b": [{"tokens": 7}]})


def test_an_interval_holds_the_geometric_mean_of_the_rounds() -> None:
    mean, low, high = interval([1.0, 2.0, 4.0])
    # logs 0, ln 2, 2 ln 2: mean ln 2, half width 4.3027 x ln 2 / sqrt 3
    assert mean == pytest.approx(2)
    assert (low, high) == (pytest.approx(2 / 5.5951, rel=1e-3), pytest.approx(2 * 5.5951, rel=1e-3))


@pytest.mark.slow
def test_trl_and_we_are_compared_in_one_command(tmp_path: Path) -> None:
    python = Path(os.environ.get("EVERGREEN_TRL_PYTHON", ROOT / ".venv-trl" / "bin" / "python"))
    if not python.exists():
        pytest.fail(f"there is no {python}: `make trl` makes it, or name one with EVERGREEN_TRL_PYTHON")
    written = tmp_path / "found.json"
    sides = "trl,evergreen,plain,run,ahead"
    command = [
        "-m",
        "benchmarks.versus_trl",
        "--rounds",
        "2",
        "--steps",
        "1",
        "--sides",
        sides,
        "--json",
        str(written),
    ]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(written.read_text())
    for case in work.CASES:
        assert set(found[case]["sides"]) == set(sides.split(","))
        assert all(one["steps_a_second"] > 0 for one in found[case]["sides"].values())

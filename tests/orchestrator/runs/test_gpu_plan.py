"""What a run takes of a GPU: fits or not, what to change, and a page that says what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from benchmarks.memory import architecture, table
from environments import Environment
from orchestrator.errors import UserError
from orchestrator.runs.environments import build_environments
from orchestrator.runs.gpu_plan import GPUS, GpuPlan, Part, gpu_named, plan_gpu
from orchestrator.spec import Spec
from policies.config import PolicyConfig
from policies.models.memory import describe_memory
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY, small

H100 = GPUS["h100"]
SERVERS = {"type": "vllm_server", "urls": ["http://localhost:8000"]}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of usual shapes without weights: a folder each."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("1.5B", "3B", "7B", "32B"):
        architecture(name).save_pretrained(folder / name)
        build_tokenizer(VocabularySample({}), False).save_pretrained(folder / name)
    return folder


def large(shapes: Path, name: str = "3B", **changes: Any) -> dict[str, Any]:
    """A spec for a model of this shape, layers run again."""
    learner = {"micro_tokens": 16_384, "activation_checkpointing": True, **changes.pop("learner", {})}
    policy = {"model": str(shapes / name), "dtype": "bfloat16"}
    return small("large", warm_start=None, policy=policy, learner=learner, **changes)


def planned(raw: dict[str, Any], gpu: str = "h100") -> GpuPlan:
    spec = Spec.model_validate(raw)
    environments: dict[str, Environment] = build_environments(spec)[1]
    return plan_gpu(spec, environments, describe_memory(spec.policy), GPUS[gpu])


def test_where_servers_play_is_said(shapes: Path) -> None:
    elsewhere = planned(large(shapes, sampler=SERVERS))
    assert "servers play on GPUs of their own, which are not in it" in elsewhere.notes
    here = planned(large(shapes, sampler={**SERVERS, "sleep_level": 1}))
    assert any(note.startswith("servers sleep while it learns") for note in here.notes)
    assert here.peak == elsewhere.peak


def test_3b_in_full_fits_80_gb_alone_and_not_beside_vllm(shapes: Path) -> None:
    alone = planned(large(shapes, sampler=SERVERS))
    assert alone.fits
    assert round(alone.peak / 1e9) == 69
    beside = planned(large(shapes, sampler={"type": "vllm"}))
    assert not beside.fits
    assert round(beside.peak / 1e9) == 95, "with a share of .3 of 85.5 GB"
    assert "a server on another GPU" in beside.verdict
    assert beside.changed_peak is not None
    assert beside.changed_peak < beside.peak


def test_layers_are_run_again_before_anything_is_given_up(shapes: Path) -> None:
    plan = planned(large(shapes, sampler=SERVERS, learner={"activation_checkpointing": False}))
    assert plan.changes == ("`learner.activation_checkpointing: true`",)
    assert plan.changed_peak == planned(large(shapes, sampler=SERVERS)).peak


def test_what_playing_and_updating_each_take_too_much_of_is_all_changed(shapes: Path) -> None:
    """Making updates smaller does not help while playing takes more, and does afterwards."""
    learner = {"activation_checkpointing": False, "micro_tokens": 4096}
    plan = planned(large(shapes, sampler={"type": "transformers", "cache_tokens": 2_000_000}, learner=learner))
    assert plan.moment == "play"
    assert plan.changes == ("`sampler.cache_tokens: 65536`", "`learner.activation_checkpointing: true`")
    assert plan.changed_peak is not None
    assert plan.changed_peak < 0.95 * H100.num_bytes


def test_a_stage_is_as_long_as_that_of_the_environment_with_the_longest_groups(shapes: Path) -> None:
    vllm, spec = {"type": "vllm", "max_tokens": 100}, large(shapes)
    spec["environments"] = {name: spec["environments"][name] for name in ("numbers", "noise")}
    plain = planned({**spec, "sampler": vllm})
    spec["environments"]["noise"] = {**spec["environments"]["noise"], "episodes": {"max_tokens": 200}}
    own = planned({**spec, "sampler": vllm})
    assert plain.stage_s is not None
    assert own.stage_s == pytest.approx(2 * plain.stage_s)


def test_what_cannot_fit_says_so(shapes: Path) -> None:
    plan = planned(large(shapes, "7B", sampler=SERVERS), "rtx4090")
    assert not plan.fits
    assert "still too much: take adapters (`policy.adapter: 32`), a smaller policy or a larger GPU" in plan.verdict
    assert planned(large(shapes, "7B", sampler=SERVERS), "b200").fits


def test_7b_in_full_fits_80_gb_with_the_optimiser_on_the_host(shapes: Path) -> None:
    given = large(shapes, "7B", sampler=SERVERS)
    plan = planned(given)
    assert not plan.fits
    assert "`resources.offload: optimizer` would take" in plan.verdict
    given["resources"] = {**small()["resources"], "offload": "optimizer"}
    on_host = planned(given)
    memory = describe_memory(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16"))
    assert on_host.fits
    assert plan.peak - on_host.peak == 16 * memory.num_parameters
    assert any("take 122 GB of the host's memory" in note for note in on_host.notes)


def test_a_probe_that_trains_a_copy_takes_as_much_again(shapes: Path) -> None:
    probe = {"type": "probe", "kind": "random_labels"}
    plan = planned(large(shapes, "1.5B", sampler=SERVERS, measure={"of": [probe]}))
    without = planned(large(shapes, "1.5B", sampler=SERVERS))
    memory = describe_memory(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    assert plan.moment == "probe"
    # while it trains, the learner's own last gradients are gone
    assert plan.peak - without.peak == memory.weights + memory.optimizer
    reads = {"type": "probe", "kind": "linear", "environment": "numbers"}
    assert planned(large(shapes, "1.5B", sampler=SERVERS, measure={"of": [reads]})).peak == without.peak


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"objective": {"preset": "grpo", "kl": 0.1}}, "reference policy"),
        ({"sampler": {"type": "transformers", "ahead": 1}}, "weights that play ahead"),
    ],
)
def test_copies_of_the_weights_are_counted(shapes: Path, changes: dict[str, Any], part: str) -> None:
    memory = describe_memory(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    plan = planned(large(shapes, "1.5B", **changes))
    assert Part(part, memory.weights) in plan.parts
    assert part not in [one.name for one in planned(large(shapes, "1.5B")).parts]


def test_rates_are_those_of_the_gpu(shapes: Path) -> None:
    vllm = {"type": "vllm", "max_tokens": 600}
    plan = planned(large(shapes, "1.5B", sampler=vllm, step={"groups": 32, "group_size": 8}))
    memory = describe_memory(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    assert plan.update_tokens_s == pytest.approx(0.4 * 989e12 / (8 * memory.num_parameters))
    read = memory.weights + 256 * 600 * memory.cache_bytes
    assert plan.play_tokens_s == pytest.approx(256 / (read / (0.65 * 3.35e12)))
    assert "a stage of answers at full length at least" in plan.times
    tiny = planned(small("tiny"))
    assert tiny.update_tokens_s is None
    assert tiny.fits


def test_an_unknown_gpu_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"--gpu v100: not known\. There are h100, h200"):
        gpu_named("v100")


def test_a_plan_is_printed_and_what_does_not_fit_is_refused(tmp_path: Path, shapes: Path, evergreen: Evergreen) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(json.dumps(large(shapes, sampler=SERVERS)))
    fits = evergreen("validate", path, "--gpu", "h100", "--home", tmp_path / "home")
    assert fits.exit_code == 0, fits.stderr
    assert "memory: fits one h100: 69 GB while it updates, of 86 GB" in fits.stdout
    assert "not measured on a GPU" in fits.stdout
    refused = evergreen("validate", path, "--plan", "--gpu", "a100-40", "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "--plan: large does not fit one a100-40" in refused.stderr
    assert "is valid" not in refused.stdout
    told = evergreen("validate", path, "--plan", "--json", "--gpu", "h200", "--home", tmp_path / "home")
    gpu = json.loads(told.stdout)["gpu"]
    assert gpu["fits"]
    assert gpu["peak"] == sum(part["num_bytes"] for part in gpu["parts"] if part["moment"] in (None, "update"))


def test_a_model_whose_configuration_is_nowhere_is_told(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    path = tmp_path / "far.yaml"
    path.write_text(json.dumps(small("far", warm_start=None, policy={"model": "nobody/nothing"})))
    refused = evergreen("validate", path, "--plan", "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "--plan needs the model's configuration, a file of a few kB: 'nobody/nothing' is no folder" in refused.stderr


def test_the_page_has_the_table_that_the_benchmark_prints() -> None:
    assert "\n".join(table()) in (REPOSITORY / "docs" / "scale.md").read_text()


def test_what_ranks_share_is_divided_and_what_the_first_does_alone_is_not(shapes: Path) -> None:
    resources = {**small()["resources"], "ranks": 4}
    alone, shared = (
        planned(large(shapes, sampler=SERVERS)),
        planned(large(shapes, sampler=SERVERS, resources=resources)),
    )
    sizes = {part.name: part.num_bytes for part in shared.parts}
    memory = describe_memory(PolicyConfig(model=str(shapes / "3B"), dtype="bfloat16"))
    assert sizes["weights that play and are measured, on the first"] == memory.weights
    assert sizes["1/4 of float32 weights, gradients, two moments"] == 16 * memory.num_parameters // 4
    assert shared.peak < alone.peak
    assert shared.update_tokens_s == pytest.approx(4 * (alone.update_tokens_s or 0))
    assert any("4 ranks" in note for note in shared.notes)


def test_ranks_with_the_optimiser_on_the_host_have_a_share_of_the_weights_alone(shapes: Path) -> None:
    resources = {**small()["resources"], "ranks": 4}
    plan = planned(large(shapes, "32B", sampler=SERVERS, resources=resources))
    assert not plan.fits
    assert "`resources.offload: optimizer` would take" in plan.verdict
    resources["offload"] = "optimizer"
    on_host = planned(large(shapes, "7B", sampler=SERVERS, resources=resources))
    sizes = {part.name: part.num_bytes for part in on_host.parts}
    memory = describe_memory(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16"))
    assert sizes["1/4 of the weights that learn"] == memory.weights // 4
    assert sizes["gradients of the last backward pass"] == memory.weights // 4
    assert any("take 30 GB of the host's memory, for each rank" in note for note in on_host.notes)
    given = large(shapes, "7B", sampler=SERVERS, resources=resources)
    given["policy"]["adapter"] = 32
    adapted = {part.name: part.num_bytes for part in planned(given).parts}
    memory = describe_memory(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16", adapter={"rank": 32}))
    assert adapted["gradients of the last backward pass"] == memory.trained
    frozen = 2 * memory.num_parameters // 4
    assert adapted["1/4 of frozen weights, and all of the adapters"] == frozen + memory.trained


def test_replicas_are_counted_whole_and_are_made_fewer_where_they_do_not_fit(shapes: Path) -> None:
    resources, learner = {**small()["resources"], "ranks": 8}, {"micro_tokens": 4096}
    one, two, eight = (
        planned(
            large(shapes, "7B", sampler=SERVERS, learner=learner, resources={**resources, "replicas": replicas}),
        )
        for replicas in (1, 2, 8)
    )
    memory = describe_memory(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16"))
    training = "float32 weights, gradients, two moments"
    assert Part(f"1/8 of {training}", 16 * memory.num_parameters // 8) in one.parts
    assert Part(f"1/4 of {training}", 16 * memory.num_parameters // 4) in two.parts
    assert Part(training, 16 * memory.num_parameters) in eight.parts
    assert two.fits
    assert two.update_tokens_s == one.update_tokens_s
    assert any("8 ranks in 2 replicas" in note for note in two.notes)
    assert not eight.fits
    assert eight.changes == ("`resources.replicas: 2`",), "of 4, 2 and 1 the first that fits"
    assert eight.changed_peak == two.peak


def test_with_adapters_the_rest_has_no_moments(shapes: Path) -> None:
    given = large(shapes, "7B", sampler=SERVERS)
    assert not planned(given).fits
    given["policy"]["adapter"] = 32
    plan = planned(given)
    assert plan.fits
    sizes = {part.name: part.num_bytes for part in plan.parts}
    num = 32 * 28 * (4 * 3584 + 2 * (3584 + 512) + 3 * (3584 + 18_944))  # q and o, k and v, the MLP
    assert sizes["gradients, two moments"] == 12 * num
    assert sizes["weights"] == pytest.approx(2 * 7.616e9 + 4 * num, rel=1e-3)

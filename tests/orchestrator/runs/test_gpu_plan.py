"""What a run takes of a GPU: fits or not, what to change, and a page that says what the code does."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from transformers import GPT2Config, LlamaConfig, MixtralConfig, Qwen2Config

from benchmarks.memory import SHAPES, architecture, layout_table, table
from environments import Environment
from orchestrator.errors import UserError
from orchestrator.measurements.budget import plan_looking, sample_lengths
from orchestrator.runs.environments import build_environments, trainable
from orchestrator.runs.first_prompts import PromptLengths
from orchestrator.runs.gpu_changes import Describe, Proposal
from orchestrator.runs.gpu_memory import GPUS, Gpu, Part, gpu_here, gpu_named
from orchestrator.runs.gpu_plan import GpuPlan, plan_gpu
from orchestrator.runs.gpu_rates import StageTime
from orchestrator.runs.host_memory import GOING_ON, HostPart
from orchestrator.spec import Spec, load_spec
from policies.config import PolicyConfig
from policies.errors import PolicyError
from policies.models.memory import ModelMemory, describe_memory
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from store.sentences import percent
from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY, small
from tests.shares import share

H100 = GPUS["h100"]
SERVERS = {"type": "vllm_server", "urls": ["http://localhost:8000"]}
described = cache(describe_memory)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of usual shapes without weights: a folder each."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHAPES:
        architecture(name).save_pretrained(folder / name)
        build_tokenizer(VocabularySample({}), False).save_pretrained(folder / name)
    return folder


def large(shapes: Path, name: str = "3B", **changes: Any) -> dict[str, Any]:
    """A spec for a model of this shape, layers run again."""
    learner = {"micro_tokens": 16_384, "activation_checkpointing": True, **changes.pop("learner", {})}
    policy = {"model": str(shapes / name), "dtype": "bfloat16"}
    return small("large", warm_start=None, policy=policy, learner=learner, **changes)


def changed(raw: dict[str, Any], proposal: Proposal) -> dict[str, Any]:
    """Make the spec that a proposal describes, as `--set` would."""
    settings = {key: value for change in proposal.changes for key, value in change.settings.items()}
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return load_spec(raw, overrides).model_dump(mode="json", by_alias=True)


def said(proposal: Proposal) -> list[str]:
    return [change.said for change in proposal.changes]


def planned(raw: dict[str, Any], gpu: str | Gpu = "h100", describe: Describe = described, **prompts: float) -> GpuPlan:
    spec = Spec.model_validate(raw)
    environments: dict[str, Environment] = build_environments(spec)[1]
    names, num = list(trainable(environments)), spec.evaluate.items
    num_tasks = {name: num * len(one.categories) for name, one in environments.items()}
    looking = plan_looking(spec, num_tasks, sample_lengths(spec, environments, names), names)
    lengths = {name: PromptLengths(num, int(num)) for name, num in prompts.items()}
    return plan_gpu(spec, environments, describe, GPUS[gpu] if isinstance(gpu, str) else gpu, looking, lengths)


def stage_of(plan: GpuPlan) -> StageTime:
    assert plan.rates.stage is not None
    return plan.rates.stage


def test_where_servers_play_is_said(shapes: Path) -> None:
    elsewhere = planned(large(shapes, sampler=SERVERS))
    assert "servers play on GPUs of their own, which are not in it" in elsewhere.notes
    here = planned(large(shapes, sampler={**SERVERS, "sleep_level": 1}))
    assert any(note.startswith("servers sleep while it learns") for note in here.notes)
    assert here.held.peak == elsewhere.held.peak


def test_3b_in_full_fits_80_gb_alone_and_not_beside_vllm(shapes: Path) -> None:
    alone = planned(large(shapes, sampler=SERVERS))
    assert alone.fits
    assert round(alone.held.peak / 1e9) == 69
    beside = planned(large(shapes, sampler={"type": "vllm"}))
    assert not beside.fits
    assert round(beside.held.peak / 1e9) == 95, "with a share of .3 of 85.5 GB"
    assert "a server on another GPU" in beside.verdict
    assert [one.peak for one in beside.proposals] == [alone.held.peak]


def test_layers_are_run_again_before_anything_is_given_up(shapes: Path) -> None:
    plan = planned(large(shapes, sampler=SERVERS, learner={"activation_checkpointing": False}))
    (proposal,) = plan.proposals
    assert said(proposal) == ["`learner.activation_checkpointing: true`"]
    assert proposal.peak == planned(large(shapes, sampler=SERVERS)).held.peak


def test_layers_that_cannot_be_run_again_are_kept(tmp_path: Path) -> None:
    GPT2Config(n_embd=1600, n_layer=48, n_head=25).save_pretrained(tmp_path / "gpt2-xl")
    build_tokenizer(VocabularySample({}), False).save_pretrained(tmp_path / "gpt2-xl")
    given = large(tmp_path, "gpt2-xl", sampler=SERVERS, learner={"activation_checkpointing": None})
    plan = planned(given, "a100-40")
    memory = described(PolicyConfig.model_validate(given["policy"]))
    kept = memory.activations(16_384, recomputes=False)
    assert memory.num_parameters > 1e9
    assert Part("activations of 16,384 tokens", kept, ("update",)) in plan.held.parts
    assert plan.rates.update_tokens_s == pytest.approx(0.4 * 312e12 / (6 * memory.num_parameters))
    assert plan.proposals
    assert not any("activation_checkpointing" in line for proposal in plan.proposals for line in said(proposal))
    asked = large(tmp_path, "gpt2-xl", sampler=SERVERS)
    with pytest.raises(PolicyError, match=r"activation_checkpointing: .*gpt2-xl has dropout \(resid_pdrop\)"):
        planned(asked)


def test_what_playing_and_updating_each_take_too_much_of_is_all_changed(shapes: Path) -> None:
    """Making updates smaller does not help while playing takes more, and does together with that."""
    learner = {"activation_checkpointing": False, "micro_tokens": 4096}
    plan = planned(large(shapes, sampler={"type": "transformers", "cache_tokens": 2_000_000}, learner=learner))
    assert plan.held.moment == "play"
    (proposal,) = plan.proposals
    assert said(proposal) == ["`learner.activation_checkpointing: true`", "`sampler.cache_tokens: 65536`"]


def test_a_stage_is_as_long_as_that_of_the_environment_with_the_longest_groups(shapes: Path) -> None:
    vllm, spec = {"type": "vllm", "max_tokens": 100}, large(shapes)
    spec["environments"] = {name: spec["environments"][name] for name in ("numbers", "noise")}
    plain = stage_of(planned({**spec, "sampler": vllm}))
    spec["environments"]["noise"] = {**spec["environments"]["noise"], "episodes": {"max_tokens": 200}}
    own = stage_of(planned({**spec, "sampler": vllm}))
    assert own.environment == "noise"
    assert own.update_s == pytest.approx(2 * plain.update_s)
    assert own.play_s == pytest.approx(2 * (plain.play_s or 0), rel=0.01)  # and a little for longer reading


def test_where_a_gpu_alone_is_not_enough_ranks_adapters_and_a_larger_gpu_are_proposed(shapes: Path) -> None:
    plan = planned(large(shapes, "7B", sampler=SERVERS), "rtx4090")
    assert not plan.fits
    ranks, adapters, larger = plan.proposals
    micro, offload = "`learner.micro_tokens: 4096`", "`resources.offload: optimizer`"
    assert said(ranks) == ["`resources.ranks: 4`", micro, offload]
    assert said(adapters) == ["`policy.adapter: 32`", micro]
    assert larger.gpu == "a100-40"
    assert plan.verdict == (
        "does not fit one rtx4090: 163 GB while it updates, of 26 GB of which 24 GB can be used. It would fit in 20 GB "
        f"with `resources.ranks: 4`, {micro} and {offload}; or in 21 GB with `policy.adapter: 32` and {micro}; "
        f"or in 35 GB of one a100-40 with {micro} and {offload}"
    )
    assert planned(large(shapes, "7B", sampler=SERVERS), "b200").fits


def test_what_nothing_holds_says_so(shapes: Path) -> None:
    given = large(
        shapes, "32B", sampler=SERVERS, objective={"preset": "grpo", "kl": 0.1}, measure={"of": ["gradients"]}
    )
    given["curriculum"] = {"boundary": {"interventions": [{"type": "shrink_perturb", "when": "always"}]}}
    plan = planned(given, "h100")
    assert not plan.proposals, "a second model, and interventions that go without adapters alone"
    assert "Nothing known here makes it fit (other settings, adapters where" in plan.verdict


@pytest.mark.parametrize(("name", "gpu"), share(product(SHAPES, GPUS), 3))
def test_a_proposal_is_loaded_fits_and_takes_what_was_said(shapes: Path, name: str, gpu: str) -> None:
    samplers: tuple[dict[str, Any], ...] = (
        {"type": "transformers"},
        {"type": "vllm", "temperature": 0.9},
        {**SERVERS, "ahead": 1},
    )
    for sampler, offload, adapter in product(samplers, ("none", "optimizer"), (None, 32)):
        given = large(shapes, name, sampler=sampler, learner={"activation_checkpointing": None})
        given["policy"]["adapter"] = adapter
        given["resources"] = {**given["resources"], "offload": offload}
        plan = planned(given, gpu)
        for proposal in plan.proposals:
            assert not plan.fits
            after = changed(given, proposal)
            again = planned(after, proposal.gpu)
            assert again.fits, proposal
            assert again.held.peak == proposal.peak
            assert after["sampler"]["temperature"] == sampler.get("temperature", 1)
        if not plan.fits and not any(one.gpu == gpu for one in plan.proposals):
            assert not any(fits_somehow(given, gpu, ranks) for ranks in (1, 2, 8, 64))


def fits_somehow(raw: dict[str, Any], gpu: str, ranks: int) -> bool:
    """Whether a GPU holds it with adapters or without, everything else as small as it gets."""
    smallest = {**raw, "sampler": SERVERS, "learner": {"micro_tokens": 4096, "activation_checkpointing": True}}
    smallest["resources"] = {**raw["resources"], "ranks": ranks, "offload": "optimizer"}
    adapted = {**smallest, "policy": {**raw["policy"], "adapter": 32}}
    return planned(smallest, gpu).fits or planned(adapted, gpu).fits


def test_a_row_is_fed_whole_however_few_tokens_a_forward_pass_is_to_have(shapes: Path) -> None:
    spec = large(shapes, sampler={**SERVERS, "max_tokens": 32_768})
    assert "activations of 32,768 tokens" in [part.name for part in planned(spec).held.parts]


def test_rows_of_one_prompt_are_played_together_however_few_tokens_are_to_be_held(shapes: Path) -> None:
    sampler = {"type": "transformers", "max_tokens": 16_000, "cache_tokens": 1_000_000, "rows": 16}
    given = large(shapes, "0.5B", sampler=sampler, step={"groups": 4, "group_size": 128})
    given["environments"] = {"noise": given["environments"]["noise"]}
    memory = described(PolicyConfig.model_validate(given["policy"]))
    plan = planned(given, "rtx4090", noise=384.0)
    num_tokens, now = 128 * (16_000 + 384), ("play",)
    assert Part(f"keys and values of {num_tokens:,} tokens", memory.cache(num_tokens), now) in plan.held.parts
    assert Part("logits of the rows that play", memory.drawing(128), now) in plan.held.parts
    assert not plan.fits
    assert not any("cache_tokens" in line for proposal in plan.proposals for line in said(proposal))
    evaluated = planned({**given, "step": {"groups": 4, "group_size": 4}, "evaluate": {"samples": 128}}, noise=384.0)
    assert evaluated.held.taken("play") == planned(given, noise=384.0).held.taken("play")
    few = planned({**given, "step": {"groups": 4, "group_size": 4}}, noise=384.0)
    assert "keys and values of 1,000,000 tokens" in [part.name for part in few.held.parts]


def test_a_row_has_a_prompt_and_an_answer(shapes: Path) -> None:
    """What a learner feeds at once, and an engine needs room for, is the longest prompt with its answer."""
    given = large(shapes, sampler={"type": "vllm", "max_tokens": 1000}, learner={"micro_tokens": 1024})
    given["environments"] = {"noise": given["environments"]["noise"]}
    memory = described(PolicyConfig.model_validate(given["policy"]))
    plan = planned(given, noise=8000.0)
    assert "activations of 9,000 tokens" in [part.name for part in plan.held.parts]
    given["sampler"]["gpu_memory_utilization"] = (memory.weights + memory.cache(5000)) / H100.num_bytes
    assert "its weights and one row take" in planned(given, noise=8000.0).held.lacking
    assert not planned(given, noise=3000.0).held.lacking
    unknown = planned({**given, "sampler": {**given["sampler"], "max_prompt_tokens": 7000}})
    assert "activations of 8,000 tokens" in [part.name for part in unknown.held.parts]
    assert any("rows have what `max_prompt_tokens` allows them" in note for note in unknown.notes)


def test_replies_of_environments_are_said_to_be_left_out(shapes: Path) -> None:
    given = large(shapes)
    (note,) = [note for note in planned(given).notes if "reply between turns" in note]
    assert note.startswith("what environments reply between turns is not in rows (noise)")
    given["environments"] = {"numbers": given["environments"]["numbers"]}
    assert not any("reply between turns" in note for note in planned(given).notes)


def test_an_engine_whose_share_does_not_hold_its_weights_cannot_start(shapes: Path) -> None:
    given = large(shapes, "7B", sampler="vllm")
    given["policy"]["adapter"] = 32
    plan = planned(given, "l40s")
    assert not plan.fits
    assert plan.held.peak < 0.95 * GPUS["l40s"].num_bytes
    assert (
        "vLLM's share is 14 GB (`sampler.gpu_memory_utilization`), and its weights and one row take 15 GB"
        in plan.verdict
    )
    assert said(plan.proposals[0]) == ["`sampler.gpu_memory_utilization: 0.32`"]


def test_7b_in_full_fits_80_gb_with_the_optimiser_on_the_host(shapes: Path) -> None:
    given = large(shapes, "7B", sampler=SERVERS)
    plan = planned(given)
    assert not plan.fits
    assert "It would fit in 41 GB with `resources.offload: optimizer`" in plan.verdict
    given["resources"] = {**small()["resources"], "offload": "optimizer"}
    on_host = planned(given)
    memory = described(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16"))
    assert on_host.fits
    assert plan.held.peak - on_host.held.peak == 16 * memory.num_parameters
    assert round(on_host.host.parts[1].num_bytes / 1e9) == 122


def test_a_probe_that_trains_a_copy_takes_as_much_again(shapes: Path) -> None:
    probe = {"type": "probe", "kind": "random_labels"}
    plan = planned(large(shapes, "1.5B", sampler=SERVERS, measure={"of": [probe]}))
    without = planned(large(shapes, "1.5B", sampler=SERVERS))
    memory = described(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    assert plan.held.moment == "probe"
    # while it trains, the learner's own last gradients are gone
    assert plan.held.peak - without.held.peak == memory.weights + memory.optimizer
    reads = {"type": "probe", "kind": "linear", "environment": "numbers"}
    assert planned(large(shapes, "1.5B", sampler=SERVERS, measure={"of": [reads]})).held.peak == without.held.peak


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"objective": {"preset": "grpo", "kl": 0.1}}, "reference policy"),
        ({"sampler": {"type": "transformers", "ahead": 1}}, "weights that play ahead"),
    ],
)
def test_copies_of_the_weights_are_counted(shapes: Path, changes: dict[str, Any], part: str) -> None:
    memory = described(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    plan = planned(large(shapes, "1.5B", **changes))
    assert Part(part, memory.weights) in plan.held.parts
    assert part not in [one.name for one in planned(large(shapes, "1.5B")).held.parts]


def test_what_plays_ahead_is_there_while_the_learner_updates(shapes: Path) -> None:
    ahead = planned(large(shapes, "1.5B", sampler={"type": "transformers", "ahead": 1})).held
    alone = planned(large(shapes, "1.5B")).held
    memory = described(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    playing = memory.cache(262_144) + memory.reading(8192) + memory.drawing(256)
    assert ahead.taken("update") == alone.taken("update") + memory.weights + playing
    assert ahead.taken("measure") == alone.taken("measure") + memory.weights


def test_rates_are_those_of_the_gpu(shapes: Path) -> None:
    vllm = {"type": "vllm", "max_tokens": 600}
    plan = planned(large(shapes, "1.5B", sampler=vllm, step={"groups": 32, "group_size": 8}))
    memory = described(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    assert plan.rates.update_tokens_s == pytest.approx(0.4 * 989e12 / (8 * memory.num_parameters))
    read = memory.weights + 256 * 300 * memory.cache_bytes  # half of an answer has been written, on average
    assert plan.rates.play_tokens_s == pytest.approx(256 / (read / (0.65 * 3.35e12)))
    tiny = planned(small("tiny"))
    assert tiny.rates.update_tokens_s is None
    assert tiny.fits


def mixture(folder: Path) -> Path:
    """Eight experts in each of four layers, of which a token meets two."""
    shape = {"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 16}
    MixtralConfig(vocab_size=32_000, num_key_value_heads=16, **shape).save_pretrained(folder)
    build_tokenizer(VocabularySample({}), False).save_pretrained(folder)
    return folder


def test_of_experts_those_are_timed_that_tokens_meet(tmp_path: Path) -> None:
    step = {"groups": 1, "group_size": 4}
    given = large(tmp_path, sampler={"type": "vllm", "max_tokens": 600}, step=step)
    given["policy"]["model"] = str(mixture(tmp_path))
    plan, memory = planned(given), describe_memory(PolicyConfig.model_validate(given["policy"]))
    experts = 4 * 8 * 3 * 1024 * 2048
    assert plan.rates.update_tokens_s == pytest.approx(0.4 * 989e12 / (8 * (memory.num_parameters - experts * 6 / 8)))
    read = 2 * (memory.num_parameters - experts * (6 / 8) ** 4) + 4 * 300 * memory.cache_bytes
    assert plan.rates.play_tokens_s == pytest.approx(4 / (read / (0.65 * 3.35e12)))
    assert any(note.startswith("a token meets 25% of the experts' weights") for note in plan.notes), plan.notes
    many = planned({**given, "step": {"groups": 32, "group_size": 8}})
    read = memory.weights + 256 * 300 * memory.cache_bytes
    assert many.rates.play_tokens_s == pytest.approx(256 / (read / (0.65 * 3.35e12))), "they meet all of them"


def test_no_rate_is_told_where_it_is_not_known_how_many_experts_a_token_meets(tmp_path: Path) -> None:
    given = large(tmp_path, sampler={"type": "vllm", "max_tokens": 600})
    given["policy"]["model"] = str(mixture(tmp_path))

    def describe(config: PolicyConfig) -> ModelMemory:
        memory = describe_memory(config)
        assert memory.experts is not None
        return replace(memory, experts=replace(memory.experts, share=None))

    plan = planned(given, describe=describe)
    assert plan.rates.update_tokens_s is plan.rates.play_tokens_s is plan.rates.stage is None
    assert plan.rates.in_words == "not known: how many of its experts a token meets is not in the model's configuration"


def test_servers_play_at_the_rate_of_their_gpus(shapes: Path, tmp_path: Path) -> None:
    step = {"groups": 32, "group_size": 8}
    urls = [f"http://localhost:{8000 + number}" for number in range(8)]

    def served(num: int, **options: Any) -> GpuPlan:
        sampler = {"type": "vllm_server", "urls": urls[:num], "max_tokens": 600, **options}
        return planned(large(shapes, "1.5B", sampler=sampler, step=step))

    one, eight = served(1, in_flight=256), served(8, in_flight=256)
    beside = planned(large(shapes, "1.5B", sampler={"type": "vllm", "max_tokens": 600}, step=step))
    assert one.rates.play_tokens_s == beside.rates.play_tokens_s
    assert stage_of(one).play_s == pytest.approx(stage_of(beside).play_s)
    memory = described(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    read = memory.weights + 32 * 300 * memory.cache_bytes
    assert eight.rates.play_tokens_s == pytest.approx(32 / (read / (0.65 * 3.35e12)))
    assert "on each server, with a GPU like this of its own" in eight.rates.in_words
    assert eight.rates.in_words.endswith("with 8 servers")
    assert served(1).rates.play_tokens_s == pytest.approx(one.rates.play_tokens_s, rel=0.7), "64 rows in flight"
    listed = tmp_path / "servers.txt"
    unknown = served(1, urls=urls[:0] or ["http://127.0.0.1:8321"], urls_file=str(listed))
    assert any("how many servers there will be is not known here" in note for note in unknown.notes)
    listed.write_text("\n".join(urls[:2]))
    assert served(1, urls=["http://127.0.0.1:8321"], urls_file=str(listed)).rates.num_servers == 2


def test_what_is_played_ahead_takes_no_time_of_its_own(shapes: Path) -> None:
    """A stage of three steps: play, update beside play, update beside play, update."""
    servers = {**SERVERS, "max_tokens": 3}
    asleep = planned(large(shapes, "1.5B", sampler={**servers, "sleep_level": 1}))
    plain = planned(large(shapes, "1.5B", sampler=servers))
    ahead = planned(large(shapes, "1.5B", sampler={**servers, "ahead": 1}))
    assert plain.rates.update_tokens_s is not None
    assert plain.rates.play_tokens_s is not None
    assert asleep.rates == plain.rates
    num_tokens = 4 * 4 * 3  # of a step
    play, update = num_tokens / plain.rates.play_tokens_s, num_tokens / plain.rates.update_tokens_s
    evaluate = stage_of(plain).boundary_s
    assert evaluate is not None
    assert stage_of(plain).total_s == pytest.approx(3 * (play + update) + evaluate)
    assert stage_of(ahead).total_s == pytest.approx(play + 2 * max(play, update) + update + evaluate)
    assert "to play beside" in ahead.rates.in_words
    beside = {"type": "vllm", "max_tokens": 3}
    in_process = [stage_of(planned(large(shapes, "1.5B", sampler={**beside, "ahead": ahead}))) for ahead in (0, 1)]
    assert in_process[0] == in_process[1], "both are one GPU's work"


def test_a_stage_is_timed_with_the_evaluation_at_its_boundary_and_inside_it(shapes: Path) -> None:
    sampler = {"type": "vllm", "max_tokens": 600}
    given = large(shapes, "1.5B", sampler=sampler, evaluate={"items": 32, "samples": 8, "greedy": True})
    given["environments"] = {"noise": given["environments"]["noise"]}
    stage = stage_of(planned(given))
    num_categories = len(build_environments(Spec.model_validate(given))[1]["noise"].categories)
    memory = described(PolicyConfig(model=str(shapes / "1.5B"), dtype="bfloat16"))
    rate = 256 / ((memory.weights + 256 * 300 * memory.cache_bytes) / (0.65 * 3.35e12))  # a category at once
    num_tokens = num_categories * 32 * (8 + 1) * 600
    assert stage.boundary_s == pytest.approx(num_tokens / rate)
    assert stage.evaluated == pytest.approx(num_tokens / (num_tokens + 3 * 4 * 4 * 600))
    assert stage.inside_s == 0
    assert stage.total_s == pytest.approx(stage.update_s + (stage.play_s or 0) + num_tokens / rate)
    often = planned({**given, "evaluate": {**given["evaluate"], "every": 1}})
    assert stage_of(often).inside_s == pytest.approx(2 * num_tokens / rate), "after steps 1 and 2 of 3"
    assert "to evaluate at its boundary" in often.rates.in_words
    assert "to evaluate inside it" in often.rates.in_words


def test_how_long_it_updates_is_told_where_how_fast_it_plays_is_not_known(shapes: Path) -> None:
    spec = large(shapes, sampler={"type": "transformers", "max_tokens": 600})
    plan = planned(spec)
    stage = stage_of(plan)
    assert stage.update_s == pytest.approx(3 * 4 * 4 * 600 / (plan.rates.update_tokens_s or 0))
    assert stage.total_s == stage.update_s
    assert (stage.play_s, stage.boundary_s) == (None, None)
    assert f"to update; how long it plays is not known: {percent(stage.evaluated)} of the tokens" in plan.rates.in_words
    played = stage_of(planned({**spec, "sampler": {"type": "vllm", "max_tokens": 600}}))
    assert stage.evaluated == played.evaluated


def test_prompts_are_read_for_each_answer_where_layers_are_run_again_and_else_once(shapes: Path) -> None:
    again = large(shapes, "1.5B", sampler={"type": "vllm", "max_tokens": 600})
    again["environments"] = {"noise": again["environments"]["noise"]}
    kept = {**again, "learner": {**again["learner"], "activation_checkpointing": False}}
    for spec, times_read in ((again, 4), (kept, 1)):
        without, with_prompts = planned(spec), planned(spec, noise=150.0)
        assert stage_of(with_prompts).update_s == pytest.approx(
            stage_of(without).update_s * (4 * 600 + times_read * 150) / (4 * 600)
        )
        assert "with answers of full length to prompts of 150 tokens, all learnt from" in with_prompts.rates.in_words
        assert any("how long prompts are is not known" in note for note in without.notes)
        assert not any("how long prompts are" in note for note in with_prompts.notes)


def test_an_environment_that_is_in_no_order_has_no_stage(shapes: Path) -> None:
    spec = large(shapes, sampler={"type": "vllm", "max_tokens": 100})
    spec["environments"] = {name: spec["environments"][name] for name in ("numbers", "noise")}
    spec["environments"]["noise"] = {**spec["environments"]["noise"], "episodes": {"max_tokens": 200}}
    spec["curriculum"] = {"scheduler": {"type": "sequence", "order": ["numbers"]}}
    assert stage_of(planned(spec)).environment == "numbers"


def test_a_server_on_the_learners_gpu_needs_room_there(shapes: Path) -> None:
    asleep = {**SERVERS, "sleep_level": 2}
    plan = planned(large(shapes, sampler=asleep))
    assert plan.fits
    assert any("`--gpu-memory-utilization 0.29` or less" in note for note in plan.notes), plan.notes
    given = large(shapes, "32B", sampler=asleep, learner={"micro_tokens": 4096})
    given["policy"]["adapter"] = 32
    beside = planned(given)
    assert not beside.fits
    assert beside.held.moment == "play"
    assert said(beside.proposals[0]) == ["servers on other GPUs (`sampler.sleep_level: null`)"]


def test_servers_need_gpus_that_hold_the_weights(shapes: Path) -> None:
    plan = planned(large(shapes, "32B", sampler=SERVERS), "a100-40")
    assert plan.rates.play_tokens_s is None
    assert any(
        "a server's weights and one row take 66 GB, which a GPU like this does not hold" in n for n in plan.notes
    )


@pytest.mark.parametrize(
    ("name", "mib", "like"),
    [
        ("NVIDIA A100-SXM4-80GB", 81_251, "a100"),
        ("NVIDIA A100 80GB PCIe", 81_050, "a100"),
        ("NVIDIA A100-SXM4-40GB", 40_326, "a100-40"),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19_968, ""),
        ("NVIDIA H100 80GB HBM3", 81_090, "h100"),
        ("NVIDIA H200", 143_167, "h200"),
        ("NVIDIA L40S", 45_458, "l40s"),
        ("NVIDIA GeForce RTX 4090", 24_081, "rtx4090"),
        ("NVIDIA GeForce RTX 3090", 24_136, ""),
        ("NVIDIA RTX A6000", 48_600, ""),
    ],
)
def test_a_gpu_that_is_here_has_the_rates_of_its_name(name: str, mib: int, like: str) -> None:
    here = gpu_here(name, mib * 2**20)
    assert (here.name, here.num_bytes, here.rates_of) == (name, mib * 2**20, like)
    if like:
        assert (here.flops, here.bandwidth) == (GPUS[like].flops, GPUS[like].bandwidth)


def test_no_rates_are_told_of_a_gpu_that_is_not_known(shapes: Path) -> None:
    given = large(shapes, "0.5B", sampler={"type": "vllm", "max_tokens": 600})
    here = gpu_here("NVIDIA GeForce RTX 3090", 24_136 * 2**20)
    plan = planned(given, here)
    assert plan.rates.in_words.startswith("not known: what this GPU, NVIDIA GeForce RTX 3090, computes a second")
    assert plan.held.peak == pytest.approx(planned(given, "rtx4090").held.peak, rel=0.03)
    known = planned(given, gpu_here("NVIDIA A100-SXM4-80GB", 81_251 * 2**20))
    assert "rates are those of a GPU that `--gpu a100` names" in known.notes
    assert known.rates.update_tokens_s == planned(given, "a100").rates.update_tokens_s


def test_an_unknown_gpu_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"--gpu v100: not known\. There are h100, h200"):
        gpu_named("v100")


def test_a_plan_is_printed_and_what_does_not_fit_is_refused(tmp_path: Path, shapes: Path, evergreen: Evergreen) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(json.dumps(large(shapes, sampler=SERVERS)))
    fits = evergreen("validate", path, "--gpu", "h100", "--home", tmp_path / "home")
    assert fits.exit_code == 0, fits.stderr
    assert "memory: fits one h100: 69 GB while it updates, of 86 GB" in fits.stdout
    assert "host: 43 GB while it updates, on a machine with 1 rank" in fits.stdout
    assert "what was measured on an H200" in fits.stdout
    refused = evergreen("validate", path, "--plan", "--gpu", "a100-40", "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "--plan: large does not fit one a100-40" in refused.stderr
    assert "is valid" not in refused.stdout
    told = evergreen("validate", path, "--plan", "--json", "--gpu", "h200", "--home", tmp_path / "home")
    gpu = json.loads(told.stdout)["gpu"]
    assert gpu["fits"]
    stage = gpu["rates"]["stage"]
    assert stage["total_s"] > stage["update_s"] + stage["boundary_s"] > stage["update_s"]
    assert stage["prompt_tokens"] > 1, "its tokenizer is there"
    assert gpu["host"]["peak"] == sum(part["num_bytes"] for part in gpu["host"]["parts"] if "update" in part["moments"])
    assert gpu["peak"] == sum(part["num_bytes"] for part in gpu["held"]["parts"] if "update" in part["moments"])


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen2Config])
def test_a_folder_without_a_tokenizer_is_planned_without_prompts(
    tmp_path: Path, evergreen: Evergreen, kind: type[LlamaConfig | Qwen2Config]
) -> None:
    wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 16}
    kind(vocab_size=64_000, num_key_value_heads=16, **wide).save_pretrained(tmp_path / "model")
    policy = {"model": str(tmp_path / "model"), "dtype": "bfloat16"}
    path = tmp_path / "bare.yaml"
    path.write_text(json.dumps(small("bare", warm_start=None, policy=policy, sampler={"type": "vllm"})))
    planned = evergreen("validate", path, "--plan", "--gpu", "h100", "--home", tmp_path / "home")
    assert planned.exit_code == 0, planned.stderr
    assert "with answers of full length, all learnt from" in planned.stdout
    assert "how long prompts are is not known without the policy's tokenizer" in planned.stdout
    refused = evergreen("validate", path, "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "has no tokenizer; it holds config.json. Save the model's own" in refused.stderr


def test_a_model_whose_configuration_is_nowhere_is_told(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    path = tmp_path / "far.yaml"
    path.write_text(json.dumps(small("far", warm_start=None, policy={"model": "nobody/nothing"})))
    refused = evergreen("validate", path, "--plan", "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "--plan needs the model's configuration, a file of a few kB: 'nobody/nothing' is no folder" in refused.stderr


@pytest.mark.slow
def test_the_page_has_the_tables_that_the_benchmark_prints() -> None:
    text = (REPOSITORY / "docs" / "scale.md").read_text()
    assert "\n".join(table()) in text
    assert "\n".join(layout_table()) in text


def test_what_ranks_share_is_divided_and_what_the_first_does_alone_is_not(shapes: Path) -> None:
    resources = {**small()["resources"], "ranks": 4}
    alone, shared = (
        planned(large(shapes, sampler=SERVERS)),
        planned(large(shapes, sampler=SERVERS, resources=resources)),
    )
    sizes = {part.name: part.num_bytes for part in shared.held.parts}
    memory = described(PolicyConfig(model=str(shapes / "3B"), dtype="bfloat16"))
    assert sizes["weights that play and are measured, on the first"] == memory.weights
    assert sizes["1/4 of float32 weights, gradients, two moments"] == 16 * memory.num_parameters // 4
    assert shared.held.peak < alone.held.peak
    assert shared.rates.update_tokens_s == pytest.approx(4 * (alone.rates.update_tokens_s or 0))
    assert any("4 ranks" in note for note in shared.notes)


def test_ranks_without_a_micro_batch_of_their_own_shorten_no_stage(shapes: Path) -> None:
    """A step of 4 x 4 answers of 600 tokens is 3.1 micro-batches of 3,072."""
    given = large(shapes, "1.5B", sampler={**SERVERS, "max_tokens": 600}, learner={"micro_tokens": 3072})
    given["environments"] = {"noise": given["environments"]["noise"]}

    def on(ranks: int) -> GpuPlan:
        return planned({**given, "resources": {**given["resources"], "ranks": ranks}})

    one, three, eight, many = map(on, (1, 3, 8, 64))
    assert stage_of(one).micro_batches == pytest.approx(4 * 4 * 600 / 3072)
    micro_batches = 4 * 4 * 600 / 3072
    assert stage_of(three).update_s == pytest.approx(stage_of(one).update_s * (1 + micro_batches - 3) / micro_batches)
    assert stage_of(eight).update_s == pytest.approx(stage_of(one).update_s * 3072 / (4 * 4 * 600))
    assert stage_of(many).update_s == pytest.approx(stage_of(eight).update_s)
    assert any("an update is 4 micro-batches of 3,072 tokens, one a rank: of 8 ranks" in note for note in eight.notes)
    assert not any("micro-batch" in note for note in three.notes)


def test_ranks_that_do_not_divide_the_micro_batches_wait_in_the_last_round(shapes: Path) -> None:
    """A step of 4 x 4 answers of 600 tokens is 8 micro-batches of 1,200."""
    given = large(shapes, "1.5B", sampler={**SERVERS, "max_tokens": 600}, learner={"micro_tokens": 1200})
    given["environments"] = {"noise": given["environments"]["noise"]}
    plans = {n: planned({**given, "resources": {**given["resources"], "ranks": n}}) for n in (1, 4, 5, 7, 8)}
    rounds = {n: stage_of(plan).update_s / stage_of(plans[8]).update_s for n, plan in plans.items()}
    assert rounds == pytest.approx({1: 8, 4: 2, 5: 2, 7: 2, 8: 1})
    noted = {n for n, plan in plans.items() if any("run in 2 rounds, as 4 ranks would" in note for note in plan.notes)}
    assert noted == {5, 7}


def test_a_step_has_as_many_updates_as_its_objective_is_made_for(shapes: Path) -> None:
    """`cispo` makes four; more than there are groups are not made."""

    def on(objective: str, groups: int = 4, **learner: Any) -> float:
        learner = {"updates": None, "micro_tokens": 600, **learner}
        given = large(shapes, "1.5B", sampler={**SERVERS, "max_tokens": 600}, learner=learner, objective=objective)
        given["environments"] = {"noise": given["environments"]["noise"]}
        return stage_of(planned({**given, "step": {"groups": groups, "group_size": 4}})).micro_batches

    assert on("grpo") == pytest.approx(4 * 4)
    assert on("cispo") == on("grpo", updates=4) == pytest.approx(4)
    assert on("cispo", updates=2) == pytest.approx(2 * 4)
    assert on("cispo", groups=2) == pytest.approx(4)


def test_ranks_with_the_optimiser_on_the_host_have_a_share_of_the_weights_alone(shapes: Path) -> None:
    resources = {**small()["resources"], "ranks": 4}
    resources["offload"] = "optimizer"
    on_host = planned(large(shapes, "7B", sampler=SERVERS, resources=resources))
    sizes = {part.name: part.num_bytes for part in on_host.held.parts}
    memory = described(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16"))
    assert sizes["1/4 of the weights that learn"] == memory.weights // 4
    assert sizes["gradients of the last backward pass"] == memory.weights // 4
    assert HostPart("float32 weights, gradients, two moments, of 4 ranks", 16 * memory.num_parameters, GOING_ON) in (
        on_host.host.parts
    )
    assert any("the first's policy, 15 GB, is in its host's memory while the ranks update" in n for n in on_host.notes)
    given = large(shapes, "7B", sampler=SERVERS, resources=resources)
    given["policy"]["adapter"] = 32
    adapted = {part.name: part.num_bytes for part in planned(given).held.parts}
    memory = described(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16", adapter={"rank": 32}))
    assert adapted["gradients of the last backward pass"] == memory.trained
    frozen = 2 * memory.num_parameters // 4
    assert adapted["1/4 of frozen weights, and all of the adapters"] == frozen + memory.trained


def test_32b_in_full_fits_eight_gpus_whose_first_rests_its_policy_on_the_host(shapes: Path) -> None:
    resources = {**small()["resources"], "ranks": 8, "offload": "optimizer"}
    plan = planned(large(shapes, "32B", sampler=SERVERS, resources=resources))
    memory = described(PolicyConfig(model=str(shapes / "32B"), dtype="bfloat16"))
    assert plan.fits
    assert plan.held.moment == "play"
    assert plan.held.peak == memory.weights + memory.weights // 8 + 600_000_000
    assert round(plan.held.taken("update") / 1e9) == 50
    for ranks in (8, 64):
        there = planned(
            large(shapes, "32B", sampler=SERVERS, resources={**resources, "ranks": ranks, "offload": "none"})
        )
        assert not there.fits
        assert said(there.proposals[0]) == ["`resources.offload: optimizer`"]


def test_a_host_has_what_its_ranks_read_what_they_train_with_and_copies_for_a_checkpoint(shapes: Path) -> None:
    resources = {**small()["resources"], "ranks": 8, "offload": "optimizer"}
    given = large(shapes, "32B", sampler=SERVERS, resources=resources)
    host, num = planned(given).host, described(PolicyConfig(model=str(shapes / "32B"), dtype="bfloat16")).num_parameters
    sizes = [part.num_bytes for part in host.parts]
    assert sizes == [9 * 2 * num, 16 * num // 8 * 8, 2 * num, 12 * num // 8 * 8, 2 * num]
    assert (host.num_ranks, host.moment, host.peak) == (8, "update", sum(sizes[1:]))
    assert host.in_words == "1.0 TB while it updates, on a machine with 8 ranks"
    waits = planned({**given, "checkpoint": {"background": False}}).host
    assert [part.num_bytes for part in waits.parts] == sizes[:3]
    two = planned({**given, "resources": {**resources, "ranks": 16}})
    assert [part.num_bytes for part in two.host.parts[:2]] == [9 * 2 * num, 16 * num // 16 * 8]
    assert any(note.startswith("machines of 8 GPUs are reckoned with") for note in two.notes)
    replicas = planned({**given, "resources": {**resources, "replicas": 2}}).host
    assert "copy of the optimiser's state for a checkpoint, of 4 ranks" in [part.name for part in replicas.parts]
    assert replicas.parts[3].num_bytes == sizes[3], "of two replicas the first writes"


def test_a_host_has_little_of_adapters_and_of_weights_that_are_changed_all(shapes: Path) -> None:
    alone = large(shapes, "7B", sampler=SERVERS)
    alone["policy"]["adapter"] = 32
    memory = described(PolicyConfig.model_validate(alone["policy"]))
    assert [part.num_bytes for part in planned(alone).host.parts] == [
        memory.weights,
        8 * (memory.num_adapted or 0),
        4 * (memory.num_adapted or 0),
    ]
    changes = {"boundary": {"interventions": [{"type": "shrink_perturb", "when": "always"}]}}
    several = large(shapes, "7B", sampler=SERVERS, resources={**small()["resources"], "ranks": 4}, curriculum=changes)
    changed, plain = planned(several).host, planned({**several, "curriculum": {}}).host
    assert changed.taken("change") - plain.taken("change") == 6 * memory.num_parameters
    assert changed.taken("update") == plain.taken("update")


def test_gradients_that_are_measured_are_counted(shapes: Path) -> None:
    memory = described(PolicyConfig(model=str(shapes / "3B"), dtype="bfloat16"))
    without = planned(large(shapes, sampler=SERVERS))
    plan = planned(large(shapes, sampler=SERVERS, measure={"of": ["gradients"]}))
    assert plan.held.moment == "measure"
    assert plan.held.peak - without.held.peak == 4 * memory.num_parameters, (
        "float32 sums; those of a pass are updates' too"
    )
    assert without.fits
    assert not plan.fits


def test_replicas_are_counted_whole_and_are_made_fewer_where_they_do_not_fit(shapes: Path) -> None:
    resources, learner = {**small()["resources"], "ranks": 8}, {"micro_tokens": 4096}
    one, two, eight = (
        planned(
            large(shapes, "7B", sampler=SERVERS, learner=learner, resources={**resources, "replicas": replicas}),
        )
        for replicas in (1, 2, 8)
    )
    memory = described(PolicyConfig(model=str(shapes / "7B"), dtype="bfloat16"))
    training = "float32 weights, gradients, two moments"
    assert Part(f"1/8 of {training}", 16 * memory.num_parameters // 8) in one.held.parts
    assert Part(f"1/4 of {training}", 16 * memory.num_parameters // 4) in two.held.parts
    assert Part(training, 16 * memory.num_parameters) in eight.held.parts
    assert two.fits
    assert two.rates.update_tokens_s == one.rates.update_tokens_s
    assert any("8 ranks in 2 replicas" in note for note in two.notes)
    assert not eight.fits
    (proposal,) = eight.proposals
    assert said(proposal) == ["`resources.replicas: 2`"], "of 4, 2 and 1 the first that fits"
    assert proposal.peak == two.held.peak


def test_with_adapters_the_rest_has_no_moments(shapes: Path) -> None:
    given = large(shapes, "7B", sampler=SERVERS)
    assert not planned(given).fits
    given["policy"]["adapter"] = 32
    plan = planned(given)
    assert plan.fits
    sizes = {part.name: part.num_bytes for part in plan.held.parts}
    num = 32 * 28 * (4 * 3584 + 2 * (3584 + 512) + 3 * (3584 + 18_944))  # q and o, k and v, the MLP
    assert sizes["gradients, two moments"] == 12 * num
    assert sizes["weights"] == pytest.approx(2 * 7.616e9 + 4 * num, rel=1e-3)

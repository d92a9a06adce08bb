"""Options of the policy, its learner and its warm start: pydantic only, so that reading a spec stays light."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Kind = Literal["tiny", "folder", "hub"]

Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running mean

RECOMPUTED_FROM = 1_000_000_000  # weights: what 1.2B keep of 16384 tokens has no room beside training and vLLM on 80 GB
NEAR_TINY = 0.75  # likeness of a typing error; hub names without an owner, such as gpt2, are far from it
BASE = "base"  # folder, in that of adapters, of the model that they stand beside, if it is not the named one
TINY_SHAPE = ("layers", "hidden", "mlp", "heads", "kv_heads", "vocabulary", "initial_std")


class Options(BaseModel):
    """Common to all options of this package: frozen, unknown keys refused, fields documented in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class AdapterConfig(Options):
    """Low-rank adapters (LoRA): matrices that learn.

    They stand beside frozen weights (arXiv 2106.09685). An integer stands for `{rank: integer}`.
    """

    rank: int = Field(default=32, ge=1, le=4096)
    """Rank of what is added to a layer's weights (`r` in peft, `lora_rank` in verl)."""
    alpha: int = Field(default=64, ge=1, le=1_000_000)
    """What is added is multiplied by alpha / rank (`lora_alpha` elsewhere)."""
    targets: Literal["all"] | tuple[str, ...] = "all"
    """Beside which layers of the text model: `all` linear ones but the head, or names such as `[q_proj, v_proj]`
    (`target_modules` elsewhere)."""
    boundary: Literal["carry", "merge", "reset"] = "carry"
    """What becomes of them between two stages. `carry`: they learn on. `merge`: what they learnt goes into the model,
    and fresh ones begin on it, with a fresh optimiser. `reset`: they are forgotten, and every stage begins at the
    start."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"rank": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("targets")
    @classmethod
    def _some_layers(cls, value: Literal["all"] | tuple[str, ...]) -> Literal["all"] | tuple[str, ...]:
        if not value:
            raise ValueError("no layer would learn: say `all`, or the names of some")
        return value


class PolicyConfig(Options):
    """Which language model learns. A plain string stands for `{model: string}`."""

    model: str = Field(default="tiny", max_length=1000)
    """`tiny`, a folder (`./x`, from the folder that the command runs in, `/x`), or a hub name (`Qwen/x`, unless such a
    folder exists). What reads images in it (Gemma 3, from 4B on) stays as it is."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. The learner keeps float32 copies of bfloat16; log-probs are always float32. float16 is not
    offered: gradients of a step's loss lie below what it holds, and nothing scales the loss."""
    template: Literal["chat", "none"] = "chat"
    """`chat`: the tokenizer's chat template; `none`: the contents of all messages, joined by blank lines."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; null: its main branch."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model."""
    kernels: Literal["torch", "liger"] = "torch"
    """What computes norms, rotary embeddings and gated MLPs. `liger`: fused Triton kernels of the package of that name
    (`use_liger_kernel` elsewhere), on a GPU and for architectures it knows; other last bits."""
    adapter: AdapterConfig | None = None
    """Low-rank adapters (LoRA) beside frozen weights. null: all weights learn."""
    layers: int = Field(default=3, ge=1, le=1000)
    """Of `tiny`: number of layers."""
    hidden: int = Field(default=96, ge=2, le=65_536)
    """Of `tiny`: width; a multiple of twice `heads`."""
    mlp: int = Field(default=288, ge=1, le=1_048_576)
    """Of `tiny`: width inside the MLP."""
    heads: int = Field(default=4, ge=1, le=1024)
    """Of `tiny`: number of attention heads; a multiple of `kv_heads`."""
    kv_heads: int = Field(default=2, ge=1, le=1024)
    """Of `tiny`: number of key-value heads."""
    vocabulary: Literal["open", "closed"] = "open"
    """Of `tiny`: `open` knows every byte, `closed` only what a sample of tasks shows, so that no
    environment may reply in words of its own, as games do."""
    initial_std: float = Field(default=0.06, gt=0, le=1)
    """Of `tiny`: standard deviation that its matrices start with; the usual .02 is made for wide models."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> PolicyConfig:
        if get_close_matches(self.model.lower(), ["tiny"], cutoff=NEAR_TINY) and self.kind == "hub":
            raise ValueError(f"model: {self.model!r} is no folder here; did you mean `tiny`? Give a folder as ./name")
        fields = type(self).model_fields
        foreign = [name for name in TINY_SHAPE if getattr(self, name) != fields[name].default]
        if self.model != "tiny" and foreign:
            raise ValueError(f"{', '.join(foreign)}: only `model: tiny` has these; {self.model!r} brings its own")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of twice heads ({2 * self.heads})")
        return self

    @property
    def kind(self) -> Kind:
        """Where the model comes from."""
        if self.model == "tiny":
            return "tiny"
        marked = self.model.startswith((".", "/", "~"))
        return "folder" if marked or os.path.isdir(self.model) else "hub"


class ScheduleConfig(Options):
    """How the learning rate falls after its warm-up. A plain string stands for `{type: string}`."""

    type: Literal["constant", "linear", "cosine"] = "constant"
    """Its course (`lr_scheduler_type` elsewhere): a straight line, half a wave of the cosine, or none."""
    over: Literal["run", "stage"] = "run"
    """What it falls over. `run`: to the last step that is planned; a run that gets more stages has a later one.
    `stage`: anew in every stage, to its last step; one that a stop rule ends does not come to it."""
    end: float = Field(default=0.0, ge=0, lt=1)
    """Share of `lr` that is left at the end (`min_lr_factor` or `min_lr_rate` elsewhere)."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _constant_has_no_end(self) -> ScheduleConfig:
        fields = type(self).model_fields
        idle = [name for name in ("over", "end") if getattr(self, name) != fields[name].default]
        if self.type == "constant" and idle:
            raise ValueError(f"{' and '.join(idle)}: a constant learning rate does not fall; say linear or cosine")
        return self


class LearnerConfig(Options):
    """How the policy is updated: AdamW, and how a batch is cut. What is null is filled in by the policy's size."""

    lr: float | None = Field(default=None, ge=0, le=10)
    """Learning rate of AdamW, 0: nothing is learnt; null: 1e-6, and 1e-4 for `tiny`, also for adapters."""
    betas: tuple[Decay, Decay] | None = None
    """Of AdamW; null: [.9, .999], and [.9, .99] for `tiny`."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """Decoupled, on every parameter."""
    warmup: int = Field(default=20, ge=0)
    """Updates over which the learning rate rises linearly to `lr` (`warmup_steps` elsewhere)."""
    schedule: ScheduleConfig = ScheduleConfig()
    """What the learning rate does after its warm-up. `constant`, `linear` or `cosine`, or a map with its options."""
    updates: int | None = Field(default=None, ge=1)
    """Optimiser updates a step, whose groups are dealt to them in turn; null: the objective's own number."""
    clip_norm: float = Field(default=1.0, gt=0)
    """The gradient is shortened to this norm."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Padded tokens in one forward and backward, at least one row; null: 16384, and 2048 for `tiny` (a CPU's cache
    likes it). Changes memory and speed, and of the
    result no more than last bits."""
    activation_checkpointing: bool | None = None
    """Recompute each layer in the backward pass: a third more time, far less memory. Null: of policies of a
    billion weights or more, where the library can."""

    def resolved(self, policy: PolicyConfig) -> LearnerConfig:
        """Fill in the defaults that depend on the policy."""
        tiny = policy.kind == "tiny"
        lr = (1e-4 if tiny else 1e-6) if self.lr is None else self.lr
        betas = self.betas or ((0.9, 0.99) if tiny else (0.9, 0.999))
        micro_tokens = self.micro_tokens or (2048 if tiny else 16384)
        recomputes = self.recomputes_layers(0) if tiny else self.activation_checkpointing
        given = {"lr": lr, "betas": betas, "micro_tokens": micro_tokens, "activation_checkpointing": recomputes}
        return self.model_copy(update=given)

    def recomputes_layers(self, num_weights: int) -> bool:
        """Whether layers of a policy of so many weights are recomputed, as far as the library can.

        By size and not by the GPU that is there: a run that goes on elsewhere has to compute as it did here.
        """
        asked = self.activation_checkpointing
        return num_weights >= RECOMPUTED_FROM if asked is None else asked


class WarmStartShare(Options):
    """How much of the warm start one environment gets."""

    batches: int | None = Field(default=None, ge=1)
    """Batches for it; null: the section's."""
    decay: float | None = Field(default=None, gt=0, le=1)
    """Weight of each category relative to the one before; null: the section's."""


class WarmStartConfig(Options):
    """A short supervised start on reference answers: the form of an answer, before any reinforcement."""

    environments: tuple[str, ...] | Mapping[str, WarmStartShare] = ()
    """Names, or a map from a name to its own `batches` and `decay`. Empty: no warm start."""
    batches: int = Field(default=230, ge=1)
    """Batches for each environment; those of all environments are mixed."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """Category i of an environment is drawn with a weight of decay to the power i."""
    batch_size: int = Field(default=96, ge=1, le=100_000)
    """Examples in a batch."""
    lr: float = Field(default=2e-3, gt=0, le=10)
    """Highest learning rate of AdamW."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """Of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """Decoupled, on every parameter."""
    warmup: int = Field(default=30, ge=0)
    """Batches over which the learning rate rises linearly; from there it falls linearly to 0."""

    def shares(self) -> dict[str, tuple[int, float]]:
        """Give the batches and the decay of each environment, in the order of the spec."""
        if not isinstance(self.environments, Mapping):
            return dict.fromkeys(self.environments, (self.batches, self.decay))
        return {
            name: (share.batches or self.batches, share.decay or self.decay)
            for name, share in self.environments.items()
        }

    @property
    def num_batches(self) -> int:
        """Batches of the whole warm start."""
        return sum(batches for batches, _ in self.shares().values())

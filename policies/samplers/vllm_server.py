"""Plays on vLLM servers, one or many, on this host or others: token ids in and out over HTTP.

The servers hold copies of the weights. Each `sync` writes them to a directory that the servers can read (or sends them
over NCCL), has every server load them, and checks that it plays them. A server that fails in mid-batch costs a retry on
another, never a row; one that cannot be brought up to the weights is left out, reported, and tried again before the
next batch. Promised are per-request seeds, not bitwise equality: how a server batches is its own affair.
`evergreen serve SPEC` starts servers on this host; docs/samplers.md says how to start them elsewhere.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, RowStream, Sampler, SamplerOptions, Sampling
from policies.samplers.serving.server_list import EXAMPLE, ServerList, valid

if TYPE_CHECKING:
    from policies.policy import Policy
    from policies.samplers.serving.fleet import FleetMember, HandedAdapter
    from policies.samplers.serving.request_batch import RequestBatch

SOURCE = "arXiv 2309.06180"
DEFAULT_URL = EXAMPLE


class Config(SamplerOptions):
    """Options of the `vllm_server` sampler."""

    type: Literal["vllm_server"] = "vllm_server"
    urls: list[str] = Field(default=[DEFAULT_URL], min_length=1)
    """The servers, like http://127.0.0.1:8321. `evergreen serve` starts those on this host."""
    urls_file: Path | None = None
    """Instead of `urls`, a file with a server's URL a line, read again before each batch: servers come and go. Null:
    those of `urls`."""
    every_address: bool = False
    """Take each address that a host's name has for a server of its own, looked up before each batch."""
    weights: Path | None = None
    """A folder that learner and servers see under this path, where weights are handed over. Null: one of the
    system's temporary folders, good for servers on this host alone."""
    hand_over: Literal["auto", "files", "nccl", "adapter"] = "auto"
    """How weights reach the servers: `files`, whole, adapters merged; `adapter`, adapters alone, a name a version,
    beside weights that are handed over once; `nccl`, whole, from the learner's GPU to theirs (not run on a GPU).
    auto: `adapter` where the policy has some and all servers can, else `files`."""
    sleep_level: Literal[1, 2] | None = None
    """For servers on the learner's own GPU: they sleep while it learns. 1: their weights wait in the host's memory;
    2: nowhere, and are handed over anew. Null: they stay awake."""
    in_flight: int = Field(default=64, ge=1)
    """Most rows that one server is asked for at the same time."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Seconds after which a row is asked for again; null: three times what the slowest batch lets expect."""
    probe_every: int = Field(default=10, ge=1)
    """Every so many updates each server proves that it plays the policy's weights; a new or restarted one always."""

    @field_validator("urls")
    @classmethod
    def _are_urls(cls, urls: list[str]) -> list[str]:
        return valid(urls)

    @model_validator(mode="after")
    def _are_listed_once(self) -> Config:
        if self.urls_file is not None and self.urls != [DEFAULT_URL]:
            raise ValueError("`urls` and `urls_file` both list servers: say one of them")
        if self.every_address and any(url.startswith("https://") for url in self.urls):
            raise ValueError("`every_address` calls servers by address, for which certificates do not hold: take http")
        return self

    @model_validator(mode="after")
    def _sleeps_while_nothing_plays(self) -> Config:
        if self.sleep_level is not None and self.ahead:
            raise ValueError(
                "`ahead: 1` plays while the learner updates, when `sleep_level` has servers sleep: say one"
            )
        return self

    @model_validator(mode="after")
    def _can_send(self) -> Config:
        if self.hand_over != "nccl":
            return self
        if self.sleep_level is not None:
            raise ValueError(
                "`hand_over: nccl` takes a GPU for each rank, and servers with a `sleep_level` are on the learner's: "
                "say `hand_over: files`"
            )
        if self.ahead:
            raise ValueError(
                "`hand_over: nccl` keeps no files for a server that fails while `ahead: 1` has the learner change the "
                "weights: say `hand_over: files`, or `ahead: 0`"
            )
        return self


class VllmServerSampler(Sampler):
    """The engine."""

    entropy = "sampled"
    plays_a_copy = True

    def __init__(self, config: Config, policy: Policy) -> None:
        from policies.samplers.serving import nccl
        from policies.samplers.serving.client import connect
        from policies.samplers.serving.fleet import EventLoop, Fleet, FleetMember
        from policies.samplers.serving.group_hand_over import GroupHandOver
        from policies.samplers.serving.weight_files import WeightFiles
        from policies.samplers.serving.weight_group import WeightGroup

        if config.hand_over == "nccl":
            nccl.require_possible(policy.device)
        self.config, self.policy, self.version = config, policy, policy.version
        self._name = secrets.token_hex(4)  # marks labels of weights as ours; decides nothing that is played
        self._num_syncs = count()
        self._jitter = random.Random(self._name)
        self._weight_files, self._loop = WeightFiles(config.weights), EventLoop()
        self._adapter_files = WeightFiles(config.weights)
        self._base: tuple[int, str, Path] | None = None  # merges so far, label, folder of what adapters stand beside
        self._session = self._loop.run(connect())
        self._server_list = ServerList(config.urls, config.urls_file, config.every_address)
        self._num_doubted = 0  # streams of rows in a row that were played with other weights, in part
        self._list_fault: str | None = None  # why the list could not be read when it was last looked at
        about = (self._session, config.in_flight, config.timeout_s, config.sleep_level)
        self._fleet = Fleet(lambda url: FleetMember(url, *about))
        self._by_group: GroupHandOver | None = None
        if config.hand_over == "nccl":
            group = WeightGroup(lambda: nccl.NcclEnd(policy.device))
            self._by_group = GroupHandOver(self._fleet, group)
        try:
            self._fleet.set_servers(self._server_list.read())
            self._hands_adapters = self._may_hand_adapters()
            self.sync(policy.version)
        except BaseException:
            self.close()
            raise

    def sync(self, version: int) -> None:
        """Hand the weights over and bring the servers up to them. Raises `PolicyError`: no server can be."""
        from policies.samplers.serving.fleet import Weights
        from policies.samplers.weight_check import make_server_check

        number = next(self._num_syncs)
        label = f"{version}-{self._name}-{number}"
        is_due = number % self.config.probe_every == 0
        check = make_server_check(self.policy)
        if self._hands_adapters:
            base_label, folder = self._put_base(label)
            adapter = self._put_adapter(label)
            self._fleet.weights = Weights(version, base_label, lambda: folder, check, is_due, adapter)
        elif self._by_group is not None:
            weights = Weights(version, label, self._put_when_asked(version, label), check, is_due)
            self._fleet.weights = weights
            self._look_up_servers()
            self._loop.run(self._by_group.run(weights, [*self.policy.plain_weights()]))
        else:
            folder = self._put_whole(label)
            self._fleet.weights = Weights(version, label, lambda: folder, check, is_due)
        self._bring_up()
        self.version = version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Generate one row a request, in their order; rows that no server could play are `lost`.

        Raises `PolicyError`: no server is there, more than a tenth of the rows are lost, or a request is refused.
        """
        self._fleet.require_fitting(requests)
        return self._loop.run(self._begin(sampling).run(requests))

    def stream(self, sampling: Sampling) -> RowStream:
        """Begin a batch whose rows are asked for one by one. Raises as `generate` does."""
        from policies.samplers.serving.request_batch import ServerRows

        return ServerRows(self._loop, self._begin(sampling), self._note_doubted)

    def _begin(self, sampling: Sampling) -> RequestBatch:
        from policies.samplers.serving.request_batch import RequestBatch

        members, weights = self._bring_up(), self._fleet.weights
        assert weights is not None, "the fleet has been brought up to something"
        return RequestBatch(self._fleet, members, sampling, self.policy.stop_ids, weights, self._jitter)

    def _note_doubted(self, episodes: frozenset[int]) -> None:
        """Count the batches in a row that had to be played anew, in part. `PolicyError`: it goes on."""
        from policies.samplers.serving.request_batch import ATTEMPTS, OTHER_WEIGHTS

        self._num_doubted = self._num_doubted + 1 if episodes else 0
        if self._num_doubted == ATTEMPTS:
            raise PolicyError(OTHER_WEIGHTS)

    def make_room(self) -> None:
        """Put the servers to sleep, where the spec asks for that. Raises `PolicyError`: one will not be asked."""
        self._loop.run(self._fleet.fall_asleep())

    def _bring_up(self) -> list[FleetMember]:
        """Bring the servers there are up to the weights; give those that play. They wake into memory that is free."""
        if self.config.sleep_level is not None:
            self.policy.free_memory()
        self._look_up_servers()
        members = self._loop.run(self._fleet.bring_up())
        own, context = self.policy.context, self._fleet.context
        if context != self.context and context is not None and (own is None or context < own):
            self._fleet.news.append(
                f"the servers take {context} tokens in a row, prompt and answer together; the policy reads "
                f"{own or 'any number'}"
            )
        self.context = context
        return members

    def _may_hand_adapters(self) -> bool:
        """Whether adapters go to the servers alone."""
        adapter, how = self.policy.adapter, self.config.hand_over
        if adapter is None or how == "files":
            return False
        if how == "adapter":
            return True
        if unable := self._loop.run(self._fleet.without_adapters(adapter.rank)):
            self._fleet.news.append(
                f"weights go to the servers whole: {', '.join(unable)} loads no adapters of rank {adapter.rank} "
                "(--enable-lora, --max-lora-rank)"
            )
        return not unable

    def _put_whole(self, label: str) -> Path:
        """Write the weights, adapters merged; their folder."""
        return self._weight_files.put(partial(self.policy.save_merged, tokenizer=False), label)

    def _put_when_asked(self, version: int, label: str) -> Callable[[], Path]:
        """Write the weights for the first server that needs them as files."""
        from policies.samplers.serving.client import ServerFault

        lock, written = Lock(), list[Path]()

        def put() -> Path:
            with lock:
                if not written and self.policy.version != version:
                    raise ServerFault(f"there are no files of the version {version}, which the policy has left behind")
                if not written:
                    written.append(self._put_whole(label))
                return written[0]

        return put

    def _put_base(self, label: str) -> tuple[str, Path]:
        """Write what adapters stand beside, where a merge has changed it; its label and folder."""
        num_merges = self.policy.num_merges
        if self._base is None or self._base[0] != num_merges:
            self._base = num_merges, label, self._weight_files.put(self.policy.save_base, label)
        return self._base[1:]

    def _put_adapter(self, label: str) -> HandedAdapter:
        """Write the adapters as they are."""
        from policies.samplers.serving.fleet import OUR_ADAPTERS, HandedAdapter

        assert self.policy.adapter is not None
        name = f"{OUR_ADAPTERS}{label}"
        folder = self._adapter_files.put(self.policy.save_adapters, name)
        return HandedAdapter(name, folder, self.policy.adapter.rank)

    def _look_up_servers(self) -> None:
        """See which servers there are now; where that cannot be told, those there were."""
        try:
            self._fleet.set_servers(self._server_list.read())
            self._list_fault = None
        except PolicyError as error:
            if str(error) != self._list_fault:
                self._fleet.news.append(f"{error}; the servers stay those there were")
            self._list_fault = str(error)

    def take_news(self) -> list[str]:
        """Say which servers were left out or are back, what failed in mid-batch, and how many rows are lost."""
        news, self._fleet.news = self._fleet.news, []
        return news

    def close(self) -> None:
        """Let go of connections and directories; the servers go on, with the weights they have, or sleep."""
        with suppress(PolicyError):
            self.make_room()
        if self._by_group is not None:
            self._loop.run(self._by_group.close())
        self._loop.run(self._session.close())
        self._loop.close()
        self._weight_files.close()
        self._adapter_files.close()


def create(config: Config, policy: Policy) -> VllmServerSampler:
    """Make the sampler of a policy, its servers brought up to the policy's weights."""
    return VllmServerSampler(config, policy)

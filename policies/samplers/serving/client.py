"""One vLLM server over HTTP: asked for rows, for its weights' label, and to load other weights.

All of it but `/health` and `/v1/completions` exists only where the server was started with VLLM_SERVER_DEV_MODE=1,
and none of it asks who calls: such servers belong on loopback or a private network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from pydantic import BaseModel, ValidationError

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, Sampling, Span
from policies.samplers.vllm import sampling_fields

CHECK_S = 10.0  # for an answer that takes no work
SWAP_S = 600.0  # for weights to be read from a disk
SLEEP_S = 120.0  # for weights to be copied between a GPU and its host
COMPLETIONS = "/v1/completions"
BUSY = 429  # and all from 500 on: not our fault


class ServerFault(Exception):
    """A server did not answer, or not as it should: another one, or the same a little later, may."""


class RequestRefused(PolicyError):
    """A server will not have a request, and no other would: it is our mistake, or it was not started for training."""


async def connect() -> aiohttp.ClientSession:
    """Open a session for any number of servers; how many connections it takes is for its user to limit."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


class Server:
    """A server by its URL. Every method raises `ServerFault`, or `RequestRefused` for what no server would take."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url.rstrip("/"), session

    async def require_healthy(self) -> None:
        """Ask whether its engine lives."""
        await self._call("GET", "/health", CHECK_S)

    async def label(self) -> str | None:
        """Give the label of the weights it plays; a server that has just started has one of its own."""
        found = await self._json("GET", "/weight_info", CHECK_S)
        return str(found["weight_version"]) if found.get("weight_version") is not None else None

    async def play(
        self,
        request: Request,
        sampling: Sampling,
        stop_ids: Sequence[int],
        version: int,
        timeout_s: float | None,
        adapter: str | None = None,
    ) -> Generation:
        """Play one row; `version` is that of the weights the server is known to hold, `adapter` one it has loaded.

        `timeout_s`: None where the caller sees to that.
        """
        body = completion_body(request, sampling, stop_ids) | ({} if adapter is None else {"model": adapter})
        try:
            text = await self._call("POST", COMPLETIONS, timeout_s, body)
        except RequestRefused as refused:
            if adapter is None or adapter in await self.adapters():
                raise
            raise ServerFault(f"it has no adapter {adapter} any more (restarted?)") from refused
        return read_completion(text, request, stop_ids, version)

    async def swap(self, folder: Path, label: str) -> None:
        """Have it play a directory's weights once its rows in flight have ended; one not valid ends the server."""
        await self._call("POST", "/pause?mode=wait", SWAP_S)
        await self._call("POST", "/collective_rpc", SWAP_S, {"method": "reload_from", "args": [str(folder)]})
        await self._empty_cache()
        await self.set_label(label)
        await self._play_on(label)

    async def transfer_backend(self) -> str | None:
        """Give the backend of its `--weight-transfer-config`; None: it has none. Takes seconds."""
        transfer = (await self._configured()).get("weight_transfer_config")
        return transfer.get("backend") if isinstance(transfer, dict) else None

    async def num_workers(self) -> int:
        """Count its processes that hold weights, a rank of a group each."""
        return int((await self._json("GET", "/get_world_size", CHECK_S)).get("world_size", 1))

    async def join_group(self, meeting: dict[str, Any]) -> None:
        """Have its workers join a group; answered when all ranks have come."""
        await self._call("POST", "/init_weight_transfer_engine", SWAP_S, {"init_info": meeting})

    async def leave_group(self) -> None:
        """Have its workers leave the group they are in, if any, and an update that never ended."""
        try:
            await self._call("POST", "/shutdown_weight_transfer_engine", CHECK_S)
        except ServerFault:
            await self.abandon_update()
            await self._call("POST", "/shutdown_weight_transfer_engine", CHECK_S)

    async def begin_update(self) -> None:
        """Have it wait for weights once its rows in flight have ended."""
        await self._call("POST", "/pause?mode=wait", SWAP_S)
        await self._call("POST", "/start_weight_update", SWAP_S)

    async def receive(self, announced: dict[str, Any]) -> None:
        """Have it receive tensors of these names, types and shapes from its group."""
        await self._call("POST", "/update_weights", SWAP_S, {"update_info": announced})

    async def end_update(self, label: str) -> None:
        """Have it play what it received, under this label."""
        await self._call("POST", "/finish_weight_update", SWAP_S, {"weight_version": label})
        await self._empty_cache()
        await self._play_on(label)

    async def abandon_update(self) -> None:
        """Put it in order after an update that broke; its weights are then any, and it stays paused.

        vLLM keeps what it was about to load beside its layers until an update ends, and a failed one cannot be ended:
        so it is begun again, which is refused where it still goes on, and ended with nothing received.
        """
        await self.label()  # one that still waits in its group is not waited for longer than that
        with suppress(ServerFault):
            await self._call("POST", "/start_weight_update", SLEEP_S)
        await self._call("POST", "/finish_weight_update", SLEEP_S)

    async def _empty_cache(self) -> None:
        emptied = await self._json("POST", "/reset_prefix_cache", CHECK_S)
        if not emptied.get("success", False):
            raise ServerFault("it would not empty its prefix cache, which holds keys and values of old weights")

    async def _play_on(self, label: str) -> None:
        await self._call("POST", "/resume", CHECK_S)
        if (held := await self.label()) != label:
            raise ServerFault(f"it was given the weights {label} and says that it has {held}")

    async def set_label(self, label: str) -> None:
        """Have it say that it holds weights of this label."""
        await self._call("POST", "/update_weight_version", CHECK_S, {"new_version": label})

    async def is_asleep(self) -> bool:
        """Whether it plays nothing until it is woken: it was put to sleep, or paused and left so."""
        return bool((await self._json("GET", "/is_sleeping", CHECK_S)).get("is_sleeping", False))

    async def sleep(self, level: int) -> None:
        """Have it give its GPU's memory back, and rows up that are in flight; 1: it keeps its weights in the host's
        memory, 2: they are lost.
        """
        await self._call("POST", f"/sleep?level={level}&mode=abort", SLEEP_S)

    async def wake_up(self) -> None:
        """Have it take its memory again and play on."""
        if (status := (await self._json("POST", "/wake_up", SLEEP_S)).get("status")) != "awake":
            raise ServerFault(f"it was woken, and says that it is {status}")

    async def adapters(self) -> list[str]:
        """Name the adapters that it has loaded."""
        return [str(one["id"]) for one in await self._models() if one.get("parent")]

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Have it read an adapter, beside those it has; rows in flight go on."""
        await self._call("POST", "/v1/load_lora_adapter", SWAP_S, {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, name: str) -> None:
        """Have it forget an adapter."""
        await self._call("POST", "/v1/unload_lora_adapter", CHECK_S, {"lora_name": name})

    async def _models(self) -> list[dict[str, Any]]:
        listed = (await self._json("GET", "/v1/models", CHECK_S)).get("data")
        return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []

    async def context(self) -> int | None:
        """Give the most tokens of a row, which it would cut without a word; None: it does not say."""
        listed = await self._models()
        limit = listed[0].get("max_model_len") if listed else None
        return None if limit is None else int(limit)

    async def logprobs_mode(self) -> str | None:
        """Give its `--logprobs-mode`; None: it does not say. Takes seconds: it looks at its whole host."""
        model = (await self._configured()).get("model_config")
        return model.get("logprobs_mode") if isinstance(model, dict) else None

    async def largest_rank(self) -> int:
        """Give the largest rank of adapters that it loads while it plays; 0: it loads none. Takes seconds."""
        lora = (await self._configured()).get("lora_config")
        return int(lora.get("max_lora_rank", 0)) if isinstance(lora, dict) else 0

    async def can_sleep(self) -> bool:
        """Whether it was started with a sleep mode, which exists on GPUs alone. Takes seconds."""
        model = (await self._configured()).get("model_config")
        return isinstance(model, dict) and model.get("enable_sleep_mode") is True

    async def _configured(self) -> dict[str, Any]:
        try:
            found = await self._json("GET", "/server_info?config_format=json", SWAP_S)
        except RequestRefused:
            return {}
        config = found.get("vllm_config")
        return config if isinstance(config, dict) else {}

    async def _json(self, method: str, path: str, timeout_s: float) -> dict[str, Any]:
        text = await self._call(method, path, timeout_s)
        try:
            found = json.loads(text)
        except ValueError as wrong:
            raise ServerFault(f"its answer to {path} is not JSON: {text[:80]!r}") from wrong
        if not isinstance(found, dict):
            raise ServerFault(f"its answer to {path} is not an object: {text[:80]!r}")
        return found

    async def _call(self, method: str, path: str, timeout_s: float | None, body: object = None) -> bytes:
        what: dict[str, Any] = {"json": body, "timeout": aiohttp.ClientTimeout(total=timeout_s)}
        begun = time.monotonic()
        try:  # a redirected POST would become a GET without a body
            async with self._session.request(method, self.url + path, allow_redirects=False, **what) as answer:
                text = await answer.read()
        except TimeoutError as late:
            raise ServerFault(f"no answer to {path} in {time.monotonic() - begun:.0f} s") from late
        except (aiohttp.ClientError, OSError) as broken:
            raise ServerFault(f"{path}: {broken or type(broken).__name__}") from broken
        if answer.status == BUSY or answer.status >= 500:
            raise ServerFault(f"{path} answered {answer.status}: {_message(text)}")
        if 300 <= answer.status < 400:
            raise RequestRefused(f"{self.url}{path} redirects ({answer.status}): name the URL of the server itself")
        if answer.status >= 400:
            remedy = (
                ". Is this a vLLM server started for training? `evergreen serve SPEC` starts one; docs/samplers.md "
                "says how to start others"
            )
            is_odd = answer.status in (401, 403, 404, 405)
            said = f"{self.url}{path} answered {answer.status}: {_message(text)}"
            raise RequestRefused(said + (remedy if is_odd else ""))
        return text


def _message(text: bytes) -> str:
    """Find the server's own words in an error's body."""
    words = text.decode(errors="replace").strip()
    try:
        found = json.loads(words)
    except ValueError:
        return words[:300]
    error = found.get("error", found) if isinstance(found, dict) else found
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300].rstrip(".")


class _Logprobs(BaseModel):
    token_logprobs: list[float]


class _Choice(BaseModel):
    token_ids: list[int]
    prompt_token_ids: list[int]
    finish_reason: str
    logprobs: _Logprobs


class _Completion(BaseModel):
    choices: tuple[_Choice]


def completion_body(request: Request, sampling: Sampling, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Write a request as the body of a POST; asked twice, it is the same request."""
    return {
        **sampling_fields(request, sampling, stop_ids),
        "prompt": list(request.ids),
        "add_special_tokens": False,
        "logprobs": 0,  # of the sampled token alone
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,  # not as text, which nobody reads
    }


def read_completion(text: bytes, request: Request, stop_ids: Sequence[int], version: int) -> Generation:
    """Read an answer. Raises `ServerFault`: it is not whole, does not belong to the request, or contradicts itself."""
    try:
        (choice,) = _Completion.model_validate_json(text).choices
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ServerFault(f"its answer cannot be read: {where or 'the whole'}: {first['msg']}") from wrong
    ids, logprobs = tuple(choice.token_ids), np.asarray(choice.logprobs.token_logprobs, dtype=np.float32)
    reason, has_stopped = choice.finish_reason, bool(ids) and ids[-1] in stop_ids
    runs_on = not (has_stopped or len(ids) == request.budget) or not {*stop_ids}.isdisjoint(ids[:-1])
    sent, is_fine = f"it sent {len(ids)} tokens", (np.isfinite(logprobs) & (logprobs <= 0)).all()
    faults = {
        "it answered another prompt than the one sent": choice.prompt_token_ids != list(request.ids),
        f"it gave a row up (finish_reason {reason!r})": reason not in ("stop", "length"),
        f"{sent} for a budget of {request.budget}, and they do not end where a stop token is": runs_on,
        f"{sent} for a budget of {request.budget}": len(ids) > request.budget,
        f"{sent} and {len(logprobs)} log-probs": len(logprobs) != len(ids),
        "it sent a log-prob that is not finite or above 0": not is_fine,
    }
    for fault, is_so in faults.items():
        if is_so:
            raise ServerFault(fault)
    # how the row ended is said by its own tokens; the server only has to agree that it ended well
    return Generation(ids, logprobs, None, "stop" if has_stopped else "length", (Span(version, 0, len(ids)),))

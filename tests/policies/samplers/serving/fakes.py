"""A server with a character: speaks as vLLM's does, plays a real policy's weights, and fails as it is told to."""

from __future__ import annotations

import copy
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from safetensors.torch import load_file

from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.testing import fresh_logprobs, random_policy
from policies.samplers.transformers import Config, create
from policies.samplers.vllm_server import VllmServerSampler
from tests.policies.samplers.serving.in_memory import Seat

START = "default"  # the label of the weights that a server starts with
PLAYING = threading.Lock()  # the library is not made for two threads at once

Make = Callable[..., VllmServerSampler]  # takes the options of a sampler on the fake servers


class FakeServer:
    """A server on a port of this host. `script` says how the next completions go; when it is empty they go well."""

    def __init__(self, port: int = 0, policy: Policy | None = None) -> None:
        self.script: deque[str] = deque()
        self.policy: Policy = policy or random_policy(seed=99)  # other weights than anybody's
        self._first = {name: tensor.clone() for name, tensor in self.policy.model.state_dict().items()}
        self.is_paused = False
        self.label, self.is_healthy, self.empties_its_cache, self.tells = START, True, True, True
        self.logprobs_mode, self.context = "processed_logprobs", 4096
        self.largest_rank, self.adapters = 0, dict[str, Path]()  # by name
        self.can_sleep, self.is_asleep, self.falls_asleep = False, False, True
        self.transfer_backend: str | None = None
        self.num_workers = 1
        self.seat: Seat | None = None
        self.is_updating, self.takes_updates = False, True
        self.before_tensor: Callable[[int], object] = lambda number: None  # of those that one update brings
        self.received: list[str] = []  # labels of updates through a group, in order
        self.loaded: list[str] = []  # labels, in order
        self.called: list[str] = []  # paths
        self.played: list[int] = []  # seeds of completions that went well
        self.bodies: list[dict[str, Any]] = []
        self.before_completion: Callable[[int], object] = lambda number: None  # told how many there were
        self.port = port
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"fake": self})
        self._http = _Http(("127.0.0.1", self.port), handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        """End, with everything that is in flight."""
        self._http.shutdown()
        self._http.server_close()
        for connection in list(self._http.open):
            connection.close()

    def forget(self) -> None:
        """Hold the start weights again, as after a restart."""
        self.policy.model.load_state_dict(self._first)
        self.label, self.is_asleep = START, False
        self.seat, self.is_updating = None, False
        self.adapters.clear()

    def sleep(self, level: int) -> None:
        """Fall asleep; at level 2 its label and the names of its adapters outlive what they stand for."""
        self.is_asleep = True
        if level == 2:
            for parameter in self.policy.model.parameters():
                parameter.data.zero_()
            self.adapters = {name: Path("lost") for name in self.adapters}

    def restart(self) -> None:
        self.die()
        self.forget()
        self.start()

    def load(self, folder: str) -> None:
        for file in Path(folder).glob("*.safetensors"):
            self.policy.model.load_state_dict(load_file(file), strict=False)  # a tied head is not among them
        self.loaded.append(Path(folder).name)

    def transfer(self, path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Answer what vLLM 0.32 answers about weights that come through a group; None: it is about something else."""
        if path == "/get_world_size":
            return 200, {"world_size": self.num_workers}
        if path not in _TRANSFERS:
            return None
        try:
            return 200, {"message": _TRANSFERS[path](self, body)}
        except (RuntimeError, ConnectionError) as error:
            said = f"Call to collective_rpc method failed: Worker failed with error '{error}', please check the stack"
            return 500, {"error": {"message": said, "type": "InternalServerError", "param": None, "code": 500}}

    def join_group(self, body: dict[str, Any]) -> str:
        self._require(self.transfer_backend == "nccl", "Weight transfer not configured.")
        info = body["init_info"]
        assert {*info} == {*_INIT_INFO}
        meeting = info["master_port"], info["rank_offset"], self.num_workers, info["world_size"]
        self.seat = Seat(*meeting)
        return "Weight transfer initialized"

    def leave_group(self, body: dict[str, Any]) -> str:
        self._require(not self.is_updating, "Cannot release a trainer connection during a weight update")
        self.seat = None
        return "Weight transfer shut down"

    def start_update(self, body: dict[str, Any]) -> str:
        self._require(self.transfer_backend == "nccl", "Weight transfer not configured.")
        self._require(self.takes_updates, "CUDA out of memory")
        self._require(not self.is_updating, "start_weight_update called while a weight update is already active.")
        self.is_updating = True
        return "Weight update started"

    def receive(self, body: dict[str, Any]) -> str:
        self._require(self.is_updating, "start_weight_update must be called before update_weights.")
        assert self.is_paused, "rows would be played with some of the new weights"
        info, state = body["update_info"], self.policy.model.state_dict()
        assert {*info} == {"names", "dtype_names", "shapes"}
        self.is_updating = False  # if it fails
        self._require(self.seat is not None, "NCCL weight transfer not initialized.")
        assert self.seat is not None
        types = zip(info["names"], info["dtype_names"], self.seat.receive(info["shapes"]), strict=True)
        for number, (name, dtype, tensor) in enumerate(types):
            self.before_tensor(number)
            assert str(tensor.dtype) == f"torch.{dtype}"
            state[name].copy_(tensor)
        self.is_updating = True
        return "Weights updated"

    def finish_update(self, body: dict[str, Any]) -> str:
        self._require(self.is_updating, "finish_weight_update called without a matching start_weight_update.")
        self.is_updating = False
        if (label := body.get("weight_version")) is not None:
            self.label = label
            self.received.append(label)
        return "Weight update finished"

    def _require(self, is_so: bool, error: str) -> None:
        if not is_so:
            raise RuntimeError(error)

    def play(self, body: dict[str, Any]) -> dict[str, Any]:
        sampling = Sampling(
            temperature=body["temperature"] or 1.0,
            top_p=body["top_p"],
            top_k=body["top_k"],
            greedy=body["temperature"] == 0,
        )
        request = Request(tuple(body["prompt"]), body["seed"], body["max_tokens"])
        policy = self.policy
        if "model" in body:
            policy = replace(policy, model=with_adapter(policy.model, self.adapters[body["model"]]))
        policy.stop_ids = tuple(body["stop_token_ids"])
        (generation,) = create(Config(), policy).generate([request], sampling)
        logprobs = generation.logprobs
        if self.logprobs_mode != "processed_logprobs":
            logprobs = np.minimum(fresh_logprobs(policy, request, generation, 1.0), 0)
        return {
            "index": 0,
            "text": "",
            "token_ids": list(generation.ids),
            "prompt_token_ids": body["prompt"],
            "finish_reason": generation.finish,
            "logprobs": {"token_logprobs": logprobs.tolist()},
        }


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # connections that find no room wait for a second
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open: set[_Connection] = set()

    def handle_error(self, *args: Any) -> None:
        pass  # a connection that was cut

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(_Connection(request))
        super().process_request(request, client_address)


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def close(self) -> None:
        with suppress(OSError):  # its client was faster
            self.sock.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._route({}))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        if self.path in _TRANSFERS:  # some wait for another server
            self._answer(self._route(body))
            return
        with PLAYING:
            if self.path == "/v1/completions":
                self._complete(body)
            else:
                self._answer(self._route(body))

    def _route(self, body: dict[str, Any]) -> tuple[int, Any]:
        fake, path = self.fake, urlsplit(self.path).path
        fake.called.append(path)
        if path == "/health":
            return (200 if fake.is_healthy else 503), {}
        if path == "/weight_info":
            return 200, {"weight_version": fake.label}
        if path == "/server_info" and fake.tells:
            lora = {"max_lora_rank": fake.largest_rank} if fake.largest_rank else None
            model = {"logprobs_mode": fake.logprobs_mode, "enable_sleep_mode": fake.can_sleep}
            transfer = {"backend": fake.transfer_backend} if fake.transfer_backend else None
            return 200, {
                "vllm_config": {"model_config": model, "lora_config": lora, "weight_transfer_config": transfer}
            }
        if (answer := fake.transfer(path, body)) is not None:
            return answer
        if path in ("/pause", "/resume"):
            fake.is_paused = path == "/pause"
        if path == "/is_sleeping":
            return 200, {"is_sleeping": fake.is_asleep}
        if path == "/sleep":
            if not fake.falls_asleep:
                return 500, {"error": {"message": "out of memory", "code": 500}}
            fake.sleep(int(parse_qs(urlsplit(self.path).query)["level"][0]))
        if path == "/wake_up":
            fake.is_asleep = False
            return 200, {"status": "awake", "tags": None}
        if path == "/v1/models":
            models = [{"id": "policy", "max_model_len": fake.context}]
            return 200, {"data": [*models, *({"id": name, "parent": "policy"} for name in fake.adapters)]}
        if path == "/v1/load_lora_adapter" and fake.largest_rank:
            fake.adapters[body["lora_name"]] = Path(body["lora_path"])
            return 200, "Success"
        if path == "/v1/unload_lora_adapter" and fake.largest_rank:
            del fake.adapters[body["lora_name"]]
            return 200, "Success"
        if path == "/reset_prefix_cache":
            return 200, {"success": fake.empties_its_cache}
        if path == "/update_weight_version":
            fake.label = body["new_version"]
        elif path == "/collective_rpc":
            assert body["method"] == "reload_from"
            fake.load(*body["args"])
        elif path not in ("/pause", "/resume", "/sleep"):
            return 404, {"detail": "Not Found"}
        return 200, {}

    def _complete(self, body: dict[str, Any]) -> None:
        fake = self.fake
        fake.called.append(self.path)
        fake.bodies.append(body)
        fake.before_completion(len(fake.bodies))
        assert not fake.is_asleep, "it would wait until it is woken"
        if (name := body.get("model")) is not None and name not in fake.adapters:
            self._answer((404, {"error": {"message": f"The model `{name}` does not exist.", "code": 404}}))
            return
        how = fake.script.popleft() if fake.script else "well"
        if how.isdigit():
            self._answer((int(how), {"error": {"message": f"scripted {how}", "code": int(how)}}))
            return
        choice = fake.play(body)
        _SPOILT[how](choice)
        if how == "well":
            fake.played.append(body["seed"])
        self._answer((200, {"choices": [choice]}), cut=how == "reset")

    def _answer(self, answer: tuple[int, Any], cut: bool = False) -> None:
        status, content = answer
        text = json.dumps(content).encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/health")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: len(text) // 2] if cut else text)
        self.close_connection = cut


def with_adapter(model: Any, folder: Path) -> Any:
    """Copy a model with an adapter of peft's layout merged: W + (alpha / r) B A."""
    config, saved = (
        json.loads((folder / "adapter_config.json").read_text()),
        load_file(folder / "adapter_model.safetensors"),
    )
    merged = copy.deepcopy(model)
    for name, a in saved.items():
        if ".lora_A." in name:
            layer = merged.get_submodule(name.removeprefix("base_model.model.").partition(".lora_A.")[0])
            delta = saved[name.replace(".lora_A.", ".lora_B.")] @ a
            layer.weight.data += config["lora_alpha"] / config["r"] * delta
    return merged


_TRANSFERS = {
    "/init_weight_transfer_engine": FakeServer.join_group,
    "/shutdown_weight_transfer_engine": FakeServer.leave_group,
    "/start_weight_update": FakeServer.start_update,
    "/update_weights": FakeServer.receive,
    "/finish_weight_update": FakeServer.finish_update,
}
_INIT_INFO = (
    *("master_address", "master_port", "world_size", "rank_offset"),
    *("packed", "packed_buffer_size_bytes", "packed_num_buffers"),
)


def _last_logprob(choice: dict[str, Any], value: float) -> None:
    choice["logprobs"]["token_logprobs"][-1] = value


_SPOILT = {
    "well": lambda choice: None,
    "reset": lambda choice: None,
    "short": lambda choice: choice["logprobs"]["token_logprobs"].pop(),
    "too many": lambda choice: (
        choice["token_ids"].extend(choice["token_ids"] * 20),
        choice["logprobs"]["token_logprobs"].extend(choice["logprobs"]["token_logprobs"] * 20),
    ),
    "cut": lambda choice: (choice["token_ids"].pop(), choice["logprobs"]["token_logprobs"].pop()),
    "abort": lambda choice: choice.update(finish_reason="abort"),
    "error": lambda choice: choice.update(finish_reason="error"),
    "other prompt": lambda choice: choice["prompt_token_ids"].append(1),
    "positive": lambda choice: _last_logprob(choice, 0.5),
    "nan": lambda choice: _last_logprob(choice, float("nan")),
    "no ids": lambda choice: choice.pop("token_ids"),
}

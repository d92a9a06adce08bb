"""A resources server of NeMo Gym's own, for the interpreter of an environment in which `nemo-gym` is installed.

.venv-nemo-gym/bin/python tests/environments/remote/nemo_gym_server.py NAME PORT
"""

from __future__ import annotations

import sys
from importlib import import_module
from unittest.mock import MagicMock

import uvicorn
from nemo_gym.server_utils import ServerClient

if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[2])
    module = import_module(f"resources_servers.{name}.app")
    (made,) = (
        one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__
        and hasattr(one, "setup_webserver")
    )  # fmt: skip
    config = made.model_fields["config"].annotation(host="127.0.0.1", port=port, entrypoint="", name=name)
    # the client is for other servers of theirs, of which there are none
    server = made(config=config, server_client=MagicMock(spec=ServerClient))
    uvicorn.run(server.setup_webserver(), host="127.0.0.1", port=port, log_level="warning")

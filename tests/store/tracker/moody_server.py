"""A real MLflow server that can be told to fail. Run as a script: DATABASE ARTIFACTS MOOD; prints its port.

The mood is a file: `well`, `ill` (500 to everything), `shaky` (500 instead of every third request, and every
fifth is answered with a 500 after it was done), read at every request.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def moody(app: Wsgi, mood: Path) -> Wsgi:
    numbers = count(1)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        now, number = mood.read_text(), next(numbers)
        if now == "well":
            return app(environ, start_response)
        if now == "shaky" and number % 3:
            if number % 5:
                return app(environ, start_response)
            list(app(environ, lambda *args: None))
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"not today"]

    return answer


def serve(database: str, artifacts: str, mood: str) -> None:
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{database}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlflow-artifacts:/"
    os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = artifacts
    os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
    from mlflow.server import app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, moody(app.wsgi_app, Path(mood)), threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])

"""Serve predictions over HTTP: photos are sent to it, and it replies with the JSON that predict.py writes.

    python -m serving.http                 http://127.0.0.1:8000, with outputs/default, else the run trained last
    python -m serving.http --onnx outputs/default/onnx --host 0.0.0.0 --token-file token.txt
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

It can be reached from this computer only, unless --host says otherwise. Photos are held in memory until they are
predicted, and never written; requests are counted, not recorded. With --onnx, torch need not be installed.
Needs FastAPI: `python scripts/install.py http`
"""

import argparse
import importlib
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core.cli import UserError, command_parser, cpu_count, not_negative, positive_int, run_cli
from serving.cli import add_pipeline_flags, open_pipeline, pipeline_options

PACKAGES = ("fastapi", "uvicorn", "python_multipart")
STOP_SECONDS = 30
"""Time that requests have for their end once the service is told to stop."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    require_packages()
    from serving.service.app import ServiceSettings, build_app
    from serving.service.limits import read_token

    token = read_token(args.token_file)
    models, faces = pipeline_options(args)
    # Photos are spread over threads, which would fight over the cores.
    pipeline = open_pipeline(replace(models, threads=1), faces)
    settings = ServiceSettings(
        tuple(pipeline.classify.tasks),
        workers=args.workers or cpu_count(),
        most_waiting=args.queue,
        most_bytes=args.most_megabytes * 1_000_000,
        per_minute=args.per_minute,
        token=token,
    )
    if token is None and args.host not in LOOPBACK:
        print(f"warning: whoever reaches {args.host} may ask; --token-file asks them for a token", file=sys.stderr)
    listener = listen(args.host, args.port)
    where = f"[{args.host}]" if ":" in args.host else args.host
    print(f"the service is at http://{where}:{listener.getsockname()[1]} until Ctrl-C", flush=True)
    serve(build_app(pipeline, settings), listener)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_pipeline_flags(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other computers in")
    parser.add_argument("--port", type=not_negative, default=8000, help="port to listen on; 0 for a free one")
    parser.add_argument("--token-file", type=Path, help="file with the token that requests need (or SERVICE_TOKEN)")
    parser.add_argument("--most-megabytes", type=positive_int, default=20, help="largest body of a request")
    parser.add_argument("--queue", type=positive_int, default=64, help="photos that may wait; others get a 503")
    parser.add_argument("--per-minute", type=not_negative, default=0, help="requests of one address; 0 for no limit")
    parser.add_argument("--workers", type=positive_int, help="photos at once (default: one for each core)")
    return parser.parse_args(argv)


def require_packages() -> None:
    """UserError if a package of the service is not installed."""
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            hint = "python scripts/install.py http"
            raise UserError(f"{package} cannot be imported ({error}); install it with {hint}") from None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. UserError if the address or port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot be listened on ({error})") from None


def serve(app: object, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; requests under way are replied to first."""
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    # uvicorn ends on both signals, then raises them anew for whoever handled them before.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([listener])
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    run_cli(main)

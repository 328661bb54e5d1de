"""Serve a page to try a trained run: upload a photo or take one with the camera, and see a box and labels on each face.

    python -m serving.demo                 http://127.0.0.1:7860, with outputs/default, else the run trained last
    python -m serving.demo --onnx outputs/default/onnx --port 8000

The page speaks English or Korean, as the browser asks for, or as --language says. It can be reached from this computer
only, unless --host says otherwise. A photo is deleted half a minute after its prediction, nothing is recorded, and
nothing is sent to other computers. Needs gradio: `python scripts/install.py demo`
"""

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from core.cli import command_parser, positive_int, run_cli
from core.languages import CHOICES
from serving.cli import add_pipeline_flags, open_pipeline, pipeline_options
from serving.page import build_page, gradio_package, serve


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    gradio = gradio_package()
    pipeline = open_pipeline(*pipeline_options(args))
    with TemporaryDirectory(prefix="demo-") as upload_dir:
        page = build_page(gradio, pipeline, Path(upload_dir), args.language)
        serve(gradio, page, host=args.host, port=args.port, most_megabytes=args.most_megabytes)
        print(f"the page is at {page.local_url} until Ctrl-C", flush=True)
        try:
            wait_for_ctrl_c()
        finally:
            page.close()


def wait_for_ctrl_c() -> None:
    """Gradio's own waiting would end with exit code 0."""
    threading.Event().wait()


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_pipeline_flags(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other computers in")
    parser.add_argument("--port", type=positive_int, default=7860, help="port to listen on")
    parser.add_argument("--most-megabytes", type=positive_int, default=20, help="largest upload")
    spoken = "language of the page; both: that of each visitor's browser"
    parser.add_argument("--language", choices=CHOICES, default="both", help=spoken)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_cli(main)

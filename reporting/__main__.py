"""One page about a run: what it was made from, how it learned, how good it is and where it is wrong.

    python -m reporting                                      outputs/default/report/index.html
    python -m reporting --run-dir outputs/first --language en

The page is one file that opens from disk, without a network. Parts that the run has not got say so. It holds small
pictures of the photos, so pass it on only to those who may see them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from core import files
from core.cli import add_run_dir, command_parser, positive_int, run_cli
from reporting import gradcam
from reporting.i18n import CHOICES, voice_of
from reporting.load import gather
from reporting.page import render


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    data = gather(args.run_dir, args.truth)
    looks = gradcam.Looks() if args.heat and gradcam.is_installed() else None
    if args.heat and looks is None:
        print(f"no heat over the mistakes: it needs a further package ({gradcam.INSTALL})")
    page = render(data, voice_of(args.language), mistakes=args.mistakes, looks=looks)
    path = args.run_dir / "report" / "index.html"
    files.write_text(path, page)
    print(f"{path}: {len(page.encode()) / 1e6:.1f} MB, opens in any browser")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_run_dir(parser)
    parser.add_argument("--language", choices=CHOICES, default="both", help="both puts a switch on the page")
    parser.add_argument("--mistakes", type=positive_int, default=8, help="wrong answers shown per task")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="CSV with ImageID and ans of the eval photos")
    parser.add_argument(
        "--heat", action=argparse.BooleanOptionalAction, default=True, help="show where the models looked"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_cli(main)

"""Draw the boxes of faces that the detector did not find, on a page in your browser.

    python preprocessing/annotate_faces.py

Result: boxes.csv, saved after every box, for `detect_faces.py --manual boxes.csv`; photos marked "no face" go to
boxes_no_face.csv. It shows the photos of crop_images/faces.csv whose status is fallback or missing, goes on where it
stopped, and ends with Ctrl-C or the page's Finish button. Only this machine can reach the page.
"""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

# Run as a script, only this folder is on the path, not the repository that `core` lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.cli import UserError, add_crop_dir, command_parser, run_cli
from core.files import remove_stale
from preprocessing.annotation import Marks, choose, no_face_path_of
from preprocessing.annotation_server import Annotation, AnnotationServer
from storage import crops
from storage.layouts import Dataset, scan

DEFAULT_STATUSES = ("fallback", "missing")
LAST_PORT = 65535


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    annotation = open_annotation(args)
    if not annotation.outcomes:
        print(f"{args.crop_dir}: no photo of status {' or '.join(args.status)}, nothing to draw")
        return
    with open_server(annotation, args.port) as server:
        print(f"{len(annotation.outcomes)} photos, {annotation.left()} without a mark; open {server.url}", flush=True)
        with TemporaryDirectory(prefix="annotate-") as folder:
            if args.open:
                open_page(server.url, Path(folder))
            try:
                server.serve_forever()
            finally:
                print_summary(annotation, args)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_crop_dir(parser)
    parser.add_argument("--status", nargs="+", default=list(DEFAULT_STATUSES), help="show photos of these statuses")
    parser.add_argument("--list", type=Path, metavar="FILE", help="show the photos of this CSV's image_id instead")
    parser.add_argument("--boxes", type=Path, metavar="FILE", default=Path("boxes.csv"), help="table that boxes go to")
    parser.add_argument("--port", type=int, default=0, help="0 finds a free one")
    parser.add_argument("--open", action="store_true", help="open the page in the default browser")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= LAST_PORT:
        raise UserError(f"--port {args.port}: allowed is 0 to {LAST_PORT}")
    if args.boxes.suffix.lower() != ".csv" or args.boxes.is_dir():
        raise UserError(f"--boxes {args.boxes}: must be a file that ends in .csv")
    return args


def open_annotation(args: argparse.Namespace) -> Annotation:
    outcomes = choose(args.crop_dir, statuses=args.status, list_path=args.list)
    dataset = open_dataset(args.crop_dir)
    # The folder may be the project's, or hold anything.
    remove_stale(args.boxes.parent, below=False)
    return Annotation(dataset, outcomes, Marks(args.boxes, dataset))


def open_dataset(crop_dir: Path) -> Dataset:
    """Scan the photos that the crop folder was made from. UserError if they are not known or not there."""
    source = crops.read_source(crop_dir)
    if "data_root" not in source:
        raise UserError(f"crop folder {crop_dir}: no data root in its source.json; run preprocessing/detect_faces.py")
    return scan(Path(source["data_root"]), source.get("layout"))


def open_server(annotation: Annotation, port: int) -> AnnotationServer:
    try:
        return AnnotationServer(annotation, port)
    except OSError as error:
        raise UserError(f"--port {port}: cannot be used ({error.strerror}); 0 finds a free one") from error


def open_page(url: str, folder: Path) -> None:
    """Open the page in the browser by way of a file that nobody else can read: all users see the arguments of programs,
    and the address holds the secret."""
    path = folder / "open.html"
    path.write_text(f'<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">{url}</a>', encoding="utf-8")
    webbrowser.open(path.as_uri())


def print_summary(annotation: Annotation, args: argparse.Namespace) -> None:
    done = len(annotation.outcomes) - annotation.left()
    print(f"\n{done} of {len(annotation.outcomes)} photos marked: {args.boxes}, {no_face_path_of(args.boxes)}")
    if args.boxes.exists():
        print(f"next: python preprocessing/detect_faces.py --crop-dir {args.crop_dir} --manual {args.boxes}")
    if no_face_path_of(args.boxes).exists():
        print(f"not to learn from photos without a face: python train.py --label-fixes {no_face_path_of(args.boxes)}")


if __name__ == "__main__":
    run_cli(main)

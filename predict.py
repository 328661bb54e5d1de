"""Find every face in photos, videos or a camera's view, and predict mask status, gender and age of each.

    python predict.py photo.jpg                       predictions/photo.jpg with boxes, predictions/predictions.json
    python predict.py photos/ --format csv --out seen     a folder, with all folders in it
    python predict.py clip.mp4                        predictions/clip.mp4, and a table by frame
    python predict.py 0 --show                        camera 0, until Ctrl-C
    python predict.py photos/ --onnx outputs/default/onnx     an exported model; torch need not be installed

Faces are cropped by the code and with the settings of training; the folds of a task are averaged as ensemble.py does.
A file that cannot be read is named and left out; the command then ends with exit code 2.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, command_parser, name_some, positive_int, progress, run_cli
from core.images import EXTENSIONS, UnreadablePhoto, read_photo, write_photo
from serving import video
from serving.cli import add_pipeline_flags, open_pipeline, pipeline_options
from serving.drawing import annotated
from serving.faces import VIDEO_ATTEMPTS, Pipeline
from serving.records import describe, face_record, face_rows
from serving.smoothing import Smoother
from serving.types import FacePrediction
from storage.layouts import scan

TABLE = "predictions"
WINDOW = "Ctrl-C or q to stop"


@dataclass
class Results:
    """Predictions by photo or frame, nested for JSON and flat for CSV; and the files that cannot be read."""

    records: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, source: dict[str, Any], faces: Sequence[FacePrediction]) -> None:
        self.records.append({**source, "faces": [face_record(face) for face in faces]})
        self.rows += face_rows(source, faces)

    @property
    def face_count(self) -> int:
        return sum(len(record["faces"]) for record in self.records)

    def write(self, out_dir: Path, suffix: str) -> Path:
        path = out_dir / f"{TABLE}.{suffix}"
        if suffix == "json":
            files.write_json(path, {"unreadable": self.unreadable, "pictures": self.records})
        else:
            files.write_csv(path, pd.DataFrame(self.rows).convert_dtypes())
        return path


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    clip = clip_of(args.source)
    if clip is None:
        photos = photos_of(Path(args.source), args.out)
        results = predict_photos(photos, open_pipeline(*pipeline_options(args)), args.out)
    else:
        open_it = partial(open_pipeline, *pipeline_options(args), attempts=VIDEO_ATTEMPTS, retry=False)
        options = ClipOptions(args.smoothing, args.frames, args.show)
        results = predict_clip(clip, target_of(clip, args.out), open_it, options)
    path = results.write(args.out, args.format or ("json" if clip is None else "csv"))
    unit = "photos" if clip is None else "frames"
    print(f"{results.face_count} faces in {len(results.records)} {unit}: {path}, with boxes drawn in {args.out}")
    refuse_unreadable(results.unreadable, len(results.records) + len(results.unreadable))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("source", metavar="PHOTO|DIR|VIDEO|CAMERA", help="a file, a folder, or the number of a camera")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder of the results")
    parser.add_argument("--format", choices=("json", "csv"), help="of the table (default: json; csv for video)")
    add_pipeline_flags(parser)
    parser.add_argument("--smoothing", type=seconds, default=0.5, help="video: half-life of the average in seconds")
    parser.add_argument("--frames", type=positive_int, help="video: frames at most (default: all)")
    parser.add_argument("--show", action="store_true", help="video: show a window while it runs")
    return parser.parse_args(argv)


def seconds(text: str) -> float:
    """Parse a flag's value: a number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def clip_of(source: str) -> Path | int | None:
    """Return the camera's number or the video's path; None if the source is photos."""
    if source.isdigit() and not Path(source).exists():
        return int(source)
    return Path(source) if Path(source).suffix.lower() in video.SUFFIXES and not Path(source).is_dir() else None


def photos_of(source: Path, out_dir: Path) -> dict[Path, Path]:
    """Return each photo and the path of its copy. UserError if there is no photo, or a copy would replace one."""
    if source.is_dir():
        listed = [Path(photo.path) for photo in scan(source, "photos").photos]
        made = out_dir.resolve()
        found = {source / path: out_dir / path for path in listed if made not in (source / path).resolve().parents}
    elif source.is_file():
        name = source.name if source.suffix.lower() in EXTENSIONS else f"{source.name}.png"
        found = {source: out_dir / name}
    else:
        raise UserError(f"{source}: no such file or folder; give a photo, a folder, a video or the number of a camera")
    sources = {path.resolve() for path in found}
    if not found or any(target.resolve() in sources for target in found.values()):
        raise UserError(f"--out {out_dir}: the photos themselves lie there; give another folder")
    return found


def predict_photos(photos: dict[Path, Path], pipeline: Pipeline, out_dir: Path) -> Results:
    """Write an annotated copy of each photo that can be read."""
    results = Results()
    for path, target in progress(photos.items(), title="photos", total=len(photos)):
        try:
            rgb = read_photo(path)
        except UnreadablePhoto as error:
            results.unreadable[str(path)] = error.reason
            continue
        faces = pipeline(rgb)
        write_photo(target, annotated(rgb, faces))
        height, width = rgb.shape[:2]
        results.add({"photo": target.relative_to(out_dir).as_posix(), "width": width, "height": height}, faces)
        if len(photos) == 1:
            print("\n".join(describe(face) for face in faces) or f"{path}: no face found")
    return results


@dataclass(frozen=True)
class ClipOptions:
    """Half-life of the average in seconds, most frames to read, and whether to show a window."""

    smoothing: float = 0.5
    at_most: int | None = None
    show: bool = False


def predict_clip(source: Path | int, target: Path, open_it: Callable[[], Pipeline], options: ClipOptions) -> Results:
    """Write the annotated video, smoothed over time. A camera runs until Ctrl-C, which keeps what there is."""
    results, smoother = Results(), Smoother(options.smoothing)
    with video.open_clip(source) as clip:
        # After the video, whose faults are found faster than models are loaded.
        pipeline = open_it()
        frames = progress(clip.frames(options.at_most), title=clip.name, total=clip.promised or None, unit="frame")
        with video.new_video(target, clip.fps) as written, ended_by_ctrl_c(clip.live):
            for frame in frames:
                faces = smoother(pipeline(frame.rgb), frame.seconds)
                picture = annotated(frame.rgb, faces)
                written.write(picture, frame.number)
                results.add({"frame": frame.number, "seconds": round(frame.seconds, 3)}, faces)
                if options.show and not shown(picture):
                    break
    if clip.promised and not options.at_most and len(results.records) < clip.promised:
        print(f"{clip.name}: says it has {clip.promised} frames, {len(results.records)} could be read")
    return results


def target_of(source: Path | int, out_dir: Path) -> Path:
    """Return the path of the annotated video. UserError if the source lies there."""
    target = out_dir / (f"camera{source}.mp4" if isinstance(source, int) else f"{source.stem}.mp4")
    if isinstance(source, Path) and target.resolve() == source.resolve():
        raise UserError(f"--out {out_dir}: the video itself lies there; give another folder")
    return target


@contextmanager
def ended_by_ctrl_c(live: bool) -> Iterator[None]:
    """End a camera on Ctrl-C without an error; elsewhere it stays an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        if not live:
            raise
        print("\nstopped", file=sys.stderr)


def shown(picture: np.ndarray) -> bool:
    """Show a frame and return whether to go on. UserError if there is no screen."""
    try:
        cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) != ord("q")
    except cv2.error as error:
        raise UserError(f"--show: no window can be opened here ({error.err}); leave it out") from None


def refuse_unreadable(unreadable: dict[str, str], total: int) -> None:
    """UserError naming the files that were left out."""
    if unreadable:
        named = [f"{path} ({reason})" for path, reason in unreadable.items()]
        raise UserError(f"{len(named)} of {total} files cannot be read, all others are done: {name_some(named)}")


if __name__ == "__main__":
    run_cli(main)

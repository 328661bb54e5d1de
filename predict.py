"""Find every face in photos, videos or a camera's view, and predict mask status, gender and age of each.

    python predict.py photo.jpg                       predictions/photo.jpg with boxes, predictions/predictions.json
    python predict.py photos/ more/a.jpg --format csv --out seen     several files and folders, with all folders in them
    python predict.py clip.mp4                        predictions/clip.mp4, and a table by frame
    python predict.py 0 --show                        camera 0, until Ctrl-C; also rtsp:// and http:// addresses
    python predict.py 0 --sign both                   an entrance: the mask alone, a large sign, counts by minute
    python predict.py photos/ --model models/starter    a model folder, a run, an ONNX file or hf:OWNER/NAME
    python predict.py photos/ --onnx outputs/default/onnx     an exported model; torch need not be installed

Without a choice: the run outputs/default, else the one trained last, else the starter model. Faces are cropped by the
code and with the settings of training.
Photos and videos are told by their content. A file that cannot be predicted is named, and the exit code is 2.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import core.environment  # noqa: F401  explains a missing package

import pandas as pd

from core import files
from core.cli import UserError, command_parser, counted, name_some, positive_int, printable, progress, run_cli
from core.images import UnreadablePhoto, read_photo, write_photo
from core.languages import CHOICES
from core.locks import holding, keep_out_of_git
from serving.cli import add_pipeline_flags, open_pipeline, pipeline_options
from serving.drawing import annotated
from serving.entrance import TASK, MinuteCounts, WatchOptions, watch
from serving.faces import Pipeline
from serving.records import describe, face_record, face_rows, photo_facts
from serving.sign import require_font
from serving.smoothing import HALF_LIFE, Smoother
from serving.sources import PhotoSources, clip_of, photos_of
from serving.types import FacePrediction
from serving.video import Camera, Clip, Frame, ended_by_ctrl_c, new_video, open_clip, shown

TABLE = "predictions"


@dataclass
class Results:
    """Predictions by photo or frame, nested for JSON and flat for CSV; and the files that cannot be predicted."""

    records: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, source: dict[str, Any], faces: Sequence[FacePrediction]) -> None:
        self.records.append({**source, "faces": [face_record(face) for face in faces]})
        self.rows += face_rows(source, faces)

    @property
    def face_count(self) -> int:
        return sum(len(record["faces"]) for record in self.records)

    def write(self, path: Path) -> None:
        if path.suffix == ".json":
            files.write_json(path, {"unreadable": self.unreadable, "pictures": self.records})
        else:
            files.write_csv(path, pd.DataFrame(self.rows).convert_dtypes())


@dataclass(frozen=True)
class ClipOptions:
    """Half-life of the average in seconds, most frames to read, and whether to show a window."""

    smoothing: float = HALF_LIFE
    at_most: int | None = None
    show: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    clip = clip_of(args.sources)
    refuse_unused(args, is_photos=clip is None)
    if args.sign:
        watch_entrance(clip, args)
        return
    table_path = args.out / f"{TABLE}.{args.format or ('json' if clip is None else 'csv')}"
    open_it = partial(open_pipeline, *pipeline_options(args))
    if clip is None:
        photos = photos_of(args.sources, args.out)
        prepare(args.out, [table_path, *photos.targets.values()], args.overwrite)
        results = Results(unreadable=dict(photos.unusable))
        with written_if_interrupted(results, table_path, len(photos.targets)):
            predict_photos(photos, open_it(), args.out, results)
    else:
        target = target_of(clip, args.out)
        prepare(args.out, [table_path, target], args.overwrite)
        options = ClipOptions(smoothing_of(args), args.frames, args.show)
        open_it = partial(open_it, video=True, camera=isinstance(clip, Camera))
        with begun_anew_if_interrupted():
            results = predict_clip(clip, target, open_it, options)
    results.write(table_path)
    drawn = f", with boxes drawn in {args.out}" if results.records else ""
    seen = counted(len(results.records), "photo" if clip is None else "frame")
    print(f"{counted(results.face_count, 'face')} in {seen}: {table_path}{drawn}")
    refuse_unreadable(results.unreadable, len(results.records) + len(results.unreadable))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="PHOTO|DIR|VIDEO|CAMERA",
        help="files and folders, a video, or a camera by number or address",
    )
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder of the results")
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier run in --out")
    parser.add_argument("--format", choices=("json", "csv"), help="of the table (default: json; csv for video)")
    add_pipeline_flags(parser)
    smoothing = f"video: half-life of the average in seconds (default: {HALF_LIFE})"
    parser.add_argument("--smoothing", type=seconds, help=smoothing)
    parser.add_argument("--frames", type=positive_int, help="video: frames at most (default: all)")
    parser.add_argument("--show", action="store_true", help="video: show a window while it runs")
    sign = "camera or video: show a sign about the mask in this language, write counts by minute, and nothing else"
    parser.add_argument("--sign", choices=CHOICES, help=sign)
    return parser.parse_args(argv)


def refuse_unused(args: argparse.Namespace, *, is_photos: bool) -> None:
    """UserError for a flag that would change nothing."""
    if args.sign:
        other_tasks = {*args.tasks} - {TASK}
        unused, why = {"--format": args.format, "--show": args.show, "--tasks": other_tasks}, f"--sign {args.sign}"
    else:
        of_video = {"--frames": args.frames, "--show": args.show, "--smoothing": args.smoothing is not None}
        unused, why = (of_video if is_photos else {}), "photos"
    given = [name for name, value in unused.items() if value]
    if given:
        raise UserError(f"{' and '.join(given)}: not used for {why}; leave it out")


def smoothing_of(args: argparse.Namespace) -> float:
    return HALF_LIFE if args.smoothing is None else args.smoothing


def seconds(text: str) -> float:
    """Parse a flag's value: a number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def prepare(out_dir: Path, targets: Sequence[Path], overwrite: bool) -> None:
    """Remove what a killed run left in `out_dir`. UserError if earlier results are there and may not be replaced."""
    there = [path for path in targets if path.exists()]
    if there and not overwrite:
        raise UserError(f"--out {out_dir}: {there[0].name} is there already; give another --out, or --overwrite")
    if out_dir.is_dir():
        files.remove_stale(out_dir)


@contextmanager
def written_if_interrupted(results: Results, table_path: Path, total: int) -> Iterator[None]:
    """On Ctrl-C write the table of the photos that are done, and say how many."""
    try:
        yield
    except KeyboardInterrupt:
        if not results.records:
            raise
        results.write(table_path)
        done = f"{len(results.records)} of {total} photos are in {table_path}"
        raise KeyboardInterrupt(f"interrupted: {done}; --overwrite begins anew") from None


@contextmanager
def begun_anew_if_interrupted() -> Iterator[None]:
    """Say on Ctrl-C that nothing is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted: nothing was written, the same command begins anew") from None


def predict_photos(photos: PhotoSources, pipeline: Pipeline, out_dir: Path, results: Results) -> None:
    """Write an annotated copy of each photo that can be read, and print a line for it."""
    keep_out_of_git(out_dir)
    for path, target in progress(photos.targets.items(), title="photos", total=len(photos.targets)):
        try:
            rgb = read_photo(path)
        except UnreadablePhoto as error:
            results.unreadable[str(path)] = error.reason
            continue
        faces = pipeline(rgb)
        write_photo(target, annotated(rgb, faces))
        results.add(photo_facts(target.relative_to(out_dir).as_posix(), rgb), faces)
        # An exported model of a stranger may have any text as a label.
        print(printable(f"{path}: {'; '.join(map(describe, faces)) or 'no face found'}"))
    if photos.foreign:
        print(f"{len(photos.foreign)} files are no photos and are left out: {name_some(photos.foreign)}")


def predict_clip(source: Path | Camera, target: Path, open_it: Callable[[], Pipeline], options: ClipOptions) -> Results:
    """Write the annotated video, smoothed over time. A camera runs until Ctrl-C, which keeps what there is."""
    results, smoother, end = Results(), Smoother(options.smoothing), 0.0
    with open_clip(source) as clip:
        # After the video, whose faults are found faster than models are loaded.
        pipeline = open_it()
        keep_out_of_git(target.parent)
        with new_video(target, clip.fps) as written, ended_by_ctrl_c(clip.live):
            for frame in with_progress(clip, options.at_most):
                faces = smoother(pipeline(frame.rgb), frame.seconds)
                picture = annotated(frame.rgb, faces)
                written.write(picture, frame.seconds)
                results.add({"frame": frame.number, "seconds": round(frame.seconds, 3)}, faces)
                end = frame.seconds + 1 / clip.fps
                if options.show and not shown(picture):
                    break
    if not options.at_most and end < clip.promised - 1 / clip.fps:
        print(f"{clip.name}: says it lasts {clip.promised:.1f} s, its frames could be read up to {end:.1f} s")
    return results


def with_progress(clip: Clip, at_most: int | None) -> Iterator[Frame]:
    """Yield the frames, with a bar: of the seconds of a file, whose frames may lie unevenly apart."""
    by_time, before = clip.promised > 0 and not at_most, 0.0
    total, unit = (clip.promised, "second") if by_time else (at_most, "frame")
    with progress(None, title=clip.name, total=total, unit=unit) as bar:
        for frame in clip.frames(at_most):
            yield frame
            bar.update(frame.seconds - before if by_time else 1)
            before = frame.seconds


def watch_entrance(source: Path | Camera | None, args: argparse.Namespace) -> None:
    """Show the sign about the mask to those in view, and count them by minute."""
    if source is None:
        raise UserError(f"--sign {args.sign}: needs a camera or a video, not photos")
    require_font(args.sign)
    counts = MinuteCounts(args.out, None if isinstance(source, Camera) else source.stem)
    # The table of a camera is continued, that of a video is made anew.
    prepare(args.out, [] if isinstance(source, Camera) else [counts.path_of("")], args.overwrite)
    models, faces = pipeline_options(args)
    # Another process would write its counts in place of these.
    with holding(args.out, "--out"), open_clip(source) as clip:
        pipeline = open_pipeline(replace(models, tasks=(TASK,)), faces, camera=True)
        watch(clip, pipeline, counts, WatchOptions(args.sign, smoothing_of(args), args.frames))
    states = ", ".join(f"{number} {state}" for state, number in counts.total.items())
    print(f"{counted(counts.total.total(), 'face')}{f' ({states})' if states else ''}: {args.out}/counts-*.csv")


def target_of(source: Path | Camera, out_dir: Path) -> Path:
    """Return the path of the annotated video. UserError if the source lies there."""
    target = out_dir / f"{source.stem}.mp4"
    if isinstance(source, Path) and target.resolve() == source.resolve():
        raise UserError(f"--out {out_dir}: the video itself lies there; give another folder")
    return target


def refuse_unreadable(unreadable: dict[str, str], total: int) -> None:
    """UserError naming the files that were left out."""
    if unreadable:
        named = [f"{path} ({reason})" for path, reason in unreadable.items()]
        raise UserError(f"{len(named)} of {total} files cannot be read, all others are done: {name_some(named)}")


if __name__ == "__main__":
    run_cli(main)

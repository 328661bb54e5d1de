"""Makers of everything that a data set or a run folder should not hold, in tables with what is expected of each.

`works`: read as if nothing were odd. `ignored`: passed over and counted. `quarantined`: named as unreadable, while the
rest goes on. `refused`: one line that names it, exit code 2, nothing written.
"""

import os
import pickle
import struct
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from layout_toys import ANNA, BORIS, HEADER, ROWS, touch
from PIL import Image

WORKS, IGNORED, QUARANTINED, REFUSED = ("works", "ignored", "quarantined", "refused")
ORIENTATION = 0x0112
SECRET = "secret.jpg"
"""A picture beside the data root, which no command may read."""


@dataclass(frozen=True)
class Bad:
    """`make` writes it at a path; `words` stand in the reason or message, or say what became of it."""

    name: str
    make: Callable[[Path], object]
    outcome: str
    words: tuple[str, ...] = ()


def rgb(height: int = 40, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(kind: str, mode: str = "RGB", **options: object) -> Callable[[Path], object]:
    """A whole file of a kind and mode, whatever its name says."""
    return lambda path: path.write_bytes(encoded(Image.fromarray(rgb()).convert(mode), kind, **options))


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def cut(kind: str, kept: float, **options: object) -> Callable[[Path], object]:
    whole = encoded(Image.fromarray(rgb()), kind, **options)
    return content(whole[: int(len(whole) * kept)])


def deep(channels: int) -> Callable[[Path], object]:
    """A PNG of 16 bits a channel."""
    rows = np.random.default_rng(0).integers(0, 1 << 16, (40, 32 * channels), dtype=np.uint16).byteswap()
    scan = b"".join(b"\0" + row.tobytes() for row in rows)
    return content(png(32, 40, zlib.compress(scan), depth=16, kind=2 if channels == 3 else 0))


def animated(kind: str) -> Callable[[Path], object]:
    return picture(kind, save_all=True, append_images=[Image.fromarray(255 - rgb())], duration=50)


def turned(orientation: int) -> Callable[[Path], object]:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return picture("JPEG", exif=exif)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *, depth: int = 8, kind: int = 2, further: bytes = b"") -> bytes:
    """A PNG whose header may say anything; `data` is its compressed picture, `further` chunks before it."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + further + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


SMALL_SCAN = zlib.compress(b"".join(b"\0" + bytes(12) for _ in range(4)))


def jpeg_of_claimed_size(path: Path) -> None:
    data = bytearray(encoded(Image.fromarray(rgb()), "JPEG"))
    place = data.find(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 20000, 20000)
    path.write_bytes(data)


def bomb(path: Path) -> None:
    """144 million pixels, all there, in 18 kB."""
    path.write_bytes(png(12000, 12000, zlib.compress(bytes(12000 * 1501)), depth=1, kind=0))


def chunk_of_claimed_size(path: Path) -> None:
    """OpenCV would ask for 2 GB for a chunk that is not there."""
    whole = png(4, 4, SMALL_SCAN)
    path.write_bytes(whole[:33] + struct.pack(">I", 0x7FFFFFFF) + b"tEXt" + whole[33:])


def text_bomb(path: Path) -> None:
    """20 MB of text in a chunk of 20 kB beside a picture of 4 x 4."""
    text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(20_000_000)))
    path.write_bytes(png(4, 4, SMALL_SCAN, further=text))


def long_picture(path: Path) -> None:
    """20 MB of pixels where the header announces 4 x 4."""
    path.write_bytes(png(4, 4, zlib.compress(bytes(20_000_000))))


def damaged_png(path: Path) -> None:
    data = bytearray(encoded(Image.fromarray(rgb()), "PNG"))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def unreadable(path: Path) -> None:
    picture("JPEG")(path)
    path.chmod(0)


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def long_segment(path: Path) -> None:
    """A segment that claims to go on behind the end of the file."""
    data = encoded(Image.fromarray(rgb()), "JPEG")
    path.write_bytes(data[:2] + b"\xff\xe2\xff\xf0" + data[2:])


PICTURES: tuple[Bad, ...] = (
    Bad("jpeg_cut_short", cut("JPEG", 0.6), QUARANTINED, ("cut short",)),
    Bad("progressive_jpeg_cut_short", cut("JPEG", 0.8, progressive=True), QUARANTINED, ("cut short",)),
    Bad("png_cut_short", cut("PNG", 0.6), QUARANTINED, ("cut short",)),
    Bad("webp_cut_short", cut("WEBP", 0.6), QUARANTINED, ("cut short",)),
    Bad("gif_cut_short", cut("GIF", 0.6), QUARANTINED, ("cut short",)),
    Bad("png_damaged", damaged_png, QUARANTINED, ("PNG that is damaged",)),
    Bad("zero_bytes", content(b""), QUARANTINED, ("empty file",)),
    Bad("text", content(b"<html>not found</html>"), QUARANTINED, ("a web page, not a photo",)),
    Bad("pdf", content(b"%PDF-1.7\n" + bytes(99)), QUARANTINED, ("a PDF, not a photo",)),
    Bad("nothing_known", content(b"?" * 99), QUARANTINED, ("not a picture",)),
    Bad("photoshop", content(b"8BPS\0\1" + bytes(99)), QUARANTINED, ("format PSD is not read",)),
    Bad("jpeg_markers_alone", content(b"\xff\xd8\xff\xd9"), QUARANTINED, ("JPEG that is damaged",)),
    Bad("segment_behind_the_end", long_segment, QUARANTINED, ("cut short",)),
    Bad("png_called_jpg", picture("PNG"), WORKS),
    Bad("webp_called_jpg", picture("WEBP"), WORKS),
    Bad("bmp_called_jpg", picture("BMP"), WORKS),
    Bad("tiff_called_jpg", picture("TIFF"), WORKS),
    Bad("avif_called_jpg", picture("AVIF"), WORKS),
    Bad("bmp_cut_short", cut("BMP", 0.6), QUARANTINED, ("cut short",)),
    Bad("tiff_cut_short", cut("TIFF", 0.6), QUARANTINED, ("cut short",)),
    Bad("avif_cut_short", cut("AVIF", 0.6), QUARANTINED, ("cut short",)),
    Bad("cmyk", picture("JPEG", "CMYK"), WORKS),
    Bad("grey", picture("JPEG", "L"), WORKS),
    Bad("grey_16_bit", deep(1), WORKS),
    Bad("colour_16_bit", deep(3), WORKS),
    Bad("grey_with_alpha", picture("PNG", "LA"), WORKS),
    Bad("alpha", picture("PNG", "RGBA"), WORKS),
    Bad("palette", picture("PNG", "P"), WORKS),
    Bad("palette_with_transparency", picture("PNG", "P", transparency=0), WORKS),
    Bad("one_bit", picture("PNG", "1"), WORKS),
    Bad("animated_gif", animated("GIF"), WORKS),
    Bad("animated_png", animated("PNG"), WORKS),
    Bad("animated_webp", animated("WEBP"), WORKS),
    *(Bad(f"exif_orientation_{number}", turned(number), WORKS, ("32 x 40" if number < 5 else "40 x 32",))
      for number in range(1, 9)),
    Bad("exif_orientation_of_nonsense", turned(77), WORKS, ("32 x 40",)),
    Bad("bytes_behind_the_end", lambda path: path.write_bytes(encoded(Image.fromarray(rgb()), "JPEG") + bytes(999)),
        WORKS, ("32 x 40",)),
    Bad("one_pixel", content(encoded(Image.new("RGB", (1, 1)), "PNG")), WORKS, ("1 x 1",)),
    Bad("a_line_of_pixels", content(encoded(Image.new("RGB", (1, 2000)), "PNG")), WORKS, ("1 x 2000",)),
    Bad("no_pixels", content(png(0, 0, SMALL_SCAN)), QUARANTINED, ("PNG that is damaged",)),
    Bad("png_header_20000_x_20000", content(png(20000, 20000, SMALL_SCAN)), QUARANTINED, ("20000 x 20000",)),
    Bad("jpeg_header_20000_x_20000", jpeg_of_claimed_size, QUARANTINED, ("20000 x 20000",)),
    Bad("decompression_bomb", bomb, QUARANTINED, ("12000 x 12000",)),
    Bad("chunk_claims_2_gb", chunk_of_claimed_size, QUARANTINED, ("cut short",)),
    Bad("text_bomb_in_a_png", text_bomb, WORKS, ("4 x 4",)),
    Bad("picture_longer_than_its_header", long_picture, WORKS, ("4 x 4",)),
    Bad("folder", Path.mkdir, IGNORED),
    Bad("pipe", os.mkfifo, QUARANTINED, ("a pipe or a device",)),
    Bad("unreadable", unreadable, QUARANTINED, ("Permission denied",)),
    Bad("dangling_link", link("nowhere.jpg"), QUARANTINED, ("No such file",)),
    Bad("link_in_a_circle", lambda path: path.symlink_to(path.name), QUARANTINED, ("symbolic links",)),
    Bad("link_inside", link("good.png"), WORKS),
    Bad("link_that_leads_out", link(f"../{SECRET}"), REFUSED, ("leads out of the data folder", SECRET)),
    Bad("dangling_link_that_leads_out", link("../../nowhere.jpg"), REFUSED, ("leads out of the data folder",)),
    Bad("link_to_a_device", link("/dev/zero"), REFUSED, ("leads out of the data folder", "/dev/zero")),
    Bad("linked_folder_inside", link("."), IGNORED),
    Bad("linked_folder_that_leads_out", link(".."), REFUSED, ("leads out of the data folder",)),
)  # fmt: skip
"""What may stand under the name of a photo, in a folder with a good one."""

HANGUL = "홍길동 사진.jpg"


def named(*names: str | bytes) -> Callable[[Path], object]:
    """Good pictures under odd names in a folder."""

    def make(folder: Path) -> None:
        for name in names:
            (folder / os.fsdecode(name)).write_bytes(encoded(Image.fromarray(rgb()), "PNG"))

    return make


NAMES: tuple[Bad, ...] = (
    Bad("spaces", named("  a  b .jpg"), WORKS),
    Bad("quotes", named("a'b\"c.jpg"), WORKS),
    Bad("comma_and_semicolon", named("a,b;c.jpg"), WORKS),
    Bad("shell", named("$(rm -r x) `ls` & *.jpg"), WORKS),
    Bad("leading_equals_sign", named("=1+1.jpg"), WORKS),
    Bad("leading_minus", named("--data-dir.jpg"), WORKS),
    Bad("percent_and_hash", named("a%20b#c?.jpg"), WORKS),
    Bad("hangul_composed", named(unicodedata.normalize("NFC", HANGUL)), WORKS),
    Bad("hangul_decomposed", named(unicodedata.normalize("NFD", HANGUL)), WORKS),
    Bad("hangul_both", named(*(unicodedata.normalize(form, HANGUL) for form in ("NFC", "NFD"))), REFUSED, ("same id",)),
    Bad("beyond_the_first_plane", named("👩‍🦰.jpg"), WORKS),
    Bad("very_long", named("a" * 251 + ".jpg"), WORKS),
    Bad("many_dots", named("a...b.jpg.jpg"), WORKS),
    Bad("capital_ending", named("A.JPEG"), WORKS),
    Bad("a_number", named("007.jpg"), WORKS),
    Bad("a_missing_value", named("nan.jpg"), WORKS),
    Bad("newline", named("a\nb.jpg"), REFUSED, (r"'a\nb.jpg'", "control characters")),
    Bad("carriage_return", named("a\rb.jpg"), REFUSED, (r"'a\rb.jpg'", "control characters")),
    Bad("terminal_escape", named("a\x1b[31m.jpg"), REFUSED, (r"'a\x1b[31m.jpg'", "control characters")),
    Bad("backslash", named("a\\b.jpg"), REFUSED, (r"'a\\b.jpg'", "backslash")),
    Bad("not_utf_8", named(b"caf\xe9.jpg"), REFUSED, (r"'caf\udce9.jpg'", "not UTF-8")),
    Bad("hidden", named(".jpg"), IGNORED),
    Bad("another_ending", named("a.gif"), WORKS),
    Bad("foreign", named("a.svg"), IGNORED),
)
"""Names of photos, in a folder with a good one."""


def train_csv(data: str | bytes) -> Callable[[Path], object]:
    raw = data if isinstance(data, bytes) else data.encode()
    return lambda root: (root / "train" / "train.csv").write_bytes(raw)


def info_csv(data: str | bytes) -> Callable[[Path], object]:
    raw = data if isinstance(data, bytes) else data.encode()
    return lambda root: (root / "eval" / "info.csv").write_bytes(raw)


INFO = "ImageID,ans\nb.jpg,0\na.jpg,0\n"
FIRST, SECOND = ROWS.splitlines()


def add_nameless(root: Path, row: str) -> None:
    """A person whose folder says nothing, so that only the table does."""
    touch(root / "train" / "images" / "carla" / "normal.jpg")
    touch(root / "train" / "train.csv", f"{HEADER}{ROWS}{row}\n")


def nameless(row: str) -> Callable[[Path], object]:
    return lambda root: add_nameless(root, row)


def replace_by_link(place: str, target: str) -> Callable[[Path], object]:
    """What is at a place of the data root moves out of it, and a link leads there."""

    def make(root: Path) -> None:
        (root / place).rename(root.parent / target)
        (root / place).symlink_to(root.parent / target)

    return make


TABLES: tuple[Bad, ...] = (
    Bad("byte_order_mark", train_csv("\ufeff" + HEADER + ROWS), WORKS),
    Bad("windows_line_ends", train_csv((HEADER + ROWS).replace("\n", "\r\n")), WORKS),
    Bad("old_mac_line_ends", info_csv(INFO.replace("\n", "\r")), WORKS),
    Bad("empty_lines", info_csv(INFO.replace("\n", "\n\n")), WORKS),
    Bad("quoted_cells", info_csv('"ImageID","ans"\n"b.jpg","0"\n"a.jpg","0"\n'), WORKS),
    Bad("no_last_line_end", train_csv((HEADER + ROWS).rstrip()), WORKS),
    Bad("further_columns", info_csv("n,ImageID,ans\n1,b.jpg,0\n2,a.jpg,0\n"), WORKS),
    Bad("utf_16", train_csv((HEADER + ROWS).encode("utf-16")), REFUSED, ("train.csv", "not a readable CSV")),
    Bad("korean_windows", info_csv("ImageID,ans\n홍길.jpg,0\n".encode("cp949")), REFUSED, ("info.csv",)),
    Bad("binary", train_csv(bytes(range(256)) * 4), REFUSED, ("train.csv", "not a readable CSV")),
    Bad("null_bytes", info_csv(INFO.replace("a.jpg", "\0a.jpg")), REFUSED, ("control characters",)),
    Bad("empty", train_csv(""), REFUSED, ("train.csv", "not a readable CSV")),
    Bad("header_alone", train_csv(HEADER), REFUSED, ("is not in train.csv",)),
    Bad("semicolons", train_csv((HEADER + ROWS).replace(",", ";")), REFUSED, ("column id", "is missing")),
    Bad("tabs", info_csv(INFO.replace(",", "\t")), REFUSED, ("column ImageID is missing",)),
    Bad("column_missing", train_csv(HEADER.replace("gender", "sex") + ROWS), REFUSED, ("column gender is missing",)),
    Bad("id_column_missing", info_csv(INFO.replace("ImageID", "name")), REFUSED, ("ImageID is missing", "name, ans")),
    Bad("column_twice", train_csv(HEADER.replace("race", "age") + ROWS), REFUSED, ("column 'age' stands twice",)),
    Bad(
        "further_column_twice", train_csv(f"{HEADER.strip()},age\n{FIRST},9\n{SECOND},9\n"), REFUSED, ("'age'", "twice")
    ),
    Bad("person_twice", train_csv(HEADER + ROWS + FIRST), REFUSED, (ANNA, "more than one row")),
    Bad("photo_twice", info_csv(INFO + "b.jpg,0\n"), REFUSED, ("'b.jpg'", "more than one row")),
    Bad("person_without_row", train_csv(f"{HEADER}{FIRST}\n"), REFUSED, (BORIS, "not in train.csv")),
    Bad("row_without_person", train_csv(HEADER + ROWS + "1,male,x,9,nobody"), REFUSED, ("train.csv names nobody",)),
    Bad("photo_without_row", info_csv("ImageID,ans\nb.jpg,0\n"), REFUSED, ("photo a.jpg", "not in info.csv")),
    Bad("row_without_photo", info_csv(INFO + "ghost.jpg,0\n"), REFUSED, ("info.csv names ghost.jpg", "no such photo")),
    Bad("path_that_leads_out", train_csv(HEADER + ROWS + "1,male,x,9,../../etc"), REFUSED, ("names ../../etc",)),
    Bad("id_that_leads_out", info_csv(INFO + f"../../{SECRET},0\n"), REFUSED, (f"names ../../{SECRET}",)),
    Bad("absolute_id", info_csv(INFO + "/etc/hostname,0\n"), REFUSED, ("names /etc/hostname",)),
    Bad("long_row", train_csv(HEADER + ROWS + "1,male,x,9,nobody,1,2"), REFUSED, ("not a readable CSV",)),
    Bad("all_rows_long", info_csv("ImageID,ans\n1,b.jpg,0\n2,a.jpg,0\n"), REFUSED, ("more cells than its header",)),
    Bad("short_row", nameless("9,female"), REFUSED, ("train.csv",)),
    Bad("open_quote", info_csv(INFO + '"c.jpg,0\n'), REFUSED, ("not a readable CSV",)),
    Bad("age_nan", nameless("9,female,x,NaN,carla"), REFUSED, ("age 'NaN'", "0 to 120")),
    Bad("age_with_a_point", nameless("9,female,x,30.0,carla"), REFUSED, ("age '30.0'", "0 to 120")),
    Bad("age_empty", nameless("9,female,x,,carla"), REFUSED, ("age ''", "carla")),
    Bad("age_in_full_width", nameless("9,female,x,３０,carla"), WORKS),
    Bad("gender_unknown", nameless("9,woman,x,30,carla"), REFUSED, ("gender 'woman'", "male, female")),
    Bad("gender_spaced", nameless("9, female,x,30,carla"), REFUSED, ("gender ' female'", "male, female")),
    Bad("labels_contradict", train_csv(HEADER + ROWS.replace(",31,", ",45,")), REFUSED, ("'45'", "'31'", ANNA)),
    Bad("linked_table_that_leads_out", replace_by_link("eval/info.csv", "info.csv"), REFUSED, ("leads out",)),
    Bad("linked_person_that_leads_out", replace_by_link(f"train/images/{ANNA}", ANNA), REFUSED, ("leads out", ANNA)),
    Bad("linked_split_that_leads_out", replace_by_link("eval/images", "elsewhere"), REFUSED, ("leads out",)),
)
"""Tables and folders of the competition layout."""


class Payload:
    """Unpickled, it writes a file: what a checkpoint from a stranger might do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
        return _leave_a_trace, (str(self._path), "code was run")


def _leave_a_trace(path: str, text: str) -> None:
    Path(path).write_text(text)


def weights(data: bytes) -> Callable[[Path], object]:
    return lambda fold_dir: (fold_dir / "model.safetensors").write_bytes(data)


def pickled_weights(fold_dir: Path) -> None:
    (fold_dir / "model.safetensors").write_bytes(pickle.dumps({"weights": Payload(fold_dir / "trace")}))


def config(text: str) -> Callable[[Path], object]:
    return lambda fold_dir: (fold_dir / "config.json").write_text(text)


def tensors(header: str, data: bytes = b"") -> bytes:
    """A safetensors file of any header."""
    return struct.pack("<Q", len(header)) + header.encode() + data


DAMAGED: Sequence[str] = ("model.safetensors", "damaged")
FOLDS: tuple[Bad, ...] = (
    Bad("pickled_code", pickled_weights, REFUSED, DAMAGED),
    Bad("random_weights", weights(np.random.default_rng(0).bytes(5000)), REFUSED, DAMAGED),
    Bad("header_beyond_the_end", weights(struct.pack("<Q", 1 << 62) + b"{}"), REFUSED, DAMAGED),
    Bad("header_no_json", weights(tensors("{]")), REFUSED, DAMAGED),
    Bad("tensor_beyond_the_end",
        weights(tensors('{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}')), REFUSED, DAMAGED),
    Bad("no_tensors", weights(tensors("{}")), REFUSED, ("model.safetensors",)),
    Bad("config_utf_16", lambda fold_dir: (fold_dir / "config.json").write_bytes("{}".encode("utf-16")), REFUSED,
        ("config.json", "JSON")),
    Bad("config_empty_object", config("{}"), REFUSED, ("config.json", "format None")),
    Bad("config_of_boxes_in_boxes", config("[" * 100_000), REFUSED, ("config.json", "JSON")),
    Bad("config_gone", lambda fold_dir: (fold_dir / "config.json").unlink(), REFUSED, ("config.json",)),
)  # fmt: skip
"""Folders of a trained fold."""

ALL = (*PICTURES, *NAMES, *TABLES, *FOLDS)

"""The demo page: a photo in, the same photo with boxes and labels out. Nothing is kept or sent elsewhere."""

import html
import importlib
import ipaddress
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from core.cli import UserError
from core.images import UnreadablePhoto, data_uri, read_photo
from core.languages import KOREAN_NAMES, LANGUAGES
from serving.drawing import annotated
from serving.faces import Pipeline
from serving.types import FacePrediction, TaskPrediction

MOST_SIDE = 2048
"""Pixels; larger pictures are made smaller first."""
MOST_FACES = 50
UPLOAD_SECONDS = 60
"""Age at which an upload without a prediction is deleted."""
KEPT_SECONDS = 30
"""Time from its last prediction to the deletion of an upload: visitors who upload the same photo share one file."""
SYSTEM_FONTS = ("system-ui", "sans-serif")
TITLES = ("Mask, gender and age from a photo", "사진 속 마스크, 성별, 나이")
TEXTS = {
    "introduction": (
        f"# {TITLES[0]}\n\n"
        "Every face in the picture gets a box. Gender and age are guesses from appearance, and often wrong: decide "
        "nothing about anybody by them. A **?** marks what the model is unsure of. The picture is predicted on the "
        "computer that this page comes from, and deleted half a minute later.",
        f"# {TITLES[1]}\n\n"
        "사진 속 모든 얼굴에 박스를 표시합니다. 성별과 나이는 겉모습으로 추측한 값이라 자주 틀립니다. 사람에 관한 "
        "결정에 사용하지 마세요. 물음표(**?**)는 모델이 확신하지 못한다는 뜻입니다. 사진은 이 페이지를 제공하는 "
        "컴퓨터에서만 처리하고 30초 뒤에 삭제합니다. 사진 위의 글자는 영어로 표시됩니다.",
    ),
    "picture": ("Picture", "사진"),
    "card": ("About the model", "모델 정보"),
    "card_note": (
        "Scores are of people from whom the model did not learn. Before you rely on it, measure on your own photos.",
        "점수는 모델이 학습하지 않은 사람들의 사진에서 잰 값입니다. 실제로 쓰기 전에 자신의 사진으로 확인하세요.",
    ),
    "unreadable": (
        "This file cannot be read as a picture: {reason}.",
        "이 파일은 사진으로 읽을 수 없습니다. 파일이 손상되었거나 지원하지 않는 형식입니다.",
    ),
    "no_face": (
        "No face found. Try a picture in which a face is larger, brighter or less turned away.",
        "얼굴을 찾지 못했습니다. 얼굴이 더 크고 밝으며 정면에 가까운 사진으로 다시 시도해 보세요.",
    ),
    "boxes": ("the picture with boxes", "박스를 표시한 사진"),
    "face": ("face", "얼굴"),
    "unsure": ("unsure", "불확실"),
    "value": (", {value:.0f} {unit}", ", {value:.0f}{unit}"),
}
"""English and Korean texts."""
KOREAN = KOREAN_NAMES | {"years": "세"}


def say(key: str, language: str, **values: object) -> str:
    """Return a text of the page with its fields filled in."""
    return TEXTS[key][LANGUAGES.index(language)].format(**values)


def name_in(language: str, word: str) -> str:
    """Return the name of a task, class or unit as HTML."""
    return html.escape(KOREAN.get(word, word) if language == "ko" else word)


def language_of(accepted: str) -> str:
    """Return the language for a visitor whose browser asks for these (HTTP Accept-Language)."""
    return "ko" if accepted.lower().startswith("ko") else "en"


def gradio_package() -> ModuleType:
    """Import gradio with its telemetry off. UserError if it is not installed."""
    # Read at import.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        hint = "python scripts/install.py demo"
        raise UserError(f"gradio cannot be imported ({error}); install it with {hint}") from None


class OwnAddressOnly:
    """ASGI middleware that replies only to requests that name an address of the page as Host, and as Origin if any.

    A page of a foreign name that points to this machine could otherwise read photos and predictions.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], *, host: str) -> None:
        self._app = app
        self._names = {host.lower(), "localhost", "127.0.0.1", "::1"}
        self._to_all = host in ("0.0.0.0", "::")

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        headers = dict(scope.get("headers", ()))
        host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
        is_ours = self._is_ours(f"//{host}") and (not origin or urlsplit(origin).netloc == host)
        if scope["type"] not in ("http", "websocket") or is_ours:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": HTTPStatus.FORBIDDEN, "headers": []})
            await send({"type": "http.response.body", "body": b"not an address of this page"})
        else:
            await send({"type": "websocket.close"})

    def _is_ours(self, address: str) -> bool:
        """Return whether it is the page's; where all may reach it, any number or the machine's own name."""
        try:
            name = urlsplit(address).hostname or ""
            if name in self._names or not self._to_all:
                return name in self._names
            return name == socket.gethostname().lower() or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class Uploads:
    """Deletes uploads a while after their last prediction."""

    def __init__(self) -> None:
        self._timers: dict[Path, threading.Timer] = {}
        self._lock = threading.Lock()

    def delete_later(self, path: Path) -> None:
        with self._lock:
            if path in self._timers:
                self._timers[path].cancel()
            timer = threading.Timer(KEPT_SECONDS, self._delete, (path,))
            timer.daemon = True
            self._timers[path] = timer
            timer.start()

    def _delete(self, path: Path) -> None:
        with self._lock:
            path.unlink(missing_ok=True)
            self._timers.pop(path, None)


def build_page(gradio: ModuleType, pipeline: Pipeline, upload_dir: Path, language: str = "both") -> Any:
    """Return the page as Gradio blocks. A photo is predicted as soon as it is uploaded.

    `language` "both": that of each visitor's browser.
    """

    def text(key: str) -> Any:
        return i18n(key) if language == "both" else say(key, language)

    def handle(path: str | None, request: gradio.Request | None = None) -> tuple[None, str]:
        # Whoever speaks to the server without the page could name any file, which would then be deleted.
        if path is None or not Path(path).resolve().is_relative_to(upload_dir.resolve()):
            return None, ""
        try:
            accepted = request.headers.get("accept-language", "") if request else ""
            spoken = language_of(accepted) if language == "both" else language
            return None, predict_upload(Path(path), pipeline, spoken)
        finally:
            uploads.delete_later(Path(path))

    uploads, i18n = Uploads(), translations(gradio)
    os.environ["GRADIO_TEMP_DIR"] = str(upload_dir)
    with gradio.Blocks(
        title=TITLES[language == "ko"],
        analytics_enabled=False,
        delete_cache=(UPLOAD_SECONDS, UPLOAD_SECONDS),
    ) as page:
        gradio.Markdown(text("introduction"))
        picture = gradio.Image(
            label=text("picture"),
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam", "clipboard"],
            buttons=[],
        )
        found = gradio.HTML(elem_id="found")
        with gradio.Accordion(text("card"), open=False, elem_id="card", visible=bool(pipeline.about)):
            gradio.HTML(f"<pre>{html.escape(pipeline.about)}</pre>")
            gradio.Markdown(text("card_note"))
        picture.input(handle, picture, [picture, found], api_visibility="private", show_progress="full")
    return page


def serve(gradio: ModuleType, page: Any, *, host: str, port: int, most_megabytes: int) -> None:
    """Start serving in the background: without links to other computers, a public tunnel, or an API. UserError if the
    port is taken."""
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{most_megabytes}mb",
            theme=gradio.themes.Default(font=SYSTEM_FONTS, font_mono=("monospace",)),
            css=STYLE,
            i18n=translations(gradio),
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            app_kwargs={"middleware": [(OwnAddressOnly, (), {"host": host})]},
            **dict.fromkeys(("ssr_mode", "mcp_server", "pwa", "enable_monitoring", "run_history", "inbrowser"), False),
        )
    except OSError as error:
        raise UserError(f"--port {port}: cannot be listened on at {host} ({error}); give another --port") from None


def translations(gradio: ModuleType) -> Any:
    """Return the texts that the browser chooses from by its own language."""
    return gradio.I18n(
        **{language: {key: texts[place] for key, texts in TEXTS.items()} for place, language in enumerate(LANGUAGES)}
    )


def predict_upload(path: Path, pipeline: Pipeline, language: str = "en") -> str:
    """Return the predictions of an uploaded photo as HTML."""
    try:
        rgb = at_most(read_photo(path), MOST_SIDE)
    except UnreadablePhoto as error:
        return message(say("unreadable", language, reason=error.reason))
    faces = pipeline(rgb)[:MOST_FACES]
    if not faces:
        return message(say("no_face", language))
    return f'<img alt="{say("boxes", language)}" src="{data_uri(annotated(rgb, faces))}">{table(faces, language)}'


def at_most(rgb: np.ndarray, side: int) -> np.ndarray:
    """Return `rgb` (H, W, 3) uint8, made smaller if its longer side is above `side`."""
    scale = side / max(rgb.shape[:2])
    return rgb if scale >= 1 else cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def message(text: str) -> str:
    return f'<p class="message">{html.escape(text)}</p>'


def table(faces: Sequence[FacePrediction], language: str = "en") -> str:
    """Return a table with one row a face, one column a task and a bar for each class."""
    tasks = list(faces[0].predictions)
    head = "".join(f"<th>{name_in(language, task)}</th>" for task in tasks)
    # On a telephone the cells stand below one another, and the first says whose they are.
    rows = [
        f'<tr><th data-name="{say("face", language)} ">{number}</th>'
        f"{''.join(cell(face.predictions[task], language) for task in tasks)}</tr>"
        for number, face in enumerate(faces, start=1)
    ]
    return f"<table><tr><th>{say('face', language)}</th>{head}</tr>{''.join(rows)}</table>"


def cell(prediction: TaskPrediction, language: str = "en") -> str:
    unit = name_in(language, prediction.unit)
    value = "" if prediction.value is None else say("value", language, value=prediction.value, unit=unit)
    doubt = f" <em>{say('unsure', language)}</em>" if prediction.unsure else ""
    bars = "".join(
        f'<div class="bar"><span style="width:{part:.0%}"></span>{name_in(language, name)} {part:.0%}</div>'
        for name, part in zip(prediction.classes, np.exp(prediction.log_probs), strict=True)
    )
    return f"<td><b>{name_in(language, prediction.label)}</b>{value}{doubt}{bars}</td>"


STYLE = """
#found img {max-width: 100%; border-radius: 8px}
#found table {width: 100%; margin-top: 1rem; border-collapse: collapse; border: 0}
#found tr {border: 0}
#found th, #found td {text-align: left; vertical-align: top; padding: .5rem; border: 0; border-top: 1px solid #8884}
#found em {color: #d97706; font-style: normal; font-weight: 600}
#found .bar {position: relative; z-index: 0; font-size: .85em; padding: 0 .4em; margin-top: 2px}
#found .bar span {position: absolute; z-index: -1; inset: 0 auto 0 0; background: #3b82f640; border-radius: 3px}
#found .message {font-size: 1.1em}
#card pre {white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85em; margin: 0}
@media (max-width: 640px) {
#found table, #found tbody, #found tr, #found td, #found tr > th {display: block; width: auto}
#found tr:first-child {display: none}
#found tr > th {border-top: 1px solid #8884}
#found tr > th::before {content: attr(data-name)}
#found td {border-top: 0; padding-top: 0}
}
"""

"""The server of the annotation page: the page's own files, the listed photos by number, and marks to save.

It listens on 127.0.0.1 alone. A request needs a secret in the address, which other users of the machine do not know; a
Host of this machine, so that a foreign name pointed at 127.0.0.1 gets nothing; and, to change something, the page as
its Origin. No path of a request is ever a path on disk.
"""

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from core.cli import UserError, name_some
from core.images import UnreadablePhoto
from preprocessing.annotation import NOTHING, Mark, Marks, ShownPhoto, checked_box, show
from preprocessing.faces_table import Outcome
from storage.layouts import Dataset

ADDRESS = "127.0.0.1"
OUR_NAMES = (ADDRESS, "localhost")
LARGEST_BODY = 512
PAGE_DIR = Path(__file__).with_name("annotation_page")
PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "texts.js": ("texts.js", "text/javascript; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Refusal(Exception):
    """A refused request, with the HTTP status to send."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """A response: body, content type and further headers."""

    body: bytes
    kind: str
    headers: tuple[tuple[str, str], ...] = ()


class Annotation:
    """The photos of one session by number, and the marks made of them. UserError for what is no photo of the data."""

    def __init__(self, dataset: Dataset, outcomes: Sequence[Outcome], marks: Marks) -> None:
        self.outcomes, self.marks = list(outcomes), marks
        self._undo: list[tuple[int, Mark]] = []
        self._paths = _paths_of(dataset, outcomes)
        # A few photos around the one that is shown: the page asks for the next one ahead of time.
        self.photo: Callable[[int], ShownPhoto] = lru_cache(maxsize=8)(lambda number: show(self._paths[number]))

    def left(self) -> int:
        return sum(self.marks.of(outcome.image_id) == NOTHING for outcome in self.outcomes)

    def describe(self) -> dict:
        """All photos with their suggested boxes and their marks, as the page reads them."""
        return {"boxes_file": str(self.marks.boxes_path), "photos": list(map(self._entry, range(len(self.outcomes))))}

    def mark(self, number: int, wish: object) -> dict:
        """Carry out a wish of the page and return the photo as it stands then. ValueError for one that is unknown.

        Wishes: {"box": [x1, y1, x2, y2]}, {"suggestion": true}, {"no_face": true}, and {} for no mark.
        """
        image_id = self.outcomes[number].image_id
        mark, before = self._wished(number, wish), self.marks.of(image_id)
        self.marks.put(image_id, mark)
        if mark != before:
            self._undo.append((number, before))
        return self._entry(number)

    def undo(self) -> dict:
        """Take the last change back, also after the page has been loaded again; ValueError if there is none."""
        if not self._undo:
            raise ValueError("nothing to undo")
        number, before = self._undo.pop()
        self.marks.put(self.outcomes[number].image_id, before)
        return self._entry(number)

    def _wished(self, number: int, wish: object) -> Mark:
        suggestion = self.outcomes[number].box
        if wish == {"suggestion": True} and suggestion:
            return Mark(suggestion)
        if wish in ({}, {"no_face": True}):
            return Mark(no_face=bool(wish))
        if not isinstance(wish, dict) or wish.keys() != {"box"}:
            raise ValueError("a mark is a box, the suggestion where there is one, no face, or nothing")
        return Mark(checked_box(wish["box"], self.photo(number)))

    def _entry(self, number: int) -> dict:
        outcome = self.outcomes[number]
        mark = self.marks.of(outcome.image_id)
        return {
            "number": number,
            "image_id": outcome.image_id,
            "status": outcome.status,
            "reason": outcome.reason,
            "suggestion": outcome.box,
            "box": mark.box,
            "no_face": mark.no_face,
        }


def _paths_of(dataset: Dataset, outcomes: Sequence[Outcome]) -> list[Path]:
    # Those of the scan, not of the table: nothing can be shown that is no photo of the data set.
    path_of = {photo.image_id: photo.path for photo in dataset.photos}
    gone = [outcome.path for outcome in outcomes if path_of.get(outcome.image_id) != outcome.path]
    if gone:
        raise UserError(f"{name_some(gone)}: no photo of {dataset.root}; run preprocessing/detect_faces.py again")
    return [dataset.root / outcome.path for outcome in outcomes]


class AnnotationServer(ThreadingHTTPServer):
    """Serves one session; `url` is the address to open. OSError where the port is taken, port 0 finds a free one."""

    daemon_threads = True

    def __init__(self, annotation: Annotation, port: int = 0) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.annotation = annotation
        self.secret = secrets.token_urlsafe(12)
        self.finishing = False

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/{self.secret}/"


class Handler(BaseHTTPRequestHandler):
    """One request: checked, then answered by the first route that fits it whole."""

    server: AnnotationServer
    timeout = 30

    def do_GET(self) -> None:
        self._answer(GET_ROUTES)

    def do_POST(self) -> None:
        self._answer(POST_ROUTES)

    def finish(self) -> None:
        super().finish()
        # Only now, when the answer to "finish" is on its way.
        if self.server.finishing:
            self.server.shutdown()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: a line a request would hide what the command says."""

    def version_string(self) -> str:
        return "annotate_faces"

    def _answer(self, routes: Sequence["Route"]) -> None:
        try:
            self._refuse_foreigners()
            reply = self._reply(routes)
        except Refusal as refusal:
            self._send_error(refusal.status, refusal)
        except ValueError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, error)
        except UnreadablePhoto as error:
            self._send_error(HTTPStatus.UNPROCESSABLE_ENTITY, f"this photo cannot be read: {error.reason}")
        except (UserError, OSError) as error:
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, error)
        else:
            self._send(HTTPStatus.OK, reply)

    def _refuse_foreigners(self) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if re.sub(":[0-9]+$", "", host) not in OUR_NAMES:
            raise Refusal(HTTPStatus.FORBIDDEN, f"Host {host!r} is not this machine")
        if origin is None and self.command != "GET":
            raise Refusal(HTTPStatus.FORBIDDEN, "a change needs an Origin")
        if origin not in (None, f"http://{host}"):
            raise Refusal(HTTPStatus.FORBIDDEN, f"Origin {origin!r} is another page")

    def _reply(self, routes: Sequence["Route"]) -> Reply:
        start, secret, rest = (*self.path.split("/", 2), "", "")[:3]
        # As bytes: compare_digest refuses letters that are not ASCII.
        if start or not secrets.compare_digest(secret.encode(), self.server.secret.encode()):
            raise Refusal(HTTPStatus.FORBIDDEN, "open the address that annotate_faces.py printed")
        for route in routes:
            match = route.path.fullmatch(rest)
            if match:
                return route.reply(self, *match.groups())
        raise Refusal(HTTPStatus.NOT_FOUND, "no such page")

    def body(self) -> object:
        """The JSON of the request. Refused unread if it is large, of unknown length or of another type."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if int(length) > LARGEST_BODY:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {LARGEST_BODY} bytes")
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a mark is application/json")
        return json.loads(self.rfile.read(int(length)))

    def number(self, text: str) -> int:
        if int(text) >= len(self.server.annotation.outcomes):
            raise Refusal(HTTPStatus.NOT_FOUND, "no such photo")
        return int(text)

    def _send_error(self, status: HTTPStatus, reason: object) -> None:
        self._send(status, _json({"error": str(reason)}))

    def _send(self, status: HTTPStatus, reply: Reply) -> None:
        self.send_response(status)
        for name, value in (*HEADERS.items(), *reply.headers):
            self.send_header(name, value)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)


@dataclass(frozen=True)
class Route:
    """A pattern that the path behind the secret has to match as a whole, and the function that replies."""

    path: re.Pattern
    reply: Callable[..., Reply]


def _json(value: object) -> Reply:
    return Reply(json.dumps(value).encode(), "application/json")


def _page_file(_: Handler, name: str) -> Reply:
    file, kind = PAGE_FILES[name]
    return Reply((PAGE_DIR / file).read_bytes(), kind)


def _photos(request: Handler) -> Reply:
    return _json(request.server.annotation.describe())


def _photo(request: Handler, number: str) -> Reply:
    photo = request.server.annotation.photo(request.number(number))
    size = ("Photo-Width", str(photo.width)), ("Photo-Height", str(photo.height))
    return Reply(photo.jpeg, "image/jpeg", size)


def _mark(request: Handler, number: str) -> Reply:
    return _json(request.server.annotation.mark(request.number(number), request.body()))


def _undo(request: Handler) -> Reply:
    request.body()
    return _json(request.server.annotation.undo())


def _finish(request: Handler) -> Reply:
    request.body()
    request.server.finishing = True
    return _json({})


_NUMBER = "([0-9]{1,9})"
GET_ROUTES = (
    Route(re.compile(f"({'|'.join(map(re.escape, PAGE_FILES))})"), _page_file),
    Route(re.compile(r"()\?lang=[a-z]{2}"), _page_file),
    Route(re.compile("photos"), _photos),
    Route(re.compile(f"photo/{_NUMBER}"), _photo),
)
POST_ROUTES = (
    Route(re.compile(f"mark/{_NUMBER}"), _mark),
    Route(re.compile("undo"), _undo),
    Route(re.compile("finish"), _finish),
)

"""Photos of a request, read into memory alone: nothing of them touches the disk."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

READ_SECONDS = 60
"""Time that a client has for sending a request's body."""
LONE_NAME = "photo"
"""Name of a photo that is sent as the body itself."""


class _FormInMemory(MultiPartParser):
    """Parser of a form that knows whether its end was there.

    Files above `spool_max_size` would be written to the disk: it has to be larger than any body.
    """

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_photos(request: Request, *, most_bytes: int, most_photos: int) -> dict[str, bytes]:
    """Return the bytes of each photo by its name, in order: the files of a form, or else the body as one photo.

    Raises HTTPException: 408 for a slow client, 413 for a body that is too large, 400 for none or a broken one.
    """
    _refuse_large(request, most_bytes)
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    try:
        async with asyncio.timeout(READ_SECONDS):
            if is_form:
                return await _read_form(request, most_bytes, most_photos)
            data = b"".join([chunk async for chunk in _limited(request, most_bytes)])
    except TimeoutError:
        reason = f"the body did not arrive within {READ_SECONDS} s"
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, reason, {"Connection": "close"}) from None
    if not data:
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, "no photo: send it as the body, or as a file of multipart/form-data"
        )
    return {LONE_NAME: data}


def _refuse_large(request: Request, most_bytes: int) -> None:
    """Raise HTTPException if the request says that its body has more bytes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise _too_large(most_bytes)


def _too_large(most_bytes: int) -> HTTPException:
    reason = f"the body is larger than {most_bytes / 1e6:g} MB"
    # Closed: what is still to come would be read to no purpose.
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, {"Connection": "close"})


async def _limited(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body in pieces. Raises HTTPException as soon as it is too large."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most_bytes:
            raise _too_large(most_bytes)
        yield chunk


async def _read_form(request: Request, most_bytes: int, most_photos: int) -> dict[str, bytes]:
    parser = _FormInMemory(request.headers, _limited(request, most_bytes), max_files=most_photos, max_fields=16)
    parser.spool_max_size = most_bytes + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"multipart/form-data: {error.message}") from None
    if not parser.ended:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "multipart/form-data: cut short, its last boundary is missing")
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    photos: dict[str, bytes] = {}
    for number, file in enumerate(files, start=1):
        # A reply is in UTF-8, which has no halves of characters.
        name = (file.filename or LONE_NAME).encode("utf-8", "backslashreplace").decode()
        # Telephones name every photo image.jpg.
        while name in photos:
            name = f"{name}#{number}"
        photos[name] = await file.read()
    await form.close()
    if not photos:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "no file in the form; its fields are files, as many as you like")
    return photos

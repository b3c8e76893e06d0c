"""Images, audio, video and files as data: read them, tell their type, encode them for JSON."""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import stat
import sys
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from typing import Any, NamedTuple

from . import validators
from .errors import InvalidArgument

__all__ = ["MOST_BYTES", "Media", "read_media", "summary"]

#: Most bytes of one image, recording or file.
MOST_BYTES = 50 << 20

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[^,;]*)*;base64,", re.ASCII | re.IGNORECASE)
#: First bytes of contents, and the types that they mean.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"%PDF-", "application/pdf"),
)
#: The same for containers that name their content at byte 8: after RIFF at byte 0, after ftyp at byte 4.
_IN_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_IN_FTYP = {
    b"M4A ": "audio/mp4",
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"qt  ": "video/quicktime",
}
#: Kinds of which media types say that a content is one.
_TYPED = frozenset({"image", "audio", "video"})


class Media(NamedTuple):
    """One content.

    Attributes:
        url: Where a server finds it; '' if it is sent as data.
        type: Its media type ('image/png'); '' with a URL.
        data: Its bytes, in base64; '' with a URL.
        name: The name of its file, '' if it has none.
    """

    url: str = ""
    type: str = ""
    data: str = ""
    name: str = ""

    @property
    def data_url(self) -> str:
        """The URL, or a data URL."""
        return self.url or f"data:{self.type};base64,{self.data}"

    @property
    def extension(self) -> str:
        """The usual end of a file's name for the type ('.png'), '' if it is unknown."""
        return mimetypes.guess_extension(self.type) or ""


def summary(data: str) -> str:
    """The size and the hash of data in base64: ``bytes=48213;sha256=…``."""
    content = base64.b64decode(data)
    return f"bytes={len(content)};sha256={sha256(content).hexdigest()}"


def read_media(
    value: object, kind: str, where: str, argument: str, *, media_type: str = "", is_base64: bool = False
) -> Media:
    """Read a content.

    A string is a URL (or base64), never a path: a message that came as JSON cannot name a file of this
    machine.

    Args:
        value: An http, https or data URL; `pathlib.Path`; bytes; an image of PIL, which is sent as PNG.
        kind: 'image', 'audio' or 'video', of which the content must be; or 'file', 'time_series'.
        where: The place of `value`, for errors.
        argument: The argument that it was given with, for errors.
        media_type: Its type; '' finds it by the content, then by the name of the file.
        is_base64: Whether a string is base64 rather than a URL.

    Raises:
        InvalidArgument: It is none of these, cannot be read, is empty or larger than `MOST_BYTES`, or is
            another kind of content.
    """

    def refuse(why: str) -> InvalidArgument:
        return InvalidArgument(f"{where}: {why}", argument=argument)

    name, encoded = "", ""
    if isinstance(value, str):
        if not is_base64 and re.match("https?://", value, re.IGNORECASE):
            return Media(url=value)
        if found := _DATA_URL.match(value):
            media_type, value = media_type or (found[1] or "").lower(), value[found.end() :]
        elif not is_base64:
            raise refuse(_no_url(value))
        encoded = "".join(value.split()) if "\n" in value else value
        data = _decoded(encoded, refuse)
    elif isinstance(value, os.PathLike):
        name = os.path.basename(os.fsdecode(value))
        data = _file(value, refuse)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
    elif _is_pil_image(value):
        data = _png(value, refuse)
    else:
        raise refuse(
            f"{validators.shown(value)} is no {kind}: allowed is a URL (str), a pathlib.Path, bytes"
            + (", or an image of PIL" if kind == "image" else "")
        )
    if not data:
        raise refuse(f"the {kind} is empty")
    if len(data) > MOST_BYTES:
        raise refuse(_too_large(len(data)))
    known, named = _type_of(data), mimetypes.guess_type(name)[0]
    found_type = media_type or (known or named if kind in _TYPED else named or known) or ""
    if kind in _TYPED:
        if not found_type:
            raise refuse(f"it is no {kind} of a known type; give another format")
        for one in (known, found_type):
            if one and not _fits(one, kind):
                raise refuse(f"it is {one}, expected {'an' if kind[0] in 'aeiou' else 'a'} {kind}")
        if found_type.partition("/")[0] != kind:  # a container for both, of which only the sound matters
            found_type = f"{kind}/{found_type.partition('/')[2]}"
    return Media(
        "",
        found_type or "application/octet-stream",
        encoded or base64.b64encode(data).decode(),
        name,
    )


def _no_url(text: str) -> str:
    begin = validators.shown(text)
    if text[:5].lower() == "data:":
        return f"{begin}: a data URL has the form data:image/png;base64,…"
    path = validators.shown(text.removeprefix("file://"))
    return (
        f"{begin}: a text is a URL (http, https or data); give a file of this machine as "
        f"pathlib.Path({path}), and base64 as bytes"
    )


def _too_large(size: int) -> str:
    return f"{size:,} bytes: allowed are at most {MOST_BYTES:,} ({MOST_BYTES >> 20} MiB)"


def _decoded(text: str, refuse: Callable[[str], InvalidArgument]) -> bytes:
    if len(text) // 4 * 3 - 2 > MOST_BYTES:
        raise refuse(_too_large(len(text) // 4 * 3))
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise refuse(f"{validators.shown(text)} is no base64: {error}") from None


def _file(path: os.PathLike[Any], refuse: Callable[[str], InvalidArgument]) -> bytes:
    shown = os.fsdecode(path)
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES:  # to open a pipe would wait
            with open(path, "rb") as file:
                return file.read(MOST_BYTES + 1)  # it may have grown
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise refuse(f"{shown} cannot be read: {reason}") from error
    raise refuse(
        f"{shown} has {_too_large(found.st_size)}" if stat.S_ISREG(found.st_mode) else f"{shown} is no file"
    )


def _is_pil_image(value: object) -> bool:
    pil = sys.modules.get("PIL.Image")  # without it there is no such image
    return pil is not None and isinstance(value, pil.Image)


def _png(image: Any, refuse: Callable[[str], InvalidArgument]) -> bytes:
    out = BytesIO()
    try:
        if image.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
            image = image.convert("RGBA" if image.mode in ("RGBa", "La", "PA") else "RGB")
        image.save(out, "PNG")
    except (OSError, ValueError, SystemError) as error:
        raise refuse(f"the image cannot be encoded: {error}") from error
    return out.getvalue()


def _type_of(data: bytes) -> str:
    """The media type by the first bytes, '' if they are not known."""
    if data[:4] == b"RIFF":
        return _IN_RIFF.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return _IN_FTYP.get(data[8:12], "video/mp4")
    return next((name for begin, name in _SIGNATURES if data.startswith(begin)), "")


def _fits(media_type: str, kind: str) -> bool:
    found = media_type.partition("/")[0]
    return found == kind or {found, kind} == {"audio", "video"}

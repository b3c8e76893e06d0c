"""Parts of a message's content that are no text: images, audio, video and files, brought into one form.

That form is OpenAI's (``image_url``, ``input_audio``, ``file``), and what vLLM, SGLang and lmdeploy have
beside it (``video_url``, ``audio_url``, ``time_series_url``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import validators
from .errors import InvalidArgument, UnsupportedParameter
from .schema import Message

if TYPE_CHECKING:
    from .media import Media

__all__ = ["EVERY_PART", "AcceptedParts", "accept_parts", "check_part", "without_data"]

#: Types of parts that callers give, and what each holds.
_KINDS = {
    "image_url": "image",
    "image": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "audio": "audio",
    "video_url": "video",
    "video": "video",
    "time_series_url": "time_series",
    "time_series": "time_series",
    "file": "file",
}
#: Types of parts that need no server that sees or hears.
_TEXT = frozenset({"text", "refusal"})
#: Keys of a part, or of the object in it, that hold the content; a string of the second ones is base64.
_URL_KEYS = ("url", "path")
_BASE64_KEYS = ("data", "base64", "file_data")
#: Keys that say what type the content has.
_TYPE_KEYS = ("media_type", "mime_type", "mimeType")
#: Formats of `input_audio`, by media type, where they differ from its second half.
_AUDIO_FORMATS = {"audio/mpeg": "mp3", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mp4": "m4a"}
_AUDIO_TYPES = {name: media_type for media_type, name in _AUDIO_FORMATS.items()} | {"wav": "audio/wav"}
#: Most characters of a content in a journal.
_SHORT = 1024


class AcceptedParts(NamedTuple):
    """The parts that a backend can send besides text.

    Attributes:
        types: Their types in OpenAI's form.
        roles: The roles of messages that may have them; () for all.
    """

    types: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()


#: Those of a server of which nothing is known.
EVERY_PART = AcceptedParts(
    frozenset({"image_url", "input_audio", "audio_url", "video_url", "time_series_url", "file"})
)


def check_part(part: object, argument: str, index: int, number: int) -> object:
    """Bring one part of a content into OpenAI's form; a part of another type is returned as it is.

    Args:
        part: The part: a text, or a dict with ``type``. The content of an image, audio, video or file is what
            `read_media` takes.
        argument: The argument that it was given with, for errors.
        index: The message.
        number: The part.

    Raises:
        InvalidArgument: The content is missing or cannot be read.
    """
    given = part if isinstance(part, dict) else validators.to_builtin(part)
    kind = _KINDS.get(given["type"]) if isinstance(given, Mapping) and _is_text(given.get("type")) else None
    if kind is None:
        return part
    where = f"{argument}[{index}]['content'][{number}]"
    name = given["type"]
    outer = {key: value for key, value in given.items() if key != "type" and value is not None}
    inner = validators.to_builtin(outer.get(name, outer.get(kind)))
    short = not isinstance(inner, Mapping)
    fields = outer if short else {key: value for key, value in inner.items() if value is not None}
    keys = [key for key in dict.fromkeys((name, kind, *_URL_KEYS, *_BASE64_KEYS)) if key in fields]
    if not keys and kind == "file" and "file_id" in fields:
        return part
    if len(keys) != 1:
        what = "the content is missing" if not keys else f"both {keys[0]!r} and {keys[1]!r}"
        example = f"{{'type': {name!r}, {name!r}: …}}"
        raise InvalidArgument(f"{where} (type {name!r}): {what}; give {example}", argument=argument)
    type_keys = (*_TYPE_KEYS, "format") if kind == "audio" else _TYPE_KEYS
    types = [fields.pop(key) for key in type_keys if _is_text(fields.get(key))]
    from .media import read_media  # here, to keep the package's import fast

    media = read_media(
        fields.pop(keys[0]),
        kind,
        f"{where} (type {name!r})",
        argument,
        media_type=_media_type(kind, types[0]) if types else "",
        is_base64=keys[0] in _BASE64_KEYS,
    )
    made = _part(kind, media, fields, where, argument)
    return made if short else {**{key: outer[key] for key in outer if key not in (name, kind)}, **made}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _media_type(kind: str, name: str) -> str:
    """A media type, of one or of the name of a format ('mp3')."""
    return name if "/" in name else _AUDIO_TYPES.get(name, f"{kind}/{name}")


def _part(kind: str, media: Media, fields: dict[str, Any], where: str, argument: str) -> dict[str, Any]:
    """A part in OpenAI's form, with the other `fields` of its object."""
    if kind == "file":
        if media.url:
            raise InvalidArgument(
                f"{where} (type 'file'): a file is sent as data, or by its file_id; got the URL {media.url}",
                argument=argument,
            )
        name = fields.pop("filename", None) or media.name or f"file{media.extension}"
        return {"type": "file", "file": {"filename": name, "file_data": media.data_url, **fields}}
    if kind == "audio" and not media.url:
        form = _AUDIO_FORMATS.get(media.type, media.type.partition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form, **fields}}
    return {"type": f"{kind}_url", f"{kind}_url": {"url": media.data_url, **fields}}


def accept_parts(
    messages: Sequence[Message], accepted: AcceptedParts, backend: str, argument: str = "inputs"
) -> list[Message]:
    """Return `messages` with the parts of their contents as a backend takes them.

    Parts of a type that is unknown here go to every backend that takes more than text.

    Args:
        messages: The messages, as `check_messages` returns them.
        accepted: What the backend takes.
        backend: Name of the backend, for errors.
        argument: The argument that they were given with, for errors.

    Raises:
        UnsupportedParameter: The backend cannot send a part.
    """
    made: list[Message] = []
    for index, message in enumerate(messages):
        parts, role = message.get("content"), message["role"]
        if not isinstance(parts, (list, tuple)):
            made.append(message)
            continue
        found = []
        for number, part in enumerate(parts):
            name = part.get("type") if isinstance(part, Mapping) else "text"
            if not isinstance(name, str) or name in _TEXT:
                found.append(part)
                continue
            if (taken := _as_accepted(part, name, accepted.types)) is None:
                takes = ", ".join(("text", *sorted(accepted.types)))
                why = f"it takes {takes}" if accepted.types else "it takes text only"
            elif accepted.roles and role not in accepted.roles:
                why = f"it takes such parts in messages of {' and '.join(sorted(accepted.roles))}"
            else:
                found.append(taken)
                continue
            raise UnsupportedParameter(
                f"{argument}[{index}] (role {role!r}): {backend} cannot send content[{number}], a part of "
                f"type {name!r}: {why}",
                parameter="content",
                backend=backend.partition(" ")[0],
            )
        made.append({**message, "content": found})
    return made


def _as_accepted(part: Mapping[str, Any], name: str, types: frozenset[str]) -> Mapping[str, Any] | None:
    """The part in a form of which the backend takes the type, None if there is none."""
    if name in types or (types and name not in _KINDS):
        return part
    if name == "input_audio" and "audio_url" in types:
        audio = part["input_audio"]
        url = f"data:{_media_type('audio', audio['format'])};base64,{audio['data']}"
        return {"type": "audio_url", "audio_url": {"url": url}}
    return None


def without_data(content: object) -> object:
    """A content in which large data are replaced by their type, size and SHA-256, for journals."""
    return [*map(_without_data, content)] if isinstance(content, (list, tuple)) else content


def _without_data(part: Any) -> Any:
    name = part.get("type") if isinstance(part, Mapping) else None
    inner = part.get(name) if name in _KINDS else None
    if not isinstance(inner, Mapping):
        return part
    from .media import summary  # here, to keep the package's import fast

    for key in ("url", *_BASE64_KEYS):
        text = inner.get(key)
        if isinstance(text, str) and len(text) > _SHORT and (key != "url" or text.startswith("data:")):
            begin, _, data = text.rpartition(",")
            media_type = begin.partition(";")[0] or f"data:{_media_type('audio', inner.get('format', ''))}"
            return {**part, name: {**inner, key: f"{media_type};{summary(data)},"}}
    return part

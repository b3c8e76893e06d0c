"""Images, recordings and files as data: where they come from, their types and sizes."""

import base64
import io
import os
import wave
from pathlib import Path

import pytest
from PIL import Image

from lagent_llms import media
from lagent_llms.errors import InvalidArgument
from lagent_llms.media import read_media


def encoded(form, mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, (3, 2)).save(out, form)
    return out.getvalue()


def recording():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\1" * 40)
    return out.getvalue()


PNG, WAV = encoded("PNG"), recording()
MP4 = b"\0\0\0\x18ftypisom" + bytes(16)


def read(value, kind="image", **kwargs):
    return read_media(value, kind, "inputs[0]['content'][1]", "inputs", **kwargs)


@pytest.mark.parametrize(
    ("data", "kind", "expected"),
    [
        (PNG, "image", "image/png"),
        (encoded("JPEG"), "image", "image/jpeg"),
        (encoded("GIF", "P"), "image", "image/gif"),
        (encoded("WEBP"), "image", "image/webp"),
        (encoded("TIFF"), "image", "image/tiff"),
        (WAV, "audio", "audio/wav"),
        (b"ID3\4" + bytes(9), "audio", "audio/mpeg"),
        (b"fLaC" + bytes(9), "audio", "audio/flac"),
        (b"\0\0\0\x18ftypM4A " + bytes(9), "audio", "audio/mp4"),
        (MP4, "video", "video/mp4"),
        (MP4, "audio", "audio/mp4"),
        (b"\x1aE\xdf\xa3" + bytes(9), "video", "video/webm"),
        (b"%PDF-1.7\n", "file", "application/pdf"),
        (b"plain", "file", "application/octet-stream"),
    ],
)
def test_the_content_tells_the_type(data, kind, expected, tmp_path):
    path = tmp_path / "content"
    path.write_bytes(data)
    url = f"data:{expected};base64,{base64.b64encode(data).decode()}"
    for value in (data, bytearray(data), memoryview(data), path, url):
        found = read(value, kind)
        assert (found.type, base64.b64decode(found.data), found.data_url) == (expected, data, url)


@pytest.mark.parametrize(
    ("name", "data", "kind", "expected"),
    [
        ("drawing.svg", b"<svg/>", "image", "image/svg+xml"),
        ("wrong.gif", PNG, "image", "image/png"),
        ("notes.txt", b"ID3 is a tag", "file", "text/plain"),
        ("page.pdf", b"%PDF-1.7\n", "file", "application/pdf"),
    ],
)
def test_the_name_of_a_file_tells_what_its_content_does_not(tmp_path, name, data, kind, expected):
    path = tmp_path / name
    path.write_bytes(data)
    assert (read(path, kind).type, read(path, kind).name) == (expected, name)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "F", "YCbCr"])
def test_images_of_pil_are_sent_as_png(mode):
    found = read(Image.new(mode, (3, 2)))
    with Image.open(io.BytesIO(base64.b64decode(found.data))) as image:
        assert (found.type, image.format, image.size) == ("image/png", "PNG", (3, 2))


def test_urls_are_kept_and_a_given_type_is_the_type():
    assert read("HTTPS://host/cat.png?a=1").data_url == "HTTPS://host/cat.png?a=1"
    text = base64.b64encode(PNG).decode()
    assert read(text, is_base64=True).data_url == f"data:image/png;base64,{text}"
    assert read(base64.encodebytes(PNG).decode(), is_base64=True).data == text
    assert read(f"data:;base64,{text}").type == "image/png"
    assert read(f"data:image/x-png;charset=utf-8;base64,{text}") == ("", "image/x-png", text, "")
    assert read(b"\0\1", "audio", media_type="audio/pcm16").type == "audio/pcm16"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (
            "cat.png",
            r"'cat.png': a text is a URL .* a file of this machine as pathlib.Path\('cat.png'\)",
        ),
        ("file:///etc/passwd", r"as pathlib.Path\('/etc/passwd'\)"),
        ("data:image/png,abc", "a data URL has the form data:image/png;base64"),
        ("data:image/png;base64,a!b", "'a!b' is no base64"),
        ("data:image/png;base64,", "the image is empty"),
        (b"", "the image is empty"),
        (b"text", "it is no image of a known type"),
        (WAV, "it is audio/wav, expected an image"),
        ("data:audio/wav;base64,AAAA", "it is audio/wav, expected an image"),
        (3, "3 is no image: allowed is a URL .*, a pathlib.Path, bytes, or an image of PIL"),
        (None, "None is no image"),
        (Path("no such file"), "no such file cannot be read: No such file or directory"),
        (Path("a\0b"), "cannot be read: embedded null byte"),
        (Path(os.curdir), r"\. is no file"),
        (Image.new("RGB", (0, 2)), "the image cannot be encoded"),
    ],
)
def test_what_is_refused(value, error):
    with pytest.raises(InvalidArgument, match=error) as caught:
        read(value)
    assert str(caught.value).startswith("inputs[0]['content'][1]: ")
    assert caught.value.argument == "inputs"


def test_a_limit_of_size(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MOST_BYTES", len(PNG))
    path = tmp_path / "cat.png"
    for data, fits in ((PNG, True), (PNG + b"\0", False)):
        path.write_bytes(data)
        text = base64.b64encode(data + bytes(0 if fits else 3)).decode()
        for value in (path, data, f"data:image/png;base64,{text}"):
            if fits:
                assert base64.b64decode(read(value).data) == PNG
                continue
            with pytest.raises(InvalidArgument, match=rf"\d+ bytes: allowed are at most {len(PNG)} "):
                read(value)


def test_a_named_pipe_is_no_file_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidArgument, match="pipe is no file"):
        read(tmp_path / "pipe")

"""Images, audio, video and files in messages: forms of callers, and what a backend takes of them."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from lagent_llms.content_parts import EVERY_PART, AcceptedParts, accept_parts, without_data
from lagent_llms.errors import InvalidArgument, UnsupportedParameter
from lagent_llms.messages import check_messages

from .model import Model
from .test_media import PNG, WAV

PNG64, WAV64 = base64.b64encode(PNG).decode(), base64.b64encode(WAV).decode()
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG64}"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": WAV64, "format": "wav"}}
PDF = b"%PDF-1.7\n"
PDF_URL = f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"


def checked(*parts):
    (message,) = check_messages([{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}])
    json.dumps(message)
    assert message["content"][0] == {"type": "text", "text": "What?"}
    return message["content"][1:]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "cat.png").write_bytes(PNG)
    return tmp_path / "cat.png"


def test_forms_of_images(path):
    for part in (
        IMAGE,
        Model(type="image_url", image_url=Model(url=IMAGE["image_url"]["url"], detail=None)),
        {"type": "image_url", "image_url": IMAGE["image_url"]["url"]},
        {"type": "image_url", "image_url": {"url": path}},
        {"type": "image_url", "image_url": PNG},
        {"type": "image", "image": path},
        {"type": "image", "path": path},
        {"type": "image", "image": {"url": PNG}},
        {"type": "image", "url": IMAGE["image_url"]["url"]},
        {"type": "image", "base64": PNG64},
        {"type": "image", "data": PNG64, "mimeType": "image/png"},
    ):
        assert checked(part) == [IMAGE], part
    (part,) = checked({"type": "image", "image": Image.new("RGB", (3, 2))})
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    assert checked({"type": "image", "image": "https://host/a.png", "detail": "low"}) == [
        {"type": "image_url", "image_url": {"url": "https://host/a.png", "detail": "low"}}
    ]


def test_further_fields_stay_where_they_are(path):
    given = {"type": "image_url", "image_url": {"url": path, "detail": "low"}, "cache_control": {"type": "x"}}
    assert checked(given) == [{**given, "image_url": {**IMAGE["image_url"], "detail": "low"}}]


def test_forms_of_audio_and_video(tmp_path):
    path = tmp_path / "hello.wav"
    path.write_bytes(WAV)
    for part in (
        AUDIO,
        {"type": "input_audio", "input_audio": {"data": WAV}},
        {"type": "input_audio", "input_audio": path},
        {"type": "audio", "audio": path},
        {"type": "audio", "data": WAV64, "mimeType": "audio/wav"},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{WAV64}"}},
    ):
        assert checked(part) == [AUDIO], part
    raw = {"type": "input_audio", "input_audio": {"data": "AAEC", "format": "pcm16"}}
    assert checked(raw) == [raw]
    (mp3,) = checked({"type": "audio", "audio": b"ID3" + bytes(9)})
    assert mp3["input_audio"]["format"] == "mp3"
    url = {"type": "audio_url", "audio_url": {"url": "https://host/a.wav"}}
    assert checked({"type": "audio", "audio": "https://host/a.wav"}) == checked(url) == [url]
    video = {"type": "video_url", "video_url": {"url": "https://host/a.mp4", "fps": 2}}
    assert checked({"type": "video", "video": "https://host/a.mp4", "fps": 2}) == checked(video) == [video]


def test_forms_of_files(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(PDF)
    file = {"type": "file", "file": {"filename": "report.pdf", "file_data": PDF_URL}}
    for part in (
        file,
        {"type": "file", "file": path},
        {"type": "file", "file": {"file_data": path}},
        {"type": "file", "file": PDF, "filename": "report.pdf"},
        {"type": "file", "file": {"filename": "report.pdf", "file_data": PDF_URL.partition(",")[2]}},
    ):
        assert checked(part) == [file], part
    assert checked({"type": "file", "file": PDF})[0]["file"]["filename"] == "file.pdf"
    known = {"type": "file", "file": {"file_id": "file-1"}}
    assert checked(known) == [known]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "image", "image": "cat.png"}, r"\['content'\]\[1\] \(type 'image'\): 'cat.png': a text is"),
        ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "a text is a URL"),
        ({"type": "image_url"}, "the content is missing; give {'type': 'image_url', 'image_url': …}"),
        ({"type": "image", "image": None}, "the content is missing"),
        ({"type": "image", "url": "https://a", "data": PNG64}, "both 'url' and 'data'"),
        ({"type": "file", "file": "https://a/b.pdf"}, "a file is sent as data, or by its file_id"),
        ({"type": "audio", "audio": PNG}, "it is image/png, expected an audio"),
        ({"type": "thing", "thing": Path("x")}, r"\['content'\]\[1\]\['thing'\]=PosixPath"),
    ],
)
def test_what_is_refused(part, error):
    with pytest.raises(InvalidArgument, match=error) as caught:
        checked(part)
    assert str(caught.value).startswith("inputs[0]['content']") or "inputs[0]['content']" in str(caught.value)
    assert caught.value.argument == "inputs"


def test_a_text_of_json_never_names_a_file_of_this_machine(path):
    for part in (
        {"type": "image", "image": str(path)},
        {"type": "image", "path": str(path)},
        {"type": "image", "url": path.as_uri()},
        {"type": "image_url", "image_url": {"url": str(path)}},
        {"type": "input_audio", "input_audio": {"data": str(path), "format": "wav"}},
        {"type": "file", "file": {"file_data": str(path)}},
        {"type": "file", "file": str(path)},
        {"type": "time_series_url", "time_series_url": {"url": str(path)}},
        {"type": "image_url", "image_url": {"url": str(path), "file_id": "1"}},
        {"type": "file", "file": {"file_id": "1", "path": str(path)}},
        {"type": "image_url", "image_url": {"url": "https://host/a.png", "data": str(path)}},
    ):
        with pytest.raises(InvalidArgument):
            checked(json.loads(json.dumps(part)))


def messages(*parts, role="user"):
    return check_messages([{"role": "user", "content": "hi"}, {"role": role, "content": ["Look:", *parts]}])


def test_what_is_not_taken_is_refused_by_name():
    taken = AcceptedParts(frozenset({"image_url"}), frozenset({"user"}))
    assert accept_parts(messages(IMAGE), taken, "X") == messages(IMAGE)
    for accepted, parts, role, error in (
        (
            taken,
            (IMAGE, AUDIO),
            "user",
            r"content\[2\], a part of type 'input_audio': it takes text, im",
        ),
        (taken, (IMAGE,), "system", "it takes such parts in messages of user"),
        (AcceptedParts(), (IMAGE,), "user", "it takes text only"),
        (AcceptedParts(), ({"type": "thing", "thing": 1},), "user", "type 'thing': it takes text only"),
    ):
        with pytest.raises(UnsupportedParameter, match=error) as caught:
            accept_parts(messages(*parts, role=role), accepted, "X with a meta_template")
        assert str(caught.value).startswith(f"inputs[1] (role {role!r}): X with a meta_template cannot send")
        assert (caught.value.parameter, caught.value.backend) == ("content", "X")


def test_texts_and_parts_of_a_servers_own_type_pass():
    series = {"type": "time_series_url", "time_series_url": {"url": "https://a", "sampling_rate": 100}}
    for own in (series, {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}):
        assert messages(own)[1]["content"][1:] == [own]
        assert accept_parts(messages(own), EVERY_PART, "X") == messages(own)
    refusal = {"type": "refusal", "refusal": "no"}
    assert accept_parts(messages(refusal), AcceptedParts(), "X") == messages(refusal)


def test_audio_becomes_a_url_where_only_that_is_taken():
    (_, found) = accept_parts(messages(AUDIO), AcceptedParts(frozenset({"audio_url"})), "X")
    assert found["content"][1:] == [
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{WAV64}"}}
    ]


def test_large_data_are_their_hash_in_a_journal():
    large = PNG + bytes(2000)
    (image, audio, file, url, small) = checked(
        {"type": "image", "image": large, "detail": "low"},
        {"type": "audio", "audio": WAV + bytes(2000)},
        {"type": "file", "file": PDF + bytes(2000), "filename": "a.pdf"},
        {"type": "image", "image": "https://host/" + "a" * 2000},
        IMAGE,
    )
    content = [{"type": "text", "text": "data:" + "a" * 2000}, image, audio, file, url, small]
    found = without_data(content)
    summary = f"data:image/png;bytes={len(large)};sha256={sha256(large).hexdigest()},"
    assert found[1] == {"type": "image_url", "image_url": {"url": summary, "detail": "low"}}
    assert found[2]["input_audio"]["data"].startswith(f"data:audio/wav;bytes={len(WAV) + 2000};sha256=")
    assert found[3]["file"]["file_data"].startswith("data:application/pdf;bytes=2009;sha256=")
    assert [found[0], *found[4:]] == [content[0], url, small]
    assert without_data(found) == found

"""Images, audio and video for lmdeploy, read by its own parser of messages. Runs where lmdeploy is installed.

There is no vision-language model that is small enough. So an encoder of this file takes the place of the
model's; requests, parsers, decoders of media, pipeline and engine are the real ones.
"""

import asyncio
import base64
import io
import sys
import wave

import pytest
from lmdeploy.serve.openai.protocol import ChatCompletionRequest
from lmdeploy.serve.processors import MultimodalProcessor
from lmdeploy.vl.constants import Modality
from lmdeploy.vl.media import audio, video
from lmdeploy.vl.model.base import VisionModel
from PIL import Image

from lagent_llms import LMDeployClient, LMDeployPipeline, OpenAIClient, UnsupportedParameter
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from tests import lmdeploy_peer as peers

RED, BLUE = (200, 10, 20), (10, 20, 200)


def recording():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\1" * 40)
    return out.getvalue()


WAV, MP4 = recording(), b"\0\0\0\x18ftypisom" + bytes(16)


@pytest.fixture
def dialog(tmp_path):
    """Two turns: an image of PIL and one in a file, and a file that a tool has returned."""
    Image.new("RGB", (3, 2), BLUE).save(tmp_path / "blue.png")
    return [
        {"role": "system", "content": [{"type": "text", "text": "You see."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which colours?"},
                {"type": "image", "image": Image.new("RGB", (2, 2), RED)},
                {"type": "image_url", "image_url": {"url": tmp_path / "blue.png", "max_pixels": 64}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"name": "draw", "arguments": {}}]},
        {"role": "tool", "content": [{"type": "image", "path": tmp_path / "blue.png"}]},
    ]


def read(llm, messages):
    """Return the messages of a request as lmdeploy reads them, and their media."""
    body = llm.answer_call(llm.prepare(messages, {}).request, "m").request.body
    request = ChatCompletionRequest.model_validate_json(body)
    found = asyncio.run(MultimodalProcessor.async_parse_multimodal_item(request.messages))
    return found, VisionModel.collect_multimodal_items(found)


@pytest.mark.parametrize("make", [LMDeployClient, lambda *args: OpenAIClient(*args, flavour="lmdeploy")])
def test_lmdeploy_reads_the_images_of_a_request(make, dialog):
    messages, media = read(make("http://host", "m"), dialog)
    assert [(kind, item.size, item.getpixel((0, 0))) for kind, item, _ in media] == [
        (Modality.IMAGE, (2, 2), RED),
        (Modality.IMAGE, (3, 2), BLUE),
        (Modality.IMAGE, (3, 2), BLUE),
    ]
    assert media[1][2]["max_pixels"] == 64
    assert messages[1]["content"][0] == {"type": "text", "text": "Which colours?"}
    assert messages[2]["tool_calls"][0]["function"]["name"] == "draw"


def test_lmdeploy_finds_the_data_of_audio_and_video(monkeypatch):
    """The decoders need packages that are not installed; they are given what lmdeploy has found."""
    monkeypatch.setattr(audio.AudioMediaIO, "__init__", lambda self, **_: None)
    monkeypatch.setattr(audio.AudioMediaIO, "load_bytes", lambda _, data: data)
    monkeypatch.setattr(video.VideoMediaIO, "__init__", lambda self, **_: None)
    monkeypatch.setattr(video.VideoMediaIO, "load_base64", lambda _, name, data: (data, name))
    content = [{"type": "audio", "audio": WAV}, {"type": "video", "video": MP4}]
    _, media = read(LMDeployClient("http://host", "m"), [{"role": "user", "content": content}])
    assert [(kind, data) for kind, data, _ in media] == [
        (Modality.AUDIO, WAV),
        (Modality.VIDEO, base64.b64encode(MP4).decode()),
    ]
    assert media[1][2]["video_metadata"] == "video/mp4"


class Encoder:
    """The encoder of a model that has a token for each image; it says what it was given."""

    _uses_new_preprocess = True

    def __init__(self, tokenizer):
        self.model, self.media = self, []
        self._tokenizer = tokenizer

    def get_input_prompt(self, messages, chat_template, **kwargs):
        said = "".join(part["text"] for part in messages[-1]["content"] if part["type"] == "text")
        return chat_template.messages2prompt([{"role": "user", "content": said}], **kwargs)

    async def preprocess(self, messages, input_prompt, mm_processor_kwargs):
        self.media = VisionModel.collect_multimodal_items(messages)
        return {"input_ids": self._tokenizer.encode(input_prompt, add_bos=True), "multimodal": None}


def test_the_pipeline(dialog):
    if not peers.REAL:
        sys.path.insert(0, str(peers.ROOT / "tests" / "peers" / "lmdeploy"))
        import cpu_engine

        cpu_engine.install()
    asked = [{"type": "text", "text": "What is the capital of France?"}, dialog[1]["content"][1]]
    with LMDeployPipeline(EMBEDDED_MODEL, peers.NAME, backend="pytorch", temperature=0) as llm:
        with pytest.raises(UnsupportedParameter, match="LMDeployPipeline cannot send content.1.*text only"):
            llm.chat([{"role": "user", "content": asked}])
        encoder, processor = Encoder(llm._engine.tokenizer), llm._engine._engine.prompt_processor
        processor.vl_encoder, processor.backend, llm._engine.is_multimodal = encoder, "pytorch", True
        opened = llm.chat([{"role": "user", "content": asked}], session_id=1, sequence_end=False)
        assert opened == "The capital of France is Paris."
        assert [(item.size, item.getpixel((0, 0))) for _, item, _ in encoder.media] == [((2, 2), RED)]
        asked = [{"type": "text", "text": "What is the capital of Spain?"}, dialog[1]["content"][2]]
        assert "Madrid" in llm.chat([{"role": "user", "content": asked}], session_id=1, sequence_start=False)
        assert [item.size for _, item, _ in encoder.media] == [(2, 2), (3, 2)]
        assert "Paris" in llm.chat("What is the capital of France?")

"""The examples of seed 003 run unchanged except for the import and the address."""

import pytest

from lagent_llms import ModelStatusCode
from tests import triton_peer

CONSTRUCTION = """
from lagent_llms import TritonClient
from lagent_llms import INTERNLM2_META as META
chatbot = TritonClient(
    tritonserver_addr='{address}',
    model_name='internlm2-chat-7b',
    meta_template=META,
    session_len=16384 * 2,
    max_new_tokens=1024,
    top_p=0.8,
    top_k=None,
    temperature=0,
    repetition_penalty=1.0,
    stop_words=['<|im_end|>']
)
"""

GENERATE = """
response = chatbot.generate(
    inputs='hello',
    session_id=2967,
    request_id='1',
    sequence_start=True,
    sequence_end=True,
    max_new_tokens=2048,
    temperature=0.8
)
"""

STREAM_CHAT = """
for status, res, _ in chatbot.stream_chat(
    inputs=[
        dict(
            role='system',
            content='You are InternLM (书生·浦语), a helpful, honest, and harmless AI assistant developed by Shanghai AI Laboratory (上海人工智能实验室).',
        ),
        dict(
            role='user',
            content='hello'
        )
    ],
    session_id=2967,
    request_id='1',
    sequence_start=True,
    sequence_end=True,
    max_new_tokens=2048,
    temperature=0.8
):
    print(res, end='\\n', flush=True)
"""  # noqa: E501

#: Models deployed under that name, or in its place.
DEPLOYED = {
    "turbomind": (["preprocessing", "turbomind", "postprocessing"], {}),
    "trtllm": (["trtllm"], {"trtllm": "internlm2-chat-7b"}),
    "vllm": (["vllm"], {"vllm": "internlm2-chat-7b"}),
}


@pytest.mark.parametrize("dialect", DEPLOYED)
def test_the_examples(dialect, capsys):
    models, names = DEPLOYED[dialect]
    with triton_peer.served(models, renamed=names) as peer:
        found = {}
        exec(compile(CONSTRUCTION.format(address=peer.grpc), "<seed 003>", "exec"), found)
        try:
            for part in (GENERATE, STREAM_CHAT):
                exec(compile(part, "<seed 003>", "exec"), found)
            assert found["chatbot"].dialect_found() == dialect
        finally:
            found["chatbot"].close()
        assert {event["request_id"] for event in peer.events("begin") if event["request_id"]} == {"1"}
    assert isinstance(found["response"], str)
    assert found["status"] == ModelStatusCode.END
    assert found["res"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(lines[0])

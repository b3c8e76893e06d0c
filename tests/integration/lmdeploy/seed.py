"""The examples of seed 003 as written there, except imports, the model's path and the server's address."""

HEAD = """\
from lagent_llms import {name}
from lagent_llms import INTERNLM2_META as META
chatbot = {name}(
"""

ARGUMENTS = """\
    meta_template=META,
    max_new_tokens=1024,
    top_p=0.8,
    top_k=None,
    temperature=0,
    repetition_penalty=1.0,
    stop_words=['<|im_end|>']
)
"""

CLIENT = (
    HEAD.format(name="LMDeployClient")
    + """\
    url='{url}',
    model_name='internlm2-chat-7b',
"""
    + ARGUMENTS
)

SERVER = (
    HEAD.format(name="LMDeployServer")
    + """\
    path='{path}',
    model_name='internlm2-chat-7b',
    server_name='0.0.0.0',
    server_port={port},
    tp=1,
"""
    + ARGUMENTS
)

PIPELINE = (
    HEAD.format(name="LMDeployPipeline")
    + """\
    path='{path}',
    model_name='internlm2-chat-7b',
"""
    + ARGUMENTS
)

GENERATE = """
response = chatbot.generate(
    inputs='hello',
    session_id=2967,
    sequence_start=True,
    sequence_end=True,
    ignore_eos=False,
    timeout=30,
    max_new_tokens=2048,
    temperature=0.8
)
"""

PIPELINE_GENERATE = """
response = chatbot.generate(
    inputs='hello',
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
    sequence_start=True,
    sequence_end=True,
    stream=True,
    ignore_eos=False,
    timeout=30,
    max_new_tokens=2048,
    temperature=0.8
):
    print(res, end='\\n', flush=True)
"""  # noqa: E501


def run(*parts, **places):
    """Run the parts one after the other; return their variables."""
    names = {}
    try:
        for part in parts:
            filled = part.format(**places) if part in (CLIENT, SERVER, PIPELINE) else part
            exec(compile(filled, "<seed 003>", "exec"), names)
    finally:
        if "chatbot" in names:
            names["chatbot"].close()
    return names

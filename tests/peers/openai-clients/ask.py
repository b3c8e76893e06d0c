"""Call a server with openai, anthropic and LangChain, sync, async and streamed; print answers as JSON."""

import asyncio
import json
import sys

from anthropic import Anthropic
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

URL, MODEL = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
ASKED = {"model": MODEL, "messages": MESSAGES, "temperature": 0}
OPTIONS = {"base_url": URL, "api_key": "none", "max_retries": 0}


def _streamed(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def _asynchronous():
    async with AsyncOpenAI(**OPTIONS) as client:
        whole = await client.chat.completions.create(**ASKED)
        chunks = [chunk async for chunk in await client.chat.completions.create(**ASKED, stream=True)]
    return {"async": whole.choices[0].message.content, "async stream": _streamed(chunks)}


def anthropic():
    asked = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES, "extra_body": {"temperature": 0}}
    with Anthropic(base_url=URL.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_text()
        return {"anthropic": client.messages.create(**asked).content[0].text, "anthropic stream": streamed}


def main():
    with OpenAI(**OPTIONS) as client:
        answers = {
            "models": [model.id for model in client.models.list()],
            "sync": client.chat.completions.create(**ASKED).choices[0].message.content,
            "sync stream": _streamed(client.chat.completions.create(**ASKED, stream=True)),
        }
        asked = {"model": MODEL, "temperature": 0}
        said = client.responses.create(**asked, input=MESSAGES)
        answers["responses"] = said.output_text
        again = {"previous_response_id": said.id, "input": MESSAGES}
        with client.responses.stream(**asked, **again) as stream:
            for _ in stream:
                pass
            last = stream.get_final_response()
        answers["responses stream"] = last.output_text
        answers["responses retrieve"] = client.responses.retrieve(last.id).output_text
        client.responses.delete(last.id)
    answers |= anthropic()
    answers |= asyncio.run(_asynchronous())
    langchain = ChatOpenAI(model=MODEL, temperature=0, **OPTIONS)
    answers["langchain"] = langchain.invoke(MESSAGES).content
    answers["langchain stream"] = "".join(chunk.content for chunk in langchain.stream(MESSAGES))
    print(json.dumps(answers))


main()

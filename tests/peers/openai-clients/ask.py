"""Call a server with the openai package and LangChain, sync, async and streamed; print answers as JSON."""

import asyncio
import json
import sys

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


def main():
    with OpenAI(**OPTIONS) as client:
        answers = {
            "models": [model.id for model in client.models.list()],
            "sync": client.chat.completions.create(**ASKED).choices[0].message.content,
            "sync stream": _streamed(client.chat.completions.create(**ASKED, stream=True)),
        }
    answers |= asyncio.run(_asynchronous())
    langchain = ChatOpenAI(model=MODEL, temperature=0, **OPTIONS)
    answers["langchain"] = langchain.invoke(MESSAGES).content
    answers["langchain stream"] = "".join(chunk.content for chunk in langchain.stream(MESSAGES))
    print(json.dumps(answers))


main()

"""One interface to three clients of the protocol, synchronous and asynchronous: ours and two others.

It imports only the chosen client, because it also runs in environments without this project.
"""

import asyncio


class NotOffered(Exception):
    """The client does not support this."""


def make(kind, url, **options):
    """Create the client `kind`: 'ours', 'lorax-client' or 'huggingface_hub', each also with ' async'."""
    name, _, asynchronous = kind.partition(" ")
    return {"ours": Lorax, "lorax-client": Lorax, "huggingface_hub": Hub}[name](
        name, url, bool(asynchronous), **options
    )


class _Base:
    def __init__(self, asynchronous):
        self.loop = asyncio.new_event_loop() if asynchronous else None

    def end(self):
        """Close the event loop as asyncio.run does."""
        if self.loop is not None:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def run(self, result):
        """Return the result of a call; await it if the client is asynchronous."""
        return result if self.loop is None else self.loop.run_until_complete(result)

    def all_of(self, stream):
        """Return all items of a stream."""
        items = []
        if self.loop is None:
            return list(stream)

        async def read():
            async for item in stream:
                items.append(item)
            return items

        return self.loop.run_until_complete(read())


class Lorax(_Base):
    """`Client` and `AsyncClient`, of lagent_llms or of lorax-client."""

    def __init__(self, name, url, asynchronous, *, token=None, timeout=20):
        super().__init__(asynchronous)
        if name == "ours":
            from lagent_llms import lorax
        else:
            import lorax
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self.module = lorax
        cls = lorax.AsyncClient if asynchronous else lorax.Client
        self.client = cls(url, headers=headers, timeout=timeout)

    def generate(self, prompt, *, merged=None, schema=None, stop=None, **params):
        given = self._given(merged, schema, stop, params)
        response = self.run(self.client.generate(prompt, **given))
        details = response.details
        return {
            "text": response.generated_text,
            "reason": details and details.finish_reason.value,
            "tokens": details and [token.id for token in details.tokens],
            "prefill": details and len(details.prefill),
            "seed": details and details.seed,
            "others": details and len(details.best_of_sequences or []),
        }

    def stream(self, prompt, *, merged=None, schema=None, stop=None, **params):
        """Return the joined text of the tokens, and the text of the final event."""
        found = self.all_of(self.client.generate_stream(prompt, **self._given(merged, schema, stop, params)))
        return "".join(one.token.text for one in found if not one.token.special), found[-1].generated_text

    def _given(self, merged, schema, stop, params):
        given = dict(params)
        if merged:
            given["merged_adapters"] = self.module.client.MergedAdapters(**merged)
        if schema:
            given["response_format"] = {"type": "json_object", "schema": schema}
        if stop:
            given["stop_sequences"] = stop
        return given

    def chat(self, question, adapter_id):
        if self.module.__name__ == "lorax":
            raise NotOffered
        import lagent_llms

        cls = lagent_llms.LoRAX if self.loop is None else lagent_llms.AsyncLoRAX
        llm = cls(self.client.base_url, temperature=0, max_new_tokens=40)
        return self.run(llm.chat([{"role": "user", "content": question}], adapter_id=adapter_id))

    def close(self):
        if not hasattr(self.client, "close"):
            raise NotOffered
        self.run(self.client.close())


class Hub(_Base):
    """huggingface_hub's `InferenceClient` and `AsyncInferenceClient`."""

    def __init__(self, name, url, asynchronous, *, token=None, timeout=20):
        super().__init__(asynchronous)
        import huggingface_hub

        cls = huggingface_hub.AsyncInferenceClient if asynchronous else huggingface_hub.InferenceClient
        self.client = cls(model=url, token=token, timeout=timeout)
        self.messages = cls(base_url=url, token=token, timeout=timeout)

    def generate(self, prompt, **params):
        found = self.run(self.client.text_generation(prompt, details=True, **self._given(params)))
        details = found.details
        return {
            "text": found.generated_text,
            "reason": details.finish_reason,
            "tokens": [token.id for token in details.tokens],
            "prefill": len(details.prefill or []),
            "seed": details.seed,
            "others": len(details.best_of_sequences or []),
        }

    def stream(self, prompt, **params):
        result = self.client.text_generation(prompt, details=True, stream=True, **self._given(params))
        found = self.all_of(self.run(result) if self.loop is not None else result)
        return "".join(one.token.text for one in found if not one.token.special), found[-1].generated_text

    def chat(self, question, adapter_id):
        messages = [{"role": "user", "content": question}]
        result = self.messages.chat_completion(messages, model=adapter_id, max_tokens=40, temperature=0)
        return self.run(result).choices[0].message.content

    def _given(self, params):
        given = {"max_new_tokens": 20, **params}
        # A schema would go into TGI's field `grammar`, which LoRAX does not read.
        if {"merged", "schema", "adapter_source"} & set(given):
            raise NotOffered
        return given

    def close(self):
        close = getattr(self.client, "close", None)
        if close is None:
            raise NotOffered
        self.run(close())

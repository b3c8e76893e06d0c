"""`JAXServerConfig`: the 24 attributes of a JAX server's configuration, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ...errors import ConfigError, InvalidArgument, nearest
from ...params import GenerationParams

__all__ = ["JAXServerConfig"]


@dataclass
class JAXServerConfig:
    """How a `JAXServer` listens, formats prompts and decodes.

    Attributes:
        host: The address to listen on.
        port: Its port; 0 takes a free one.
        instruct_format: How an instruction is written, with ``{system}`` and ``{instruct}``.
        chat_format: How one earlier exchange is written, with ``{prompt}`` and ``{assistant}``.
        system_prefix: Put before the system message.
        system: The system message of a request that brings none.
        prompt_prefix_instruct: Put before the prompt of an instruction.
        prompt_postfix_instruct: Put after it.
        prompt_prefix_chat: Put before the prompt of a chat.
        prompt_postfix_chat: Put after it.
        chat_prefix: Put before a whole chat.
        contains_auto_format: Whether the model is looked at for a format of its own: formats that are all
            left at their defaults give way to its chat template, if it has one. False keeps them as they are.
        max_length: Most tokens of a prompt and its answer together. The default gives way to a model that was
            made for less; another value must fit the model.
        max_new_tokens: Most tokens of an answer, which ends at `max_length` at the latest.
        max_compile_tokens: Most tokens decoded between two steps of a stream.
        temperature: Randomness of a request that says nothing; 0 is greedy.
        top_p: Nucleus sampling, above 0 to 1.
        top_k: Keep this many most probable tokens; None is no filter.
        logging: Whether requests are logged.
        mesh_axes_names: Names of the device mesh's axes.
        mesh_axes_shape: Its shape; -1 is all remaining devices.
        dtype: 'fp16', 'bf16', 'fp32' or their long names; fp16 computes in fp32 on a CPU.
        seed: What the seeds of requests that bring none are drawn from, in the order in which they come:
            asked the same from its start on, a server answers the same; two equal requests differ. None is
            the system's randomness.
        use_prefix_tokenizer: Whether prompts of generation functions are padded on the left to a few widths,
            each of which is compiled once; False compiles every length. Our engine pads nothing.
    """

    host: str = "0.0.0.0"
    port: int = 2059
    instruct_format: str = "### SYSTEM:\n{system}\n### INSTRUCT:\n{instruct}\n### ASSISTANT:\n"
    chat_format: str = "<|prompter|>{prompt}</s><|assistant|>{assistant}</s>"
    system_prefix: str = ""
    system: str = ""
    prompt_prefix_instruct: str = ""
    prompt_postfix_instruct: str = ""
    prompt_prefix_chat: str = "<|prompter|>"
    prompt_postfix_chat: str = "</s><|assistant|>"
    chat_prefix: str = ""
    contains_auto_format: bool = True
    max_length: int = 2048
    max_new_tokens: int = 2048
    max_compile_tokens: int = 32
    temperature: float = 0.1
    top_p: float = 0.95
    top_k: int | None = 50
    logging: bool = False
    mesh_axes_names: Sequence[str] = ("dp", "fsdp", "mp")
    mesh_axes_shape: Sequence[int] = (1, -1, 1)
    dtype: str = "fp16"
    seed: int | None = 556
    use_prefix_tokenizer: bool = True

    def __post_init__(self) -> None:
        GenerationParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
        )
        for name, check in _CHECKS.items():
            fits, allowed = check
            if not fits(value := getattr(self, name)):
                raise InvalidArgument(f"{name}={value!r}: allowed is {allowed}", argument=name)
        _check_format("instruct_format", self.instruct_format, ("system", "instruct"))
        _check_format("chat_format", self.chat_format, ("prompt", "assistant"))

    @classmethod
    def of(cls, config: object = None) -> JAXServerConfig:
        """A configuration from None (the defaults), a dict of updates, or any object with the attributes.

        Raises:
            ConfigError: A key that is no attribute.
            InvalidArgument: A value that cannot be used.
        """
        if isinstance(config, JAXServerConfig):
            return replace(config)
        names = [item.name for item in fields(cls)]
        if config is None:
            return cls()
        if not isinstance(config, Mapping):
            found = {name: getattr(config, name) for name in names if hasattr(config, name)}
            if not found:
                raise ConfigError(
                    f"config={config!r}: allowed is None, a dict, or an object with attributes such as 'port'"
                )
            return cls(**found)
        if stray := [key for key in config if key not in names]:
            raise ConfigError(f"config: unknown key {stray[0]!r}{nearest(str(stray[0]), names)}")
        return cls(**config)


def _is_whole(value: Any, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_list(value: Any, kind: type) -> bool:
    return (
        isinstance(value, Sequence) and not isinstance(value, str) and all(type(one) is kind for one in value)
    )


_Check = tuple[Callable[[Any], bool], str]
_TEXT: _Check = (lambda value: isinstance(value, str), "a text")
_FLAG: _Check = (lambda value: isinstance(value, bool), "True or False")
_COUNT: _Check = (lambda value: _is_whole(value, 1), "an integer of 1 or more")

#: What `GenerationParams` does not check.
_CHECKS: dict[str, _Check] = {
    "host": (lambda value: isinstance(value, str) and bool(value), "an address such as '127.0.0.1'"),
    "port": (lambda value: _is_whole(value, 0, 65535), "an integer from 0 to 65535"),
    **dict.fromkeys(("system_prefix", "system", "chat_prefix"), _TEXT),
    **dict.fromkeys(("prompt_prefix_instruct", "prompt_postfix_instruct"), _TEXT),
    **dict.fromkeys(("prompt_prefix_chat", "prompt_postfix_chat", "dtype"), _TEXT),
    **dict.fromkeys(("contains_auto_format", "logging", "use_prefix_tokenizer"), _FLAG),
    **dict.fromkeys(("max_length", "max_compile_tokens"), _COUNT),
    "mesh_axes_names": (lambda value: _is_list(value, str), "a list of names"),
    "mesh_axes_shape": (lambda value: _is_list(value, int), "a list of integers"),
}


def _check_format(name: str, text: Any, keys: tuple[str, ...]) -> None:
    try:
        text.format(**dict.fromkeys(keys, ""))
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        allowed = " and ".join(f"{{{key}}}" for key in keys)
        raise InvalidArgument(f"{name}={text!r}: allowed is a text with {allowed}", argument=name) from error

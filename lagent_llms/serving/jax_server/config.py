"""`JAXServerConfig`: the 26 validated attributes of a JAX server's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ...errors import ConfigError, InvalidArgument, nearest
from ...params import CallOptions, GenerationParams
from .easydel_names import CONFIG_HINTS

__all__ = ["JAXServerConfig"]


@dataclass
class JAXServerConfig:
    """How a `JAXServer` listens, formats prompts and decodes.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        instruct_format: Format of an instruction prompt, with ``{system}`` and ``{instruct}``.
        chat_format: Format of one earlier turn and its answer, with ``{prompt}`` and ``{assistant}``.
        system_prefix: Text before the system message.
        system: The system message of requests without one.
        prompt_prefix_instruct: Text before the prompt of an instruction.
        prompt_postfix_instruct: Text after the prompt of an instruction.
        prompt_prefix_chat: Text before the newest prompt of a chat.
        prompt_postfix_chat: Text after the newest prompt of a chat.
        chat_prefix: Text before the whole chat.
        contains_auto_format: True takes the formats from the model's chat template, if it has one and all
            formats are at their defaults; False keeps the formats of this configuration.
        max_length: Most tokens of a prompt and its answer together. The default is lowered to the model's
            context length; any other value must not exceed it.
        max_new_tokens: Most tokens of an answer.
        max_compile_tokens: Most tokens decoded per step of a stream.
        temperature: Sampling temperature of requests without one; 0 is greedy.
        top_p: Nucleus sampling, in (0, 1].
        top_k: Keep this many most probable tokens; None is no filter.
        logging: True logs requests.
        mesh_axes_names: Names of the device mesh's axes.
        mesh_axes_shape: Shape of the device mesh; -1 is all remaining devices.
        dtype: 'fp16', 'bf16', 'fp32' or their long names; fp16 computes in fp32 on a CPU.
        seed: Seed of the generator from which requests without a seed draw theirs, in the order of their
            arrival: a run is repeatable, and two equal requests still differ. None seeds it from the system.
        use_prefix_tokenizer: True pads the prompts of generation functions on the left to powers of two, so
            that few shapes are compiled; False compiles every length. The library's own engine pads nothing.
        stream_tokens_for_gradio: True: the pages show answers as they grow.
        injection: What becomes of special tokens in the texts of clients; see `CallOptions.injection`.
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
    stream_tokens_for_gradio: bool = True
    injection: Literal["allow", "escape", "refuse"] = "escape"

    def __post_init__(self) -> None:
        self.top_k = GenerationParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
        ).top_k
        CallOptions(injection=self.injection)
        for name, check in _CHECKS.items():
            is_valid, allowed = check
            if not is_valid(value := getattr(self, name)):
                raise InvalidArgument(f"{name}={value!r}: allowed is {allowed}", argument=name)
        _check_format("instruct_format", self.instruct_format, ("system", "instruct"))
        _check_format("chat_format", self.chat_format, ("prompt", "assistant"))

    @classmethod
    def of(cls, config: object = None) -> JAXServerConfig:
        """Make a configuration.

        Args:
            config: None for the defaults, a dict of changes to them, or an object with any of the attributes.

        Raises:
            ConfigError: A key is not an attribute, or `config` has none of them.
            InvalidArgument: A value has the wrong type or is out of range.
        """
        if isinstance(config, JAXServerConfig):
            return replace(config)
        names = [item.name for item in fields(cls)]
        if config is None:
            return cls()
        if not isinstance(config, Mapping):
            values = {name: getattr(config, name) for name in names if hasattr(config, name)}
            if not values:
                raise ConfigError(
                    f"config={config!r}: allowed is None, a dict, or an object with attributes such as 'port'"
                )
            return cls(**values)
        if unknown := [key for key in config if key not in names]:
            hint = CONFIG_HINTS.get(unknown[0])
            hint = f" ({hint})" if hint else nearest(str(unknown[0]), names)
            raise ConfigError(f"config: unknown key {unknown[0]!r}{hint}")
        return cls(**config)


def _is_integer(value: Any, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_list_of(kind: type, value: Any) -> bool:
    return (
        isinstance(value, Sequence) and not isinstance(value, str) and all(type(one) is kind for one in value)
    )


_Check = tuple[Callable[[Any], bool], str]
_STRING: _Check = (lambda value: isinstance(value, str), "a string")
_BOOL: _Check = (lambda value: isinstance(value, bool), "True or False")
_COUNT: _Check = (lambda value: _is_integer(value, 1), "an integer of 1 or more")

#: Attributes that `GenerationParams` does not validate: (check, allowed values).
_CHECKS: dict[str, _Check] = {
    "host": (
        lambda value: isinstance(value, str) and bool(value),
        "an address such as '127.0.0.1'",
    ),
    "port": (lambda value: _is_integer(value, 0, 65535), "an integer from 0 to 65535"),
    **dict.fromkeys(("system_prefix", "system", "chat_prefix"), _STRING),
    **dict.fromkeys(("prompt_prefix_instruct", "prompt_postfix_instruct"), _STRING),
    **dict.fromkeys(("prompt_prefix_chat", "prompt_postfix_chat", "dtype"), _STRING),
    **dict.fromkeys(("contains_auto_format", "logging", "use_prefix_tokenizer"), _BOOL),
    **dict.fromkeys(("max_length", "max_compile_tokens"), _COUNT),
    "stream_tokens_for_gradio": (lambda value: value is True, "True: the pages always stream"),
    "mesh_axes_names": (lambda value: _is_list_of(str, value), "a list of names"),
    "mesh_axes_shape": (lambda value: _is_list_of(int, value), "a list of integers"),
}


def _check_format(name: str, text: Any, keys: tuple[str, ...]) -> None:
    try:
        text.format(**dict.fromkeys(keys, ""))
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        allowed = " and ".join(f"{{{key}}}" for key in keys)
        raise InvalidArgument(
            f"{name}={text!r}: allowed is a string with {allowed}", argument=name
        ) from error

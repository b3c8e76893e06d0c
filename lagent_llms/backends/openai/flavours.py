"""The kinds of servers with OpenAI's routes: a table of what each takes. Data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from ...content_parts import EVERY_PART, AcceptedParts
from ...params import PARAMETERS
from . import constraints
from .constraints import Constraints

__all__ = ["FLAVOURS", "Flavour", "Tokenize"]

#: Parameters that a request carries unless they have no effect on it; a flavour lists those it takes.
_ON_THE_WIRE = frozenset(
    {name for name, row in PARAMETERS.items() if row.wire}
    | {"adapter_name", "chat_template_kwargs", "continue_final_message", "logprobs", "response_format"}
    | {"reasoning_effort", "tool_choice"}
)


class Tokenize(NamedTuple):
    """A route that returns the token ids of a text, with a BOS.

    Attributes:
        path: Its path, from the server's root.
        text: The field of the request that holds the text.
        ids: The field of the response that holds the ids; '' for a list of objects with an id each.
        fields: Further fields of the request.
    """

    path: str
    text: str
    ids: str
    fields: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Flavour:
    """What one kind of server takes.

    Attributes:
        fields: Parameter -> the field that carries it. Other parameters are refused.
        owners: The values of ``owned_by`` in its list of models.
        tokenize: Its route that counts tokens, None without one.
        limit_of_chats: The field for max_new_tokens in /v1/chat/completions.
        no_top_k: The value of top_k for no filter.
        no_op_is_default: Values that change nothing are what it does without them; they are not sent.
        max_stop_words: The most stop words it gets; it must report which one has ended an answer.
        takes_prompts: Whether /v1/completions takes a prompt as it is.
        not_for_prompts: Parameters that /v1/completions does not take.
        constraints: How /v1/chat/completions takes response_format, where the flavour does.
        constraints_of_prompts: How /v1/completions takes it; None where it does not.
        beside: Parameter -> fields that are sent with it.
        always: Further fields of every request with messages.
        parts: The parts of contents that it takes besides text.
    """

    fields: Mapping[str, str]
    owners: tuple[str, ...] = ()
    tokenize: Tokenize | None = None
    limit_of_chats: str = "max_tokens"
    no_top_k: int | None = 0
    no_op_is_default: bool = False
    max_stop_words: int = 0
    takes_prompts: bool = True
    not_for_prompts: frozenset[str] = frozenset({"reasoning_effort", "tool_choice"})
    constraints: Constraints = constraints.JSON_ONLY
    constraints_of_prompts: Constraints | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    parts: AcceptedParts = AcceptedParts()

    @cached_property
    def unsupported(self) -> frozenset[str]:
        """The parameters it does not take."""
        return _ON_THE_WIRE.difference(self.fields)

    @cached_property
    def prompt_fields(self) -> list[tuple[str, str]]:
        """Parameters that a field of /v1/completions carries unchanged: (name, field)."""
        return [(name, wire) for name, wire in self.fields.items() if PARAMETERS[name].wire]

    @cached_property
    def chat_fields(self) -> list[tuple[str, str]]:
        """The same for /v1/chat/completions."""
        return list({**dict(self.prompt_fields), "max_new_tokens": self.limit_of_chats}.items())

    def constraint_fields(self, constraint: Mapping[str, Any], *, prompt: bool) -> dict[str, Any]:
        """The fields that carry a checked `response_format` on one of the two routes.

        Raises:
            ValueError: The route has none for it.
        """
        if not prompt:
            return self.constraints.fields(constraint)
        if self.constraints_of_prompts is None:
            raise ValueError(
                "its route for a prompt has no field for it; messages without a meta_template go to another"
            )
        return self.constraints_of_prompts.fields(constraint)


def _fields(names: str, **others: str) -> dict[str, str]:
    """Fields with the usual names, and `others`."""
    return {**{name: PARAMETERS[name].wire or name for name in names.split()}, **others}


_BASIC = "max_new_tokens temperature top_p seed"
_PENALTIES = "frequency_penalty presence_penalty"
_ENGINE = f"{_BASIC} top_k min_p repetition_penalty ignore_eos skip_special_tokens logprobs"
_ALL = f"{_ENGINE} {_PENALTIES} min_new_tokens logit_bias reasoning_effort"
_TEMPLATE = "chat_template_kwargs continue_final_message"
_STRUCTURE = "response_format tool_choice"


def _parts(types: str, roles: str = "") -> AcceptedParts:
    return AcceptedParts(frozenset(types.split()), frozenset(roles.split()))


#: By name. 'compatible' is any server that does not say what it is.
FLAVOURS: Mapping[str, Flavour] = {
    "openai": Flavour(
        _fields(f"{_BASIC} {_PENALTIES} logit_bias logprobs reasoning_effort {_STRUCTURE}"),
        owners=("openai", "openai-dev", "openai-internal", "system"),
        limit_of_chats="max_completion_tokens",
        no_op_is_default=True,
        parts=_parts("image_url input_audio file"),
    ),
    "compatible": Flavour(
        _fields(f"{_BASIC} {_PENALTIES} logit_bias logprobs reasoning_effort {_STRUCTURE}"),
        parts=EVERY_PART,
    ),
    "vllm": Flavour(
        _fields(f"{_ALL} {_TEMPLATE} {_STRUCTURE}", adapter_name="model"),
        owners=("vllm",),
        tokenize=Tokenize("/tokenize", "prompt", "tokens"),
        no_top_k=-1,
        max_stop_words=4,
        constraints=constraints.VLLM,
        constraints_of_prompts=constraints.VLLM,
        parts=_parts("image_url input_audio audio_url video_url"),
    ),
    "sglang": Flavour(
        _fields(f"{_ALL} {_TEMPLATE} {_STRUCTURE}", adapter_name="lora_path"),
        owners=("sglang",),
        tokenize=Tokenize("/tokenize", "prompt", "tokens"),
        no_top_k=-1,
        constraints=constraints.SGLANG,
        constraints_of_prompts=constraints.SGLANG,
        parts=_parts("image_url audio_url video_url"),
    ),
    "llama.cpp": Flavour(
        _fields(
            f"{_BASIC} {_PENALTIES} top_k min_p ignore_eos logit_bias logprobs chat_template_kwargs "
            f"{_STRUCTURE}",
            repetition_penalty="repeat_penalty",
        ),
        owners=("llamacpp",),
        tokenize=Tokenize("/tokenize", "content", "tokens", {"add_special": True, "parse_special": True}),
        beside={  # of the whole context, not of 64 tokens
            name: {"repeat_last_n": 1 << 17} for name in ("repetition_penalty", *_PENALTIES.split())
        },
        constraints=constraints.LLAMACPP,
        constraints_of_prompts=constraints.LLAMACPP_PROMPTS,
        parts=_parts("image_url input_audio"),
    ),
    "ollama": Flavour(
        _fields(f"{_BASIC} {_PENALTIES} reasoning_effort response_format"),
        owners=("library",),
        takes_prompts=False,  # it puts them into the model's template
        parts=_parts("image_url"),
    ),
    "tgi": Flavour(
        _fields(f"{_BASIC} frequency_penalty logprobs {_STRUCTURE}"),
        tokenize=Tokenize("/tokenize", "inputs", ""),
        no_op_is_default=True,  # and top_p=1 is refused
        constraints=constraints.TGI,
        not_for_prompts=frozenset({"logprobs", "tool_choice"}),
        parts=_parts("image_url"),
    ),
    "lmdeploy": Flavour(
        _fields(
            f"{_ENGINE} reasoning_effort chat_template_kwargs {_STRUCTURE}",
            adapter_name="model",
            min_new_tokens="min_new_tokens",
        ),
        owners=("lmdeploy",),
        tokenize=Tokenize("/v1/encode", "input", "input_ids", {"do_preprocess": False, "add_bos": True}),
        constraints=constraints.JSON_AND_REGEX,
        not_for_prompts=frozenset({"logprobs", "min_new_tokens", "reasoning_effort", "tool_choice"}),
        parts=_parts("image_url audio_url video_url time_series_url", roles="user tool"),
    ),
    "transformers": Flavour(
        _fields(f"{_BASIC} logit_bias chat_template_kwargs"),
        parts=_parts("image_url input_audio audio_url video_url"),
    ),
    "lagent_llms": Flavour(
        _fields(f"{_ENGINE} {_PENALTIES} min_new_tokens logit_bias response_format {_TEMPLATE}"),
        owners=("lagent_llms",),
        tokenize=Tokenize("/tokenize", "prompt", "tokens"),
        no_top_k=None,
        max_stop_words=128,
        always={"calls_in_content": True},
        constraints=constraints.EVERY_FORM,
        constraints_of_prompts=constraints.EVERY_FORM,
    ),
}

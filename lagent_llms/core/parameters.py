"""Which parameters a backend supports, and a call's values over its defaults. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .. import validators
from ..errors import InvalidArgument, UnknownParameter, UnsupportedParameter, nearest
from ..params import ALIASES, PARAMETERS, SWITCHES, CallOptions, GenerationParams
from .request import Request

__all__ = ["OTHER_NAMES", "ParameterDefaults", "ParameterSet", "suggestion", "unsupported_names"]

#: What other libraries (OpenAI's, transformers, vLLM) call these parameters: the names here, best first.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("max_output_tokens", "max_tokens_to_sample", "max_length"),
        ("max_new_tokens",),
    ),
    **dict.fromkeys(("stop_sequences", "stop_strings", "stop_token", "eos"), ("stop_words",)),
    **dict.fromkeys(
        ("base_url", "api_base", "api_url", "endpoint", "host", "server_url"), ("url", "tritonserver_addr")
    ),
    **dict.fromkeys(("model", "model_id", "model_path"), ("path", "model_name")),
    **dict.fromkeys(("messages", "prompt", "prompts", "input"), ("inputs",)),
    **dict.fromkeys(("model_type", "model_dir"), ("path", "model_name")),
    **dict.fromkeys(("openai_api_base", "sensenova_api_base"), ("url", "tritonserver_addr")),
    **dict.fromkeys(("max_seq_len", "max_model_len"), ("session_len",)),
    "max_out_len": ("max_new_tokens",),
    "org": ("organization",),
    **dict.fromkeys(("min_tokens", "min_length"), ("min_new_tokens",)),
    **dict.fromkeys(("num_return_sequences", "best_of"), ("n",)),
    "top_logprobs": ("logprobs",),
    "functions": ("tools",),
    "function_call": ("tool_choice",),
    "random_seed": ("seed",),
    "url": ("tritonserver_addr",),
    "token": ("api_key",),
    "default_headers": ("headers",),
    "extra_headers": ("headers",),
    "request_timeout": ("timeout",),
    "chat_template": ("meta_template",),
    "template_kwargs": ("chat_template_kwargs",),
    "enable_thinking": ("chat_template_kwargs",),
    "lora": ("adapter_name",),
}

#: Arguments of constructors that others give per call.
_OF_CONSTRUCTORS = frozenset(
    {"url", "model_name", "path", "api_key", "headers", "meta_template", "session_len"}
)

#: Parameters of other libraries without an equivalent: what to do instead.
_INSTEAD = {
    "stream_options": "the token counts come with every answer that has them",
    "echo": "the answer never repeats the prompt",
    "json_mode": "response_format={'type': 'json_object'} asks for JSON",
    "return_dict": "complete() returns the answer with its metadata",
    "stop_words_id": "stop_words takes the texts of these tokens",
    "template_parser": "meta_template says how messages become a prompt",
    "tokenizer_only": "there is no object without its model; tokenize() counts tokens",
    "vllm_cfg": "VLLMPipeline takes it as engine_args",
}

#: Parameters that few backends support: which do.
_ELSEWHERE = {
    "response_format": "; JAXPipeline, JAXClient, LMDeployClient, LMDeployServer, LMDeployPipeline, LoRAX, "
    "OpenAIClient and TritonClient can, where the server does",
}


def suggestion(name: str, known: Iterable[str]) -> str:
    """The part of a message that says what to write for an unknown parameter; '' if nothing is similar.

    Args:
        name: The name that is not known.
        known: The names that are; with "inputs", those of a call.
    """
    known = frozenset(known)
    others = (*OTHER_NAMES.get(name, ()), name)
    for other in others:
        if other in known:
            return f", did you mean {other!r}?"
    if "inputs" in known and not _OF_CONSTRUCTORS.isdisjoint(others):
        return " (it is given when the object is made, not to a call)"
    if "inputs" in others:
        return " (it is given to a call, not when the object is made)"
    if name in _INSTEAD:
        return f" ({_INSTEAD[name]})"
    return nearest(name, known, cutoff=0.66) if len(name) > 2 else ""


#: Every keyword that the table does not have under its own name.
_OTHER_FORMS = ALIASES.keys() | SWITCHES


def _without_aliases(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """`given` under the names of the table."""
    if _OTHER_FORMS.isdisjoint(given):
        return given
    plain = dict(given)
    if validators.to_builtin(plain.pop("do_sample", None)) is False:
        plain["temperature"] = 0
    for alias, name in ALIASES.items():
        if alias in plain:
            value = plain.pop(alias)
            if plain.get(name) is None:
                row = PARAMETERS[name]  # its check names the argument as the caller does
                plain[name] = value if row.means_default(value) else row.check(alias, value)
            elif value is not None:
                other = (
                    name
                    if name in given
                    else next(key for key in given if key != alias and ALIASES.get(key) == name)
                )
                raise InvalidArgument(
                    f"{alias} and {other} are the same; only one can be given", argument=alias
                )
    return plain


def _check_do_sample(value: object, params: GenerationParams) -> None:
    """Check transformers' switch, whose False is a temperature of 0.

    Raises:
        InvalidArgument: It is no switch, or it asks to sample at a temperature of 0.
    """
    if validators.flag("do_sample", value) and params.temperature == 0:
        raise InvalidArgument(
            "do_sample=True: allowed with a temperature above 0, and it is 0 (greedy); give temperature too",
            argument="do_sample",
        )


def _one_adapter(changed: dict[str, Any]) -> None:
    """Let a given adapter replace merged adapters that were the default, and the reverse."""
    for name, other in (("adapter_name", "merged_adapters"), ("merged_adapters", "adapter_name")):
        if changed.get(name) is not None:
            changed.setdefault(other, None)


def unsupported_names(unsupported: Iterable[str], opt_in: Iterable[str] = ()) -> frozenset[str]:
    """Every keyword a backend does not support, aliases included.

    Args:
        unsupported: The parameters it names as unsupported.
        opt_in: The opt-in parameters it names as supported.
    """
    not_taken = {row.name for row in PARAMETERS.values() if row.opt_in}.difference(opt_in)
    refused = not_taken.union(unsupported)
    return frozenset(refused | {alias for alias, name in ALIASES.items() if name in refused})


class ParameterSet:
    """The parameters of one backend class, and the merging of a call's values into its defaults.

    Args:
        backend: Class name, for messages.
        unsupported: Keywords that this backend does not support.

    Attributes:
        known: Every keyword of the table.
    """

    def __init__(self, backend: str, unsupported: Iterable[str] = ()) -> None:
        self.backend = backend
        self.unsupported = frozenset(unsupported)
        self.known = frozenset({*PARAMETERS, *ALIASES, *SWITCHES})
        if stray := self.unsupported - self.known:
            raise ValueError(f"{backend}: not parameters: {sorted(stray)}")

    def merge(
        self, params: GenerationParams, options: CallOptions, given: Mapping[str, Any]
    ) -> tuple[GenerationParams, CallOptions]:
        """The `given` values over the defaults `params` and `options`.

        None means "the default" except where None is itself a value (top_k, stop_words, seed …).

        Raises:
            UnknownParameter: A name that no backend knows.
            UnsupportedParameter: A name this backend does not support, with a value other than its no-op.
            InvalidArgument: A value of the wrong type or out of range.
        """
        changed: dict[type, dict[str, Any]] = {GenerationParams: {}, CallOptions: {}}
        for name, value in _without_aliases(given).items():
            row = PARAMETERS.get(name)
            if row is None:
                raise UnknownParameter(
                    f"unknown parameter {name!r}{suggestion(name, {*self.known, 'inputs'})}; "
                    f"known are {', '.join(sorted(self.known - self.unsupported))}"
                )
            if name in self.unsupported and not row.is_no_op(value):
                raise UnsupportedParameter(
                    f"{self.backend} cannot honour {name}={validators.shown(value)}"
                    f"{_ELSEWHERE.get(name, '')}",
                    parameter=name,
                    backend=self.backend,
                )
            if row.merged and isinstance(value, Mapping):
                value = {**(getattr(options, name) or {}), **value}
            if not row.means_default(value):
                changed[row.table][name] = value
        _one_adapter(changed[CallOptions])
        params, options = params.changed(changed[GenerationParams]), options.changed(changed[CallOptions])
        if given.get("do_sample") is not None:
            _check_do_sample(given["do_sample"], params)
        return params, options


class ParameterDefaults:
    """The parameters of a backend: which it supports, and its own defaults.

    Args:
        defaults: Any parameter of `GenerationParams` and `CallOptions`, the default of every call.

    Attributes:
        params: How to decode, where a call does not say otherwise.
        options: The call around it, where a call does not say otherwise.
    """

    #: Parameters that this backend does not support.
    unsupported_parameters: ClassVar[frozenset[str]] = frozenset()
    #: Parameters that few backends support (`priority`, `merged_adapters` …) and this one does.
    opt_in_parameters: ClassVar[frozenset[str]] = frozenset()
    #: Defaults of this backend that differ from those of the table.
    own_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **defaults: Any) -> None:
        self._parameters = ParameterSet(type(self).__name__, self.unsupported_names())
        if stray := [name for name in defaults if name not in self._parameters.known]:
            known = self.constructor_names() - self.unsupported_names()
            raise UnknownParameter(
                f"{type(self).__name__}: unknown parameter {stray[0]!r}{suggestion(stray[0], known)}; "
                f"known are {', '.join(sorted(known))}"
            )
        own = self._parameters.merge(GenerationParams(), CallOptions(), self.own_defaults)
        self.params, self.options = self._parameters.merge(*own, defaults)

    @classmethod
    def constructor_names(cls) -> frozenset[str]:
        """Every keyword the constructor takes; an unsupported parameter may be given with its no-op value."""
        own = {
            name
            for base in cls.__mro__
            if "__init__" in vars(base) and issubclass(base, ParameterDefaults)
            for name, item in inspect.signature(base).parameters.items()
            if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
        }
        return frozenset(own.union(PARAMETERS, ALIASES, SWITCHES))

    @classmethod
    def unsupported_names(cls) -> frozenset[str]:
        """The keywords this backend does not support."""
        return unsupported_names(cls.unsupported_parameters, cls.opt_in_parameters)

    @property
    def unsupported(self) -> frozenset[str]:
        """The keywords that this object does not support: those of its class, and of its server if known."""
        return self._parameters.unsupported

    def merged(self, given: Mapping[str, Any]) -> tuple[GenerationParams, CallOptions]:
        """The parameters of a call: `given` over the object's own."""
        return self._parameters.merge(self.params, self.options, given)

    def answers_per_input(self, given: Mapping[str, Any]) -> int:
        """The parameter `n` of a call."""
        n = given.get("n")
        return self.options.n if n is None else self.options.changed({"n": n}).n

    def one_answer_error(self, n: int) -> UnsupportedParameter:
        """The error for a parameter `n` where one answer is returned."""
        return UnsupportedParameter(
            f"{type(self).__name__} cannot honour n={n} where one answer is returned; complete(…, n={n}) "
            "returns all in .choices",
            parameter="n",
            backend=type(self).__name__,
        )

    def refuse(self, call: Request | ParameterDefaults, names: Iterable[str], why: str) -> None:
        """Refuse those of the parameters `names` that `call` gives: its route would drop them.

        Raises:
            UnsupportedParameter: One is given; the message ends with `why`.
        """
        for name in names:
            table = call.params if PARAMETERS[name].table is GenerationParams else call.options
            if not PARAMETERS[name].is_no_op(value := getattr(table, name)):
                raise UnsupportedParameter(
                    f"{type(self).__name__} cannot honour {name}={validators.shown(value)} {why}",
                    parameter=name,
                    backend=type(self).__name__,
                )

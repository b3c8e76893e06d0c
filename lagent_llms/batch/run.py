"""Run a batch job: `run_batch`, and `PreparedBatch`, which is checked before a backend exists."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union, overload

from .. import validators
from ..core.admission import admission_of
from ..core.base import AsyncBaseLLM, BaseLLM
from ..errors import InvalidArgument
from ..params import PARAMETERS
from .drivers import AsyncBatchRun, BatchRun
from .job import Job, most_failures
from .output import BatchOutput
from .prompt_template import PromptTemplate
from .records import read_records
from .results import ENCODERS
from .rows import RowReader

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["PreparedBatch", "run_batch"]

_concurrency = validators.optional(validators.concurrency)

Records = Union[str, "os.PathLike[str]", Iterable[Any]]
Output = Union[str, "os.PathLike[str]", None]


class BatchOptions(TypedDict, total=False):
    """The options of `run_batch`, for type checkers."""

    prompt_template: str | None
    ordered: bool
    output_format: str
    retry_errors: bool
    max_failures: int | float | str | None
    max_concurrency: int | Literal["auto"] | None
    max_per_second: float | None
    strict: bool


@overload
def run_batch(
    llm: BaseLLM, rows: Records, output: Output = ..., **options: Unpack[BatchOptions]
) -> BatchRun: ...
@overload
def run_batch(
    llm: AsyncBaseLLM, rows: Records, output: Output = ..., **options: Unpack[BatchOptions]
) -> AsyncBatchRun: ...
def run_batch(
    llm: BaseLLM | AsyncBaseLLM,
    rows: Records,
    output: Output = None,
    **options: Unpack[BatchOptions],
) -> BatchRun | AsyncBatchRun:
    """Run a batch of any size: iterate over the results as they are stored.

    The same call again continues where the last one ended, however it ended (a kill, a power cut).

    Args:
        llm: The backend; with an asynchronous one, iterate with ``async for``.
        rows: A file (JSON lines, also ``.gz`` and ``.zst``, Parquet, CSV; ``-`` is standard input), or
            records: prompts; mappings with ``prompt`` or ``messages``, an optional ``id``, and parameters of
            the call; or OpenAI's batch form.
        output: The file of the results; None stores nothing.
        prompt_template: Makes the prompt of a record's columns; see `PromptTemplate`.
        ordered: Results in the order of the input; by default in that of their completion.
        output_format: 'lagent_llms', or 'openai' for OpenAI's batch form.
        retry_errors: Run the rows again that failed in an earlier run.
        max_failures: End the job when more rows than this fail: a number, or a percentage ('1%').
        max_concurrency: Most calls at once, or 'auto'; None is that of `llm` (by default 'auto').
        max_per_second: Most calls that are sent in a second, retries included; None is that of `llm`.
        strict: Raise the error of a broken record; by default it becomes a row with an error.

    Raises:
        ConfigError: The input cannot be read, or the output cannot be used.
        InvalidArgument: An option cannot be used, or the first record lacks a column of `prompt_template`.
    """
    return PreparedBatch(rows, output, **options).on(llm)


class PreparedBatch:
    """A batch whose input, output and options are checked; the backend is still to come.

    Args:
        rows, output, options: See `run_batch`.

    Raises:
        LLMError: See `run_batch`.
    """

    def __init__(
        self,
        rows: Records,
        output: Output = None,
        *,
        prompt_template: str | None = None,
        ordered: bool = False,
        output_format: str = "lagent_llms",
        retry_errors: bool = False,
        max_failures: int | float | str | None = None,
        max_concurrency: int | Literal["auto"] | None = None,
        max_per_second: float | None = None,
        strict: bool = False,
    ) -> None:
        if output_format not in ENCODERS:
            raise InvalidArgument(
                f"output_format={output_format!r}: allowed is {' or '.join(map(repr, ENCODERS))}",
                argument="output_format",
            )
        self._encode = ENCODERS[output_format]
        self._concurrency = _concurrency("max_concurrency", max_concurrency)
        # Checked as a parameter of calls is.
        given = {} if max_per_second is None else {"max_per_second": max_per_second}
        self._given = {name: PARAMETERS[name].check(name, value) for name, value in given.items()}
        self._limit = most_failures(max_failures)
        self._ordered = ordered
        template = None if prompt_template is None else PromptTemplate(prompt_template)
        records = read_records(rows) if isinstance(rows, (str, os.PathLike)) else rows
        self._rows = RowReader(records, template=template, strict=strict)
        self._output = None if output is None else BatchOutput(output, retry_errors=retry_errors)

    @overload
    def on(self, llm: BaseLLM) -> BatchRun: ...
    @overload
    def on(self, llm: AsyncBaseLLM) -> AsyncBatchRun: ...
    def on(self, llm: BaseLLM | AsyncBaseLLM) -> BatchRun | AsyncBatchRun:
        """The batch on a backend."""
        admission = admission_of(llm, self._given, self._concurrency)
        job = Job(
            self._rows, self._output, concurrency=admission.most, ordered=self._ordered, limit=self._limit
        )
        run = AsyncBatchRun if isinstance(llm, AsyncBaseLLM) else BatchRun
        return run(llm, job, self._output, self._encode, admission)

"""What runs in an actor of Ray Data: one backend, and the rows of a batch through it."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..batch.job import ends_job
from ..batch.prompt_template import PromptTemplate
from ..batch.results import BatchResult, BatchSummary, Encoder, answer_fields, label_of
from ..batch.rows import Row, read_call
from ..batch.shards import ShardWriter
from ..config import create_llm
from ..core.admission import admission_of
from ..core.gates import AsyncGate
from ..core.request import Input
from ..errors import InvalidArgument, LLMError, nearest
from ..schema import Completion

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ERROR_COLUMN", "DatasetWorker", "JobWorker", "RowCall"]

#: The column of a row's error, '' without one, as in ray.data.llm.
ERROR_COLUMN = "__inference_error__"

#: An answer or an error, the seconds it took, and the number of attempts.
Outcome = tuple[Completion | LLMError, float, int]


class _Worker:
    """A backend, and the calls that run on it.

    An error of the constructor would reach the driver as text. So the first call raises it.

    Args:
        settings: Its configuration.
        concurrency: Most calls at once; None is that of the backend.
        num_cpus: CPUs of the actor, 0 for any.
    """

    def __init__(
        self, settings: Mapping[str, Any], concurrency: int | Literal["auto"] | None, num_cpus: float
    ) -> None:
        self._refusal: LLMError | None = None
        if num_cpus:
            # The number of threads of JAX on the CPU; Ray sets OMP_NUM_THREADS for others.
            os.environ.setdefault("NPROC", str(math.ceil(num_cpus)))
        try:
            self._start()
            self.llm = create_llm(settings, asynchronous=True)
            self._gate = AsyncGate(admission_of(self.llm, {}, concurrency))
        except LLMError as error:
            self._refusal = error

    def _start(self) -> None:
        """What is done before the backend is made, which can take minutes."""

    def check(self) -> None:
        """Raise the error of the constructor."""
        if self._refusal is not None:
            raise self._refusal

    async def call(self, inputs: Input, parameters: Mapping[str, Any]) -> Outcome:
        """The answer to a row or its error, the seconds that took, and the number of attempts.

        Raises:
            Exception: An error that is not the row's: it ends the job.
        """
        began, stream = time.monotonic(), None
        try:
            async with self._gate.place() as place:
                began = time.monotonic()
                stream = self.llm.raising_stream(inputs, parameters, place)
                return await stream.drain(), time.monotonic() - began, stream.attempts
        except LLMError as error:
            if self.llm.closed or ends_job(error):
                raise
            return error, time.monotonic() - began, 1 if stream is None else stream.attempts


class DatasetWorker(_Worker):
    """Adds the columns of `generate` to batches of a dataset.

    Args:
        settings, concurrency, num_cpus: See `_Worker`.
        read: Makes the input and the parameters of a row.
        output: The column of the text.
        details: The column of the details, None for none.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        concurrency: int | Literal["auto"] | None,
        num_cpus: float,
        read: RowCall,
        output: str,
        details: str | None,
    ) -> None:
        super().__init__(settings, concurrency, num_cpus)
        self._read = read
        self._output = output
        self._details = details

    async def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """The batch with the columns of the answers."""
        import pyarrow

        self.check()
        self._read.check_columns(batch.column_names)
        outcomes = await asyncio.gather(*map(self._row, batch.to_pylist()))
        columns: dict[str, list[str | None]] = {
            self._output: [None if isinstance(one, str) else one.text for one in outcomes],
            ERROR_COLUMN: [one if isinstance(one, str) else "" for one in outcomes],
        }
        if self._details is not None:
            columns[self._details] = [
                None if isinstance(one, str) else msgspec.json.encode(answer_fields(one)).decode()
                for one in outcomes
            ]
        for name, values in columns.items():
            if name in batch.column_names:
                batch = batch.drop_columns([name])
            batch = batch.append_column(name, pyarrow.array(values, pyarrow.string()))
        return batch

    async def _row(self, row: Mapping[str, Any]) -> Completion | str:
        """The answer to a row, or the text of its error; a row with an error is not called."""
        if row.get(ERROR_COLUMN):
            return str(row[ERROR_COLUMN])
        try:
            call = self._read(row)
        except LLMError as error:
            outcome: Completion | LLMError = error
        else:
            outcome, _, _ = await self.call(*call)
        return f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, LLMError) else outcome


class RowCall:
    """Makes the input and the parameters of the call of a row.

    Args:
        input: The column of the prompt, the messages or a body in OpenAI's form.
        parameters: The column of the parameters of the row's call, None for none.
        prompt_template: Makes the prompt of the row's columns instead.
    """

    def __init__(self, input: str, parameters: str | None, prompt_template: str | None) -> None:
        self._input = input
        self._parameters = parameters
        self._template = None if prompt_template is None else PromptTemplate(prompt_template)

    @property
    def columns(self) -> list[str]:
        """The columns that a row must have."""
        inputs = [self._input] if self._template is None else [*self._template.columns]
        return inputs if self._parameters is None else [*inputs, self._parameters]

    def check_columns(self, names: Iterable[str]) -> None:
        """Refuse a dataset that lacks a column.

        Raises:
            InvalidArgument: It lacks one.
        """
        names = [*names]
        for name in self.columns:
            if name not in names:
                raise InvalidArgument(
                    f"the dataset has no column {name!r}{nearest(name, names)} (columns: {', '.join(names)})",
                    argument="input",
                )

    def __call__(self, row: Mapping[str, Any]) -> tuple[Input, dict[str, Any]]:
        """See the class.

        Raises:
            LLMError: The row cannot be called.
        """
        given = {} if self._parameters is None else row[self._parameters]
        if not isinstance(given, (Mapping, type(None))):
            raise InvalidArgument(
                f"{self._parameters}: expected an object, got {type(given).__name__}", argument="parameters"
            )
        if self._template is not None:
            value: Any = self._template.fill(row, 0)
        else:
            value = _without_nulls(row[self._input])
        return read_call(value, _without_nulls(given))


def _without_nulls(value: Any) -> Any:
    """`value` without keys whose value is None: in Arrow, every row has the keys of all rows."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


class JobWorker(_Worker):
    """Runs chunks of the rows of a batch job and stores their results in a shard.

    Args:
        settings, concurrency, num_cpus: See `_Worker`.
        folder: The folder of the shards.
        encode: Makes the line of a result.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        concurrency: int | Literal["auto"] | None,
        num_cpus: float,
        folder: str,
        encode: Encoder,
    ) -> None:
        self._folder = folder
        self._encode = encode
        super().__init__(settings, concurrency, num_cpus)

    def _start(self) -> None:
        self._shard = ShardWriter(self._folder)

    async def __call__(self, batch: pyarrow.Table) -> dict[str, list[bytes]]:
        """Run chunks; return the `BatchSummary` of each, once its results are stored."""
        self.check()
        chunks = [pickle.loads(chunk) for chunk in batch["rows"].to_pylist()]
        summaries = [BatchSummary() for _ in chunks]
        for chunk, summary in zip(chunks, summaries, strict=True):
            for result in await asyncio.gather(*map(self._row, chunk)):
                summary.add(result)
        return {"summary": [*map(pickle.dumps, summaries)]}

    async def _row(self, row: Row) -> BatchResult:
        outcome, seconds, attempts = await self.call(row.inputs, row.parameters)
        completion, error = (None, outcome) if isinstance(outcome, LLMError) else (outcome, None)
        result = BatchResult(row, completion, error, seconds, attempts)
        await self._shard.append(self._encode(result, label_of(self.llm)))
        return result

"""The results of a batch: one line of the output for each row, and the figures of the whole job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from ..errors import LLMError, ServerError
from ..schema import Completion
from .lines import with_checksum
from .rows import Row

__all__ = ["ENCODERS", "BatchResult", "BatchSummary", "Encoder", "answer_fields", "label_of"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one row.

    Attributes:
        row: The row.
        completion: Its answer, None if it failed.
        error: Why it failed, None if it did not.
        seconds: How long its call took, retries included.
        attempts: Number of attempts of its call.
    """

    row: Row
    completion: Completion | None = None
    error: LLMError | None = None
    seconds: float = 0.0
    attempts: int = 1


@dataclass
class BatchSummary:
    """The figures of a job.

    Attributes:
        rows: Rows of the output, those of earlier runs included.
        failed: Number of them that are errors.
        retried: Rows of this run that took more than one attempt.
        earlier: Rows that were stored by earlier runs.
        repeated: Rows of the input that were left out: their id was there before.
        repaired: Bytes of broken rows that were removed from the output at the start; those rows run again.
        prompt_tokens: Of this run, as far as the backend says.
        completion_tokens: Of this run, as far as the backend says.
        cached: Rows of this run that were answered from the cache; their tokens are not counted.
        seconds: Duration of this run.
        stopped: Why it ended before the end of the input, '' if it did not.
        first_failure: Number and error of the first row that failed in this run, '' if none did.
    """

    rows: int = 0
    failed: int = 0
    retried: int = 0
    earlier: int = 0
    repeated: int = 0
    repaired: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    seconds: float = 0.0
    stopped: str = field(default="")
    first_failure: str = ""

    def add(self, result: BatchResult) -> None:
        """Count a row of this run."""
        self.rows += 1
        self.retried += result.attempts > 1
        if result.error is not None:
            self.failed += 1
            self.first_failure = self.first_failure or f"row {result.row.position}: {result.error}"
        if result.completion is not None and result.completion.cached:
            self.cached += 1
        elif result.completion is not None and (usage := result.completion.usage) is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens

    def merge(self, part: BatchSummary) -> None:
        """Count the rows that another process has counted."""
        for name in ("rows", "failed", "retried", "cached", "prompt_tokens", "completion_tokens"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.first_failure = self.first_failure or part.first_failure

    def as_dict(self) -> dict[str, Any]:
        """The figures as values of JSON."""
        return asdict(self)


#: Makes the line of a result, from it and the name of the model.
Encoder = Callable[[BatchResult, str], bytes]


def label_of(llm: Any) -> str:
    """The name of a backend's model, for the lines of its results."""
    return str(getattr(llm, "model_name", None) or getattr(llm, "path", None) or type(llm).__name__)


def answer_fields(completion: Completion) -> dict[str, Any]:
    """The fields of a line that tell an answer."""
    message = completion.message()
    return {
        "text": completion.text,
        "message": message,
        "tool_calls": message.get("tool_calls"),
        "finish_reason": completion.finish_reason,
        "usage": _usage(completion),
    }


def _encode(result: BatchResult, model: str) -> bytes:
    row, completion, error = result.row, result.completion, result.error
    line: dict[str, Any] = {"id": row.id, "row": row.position}
    if completion is not None:
        line |= answer_fields(completion)
    line |= {
        "ms": round(result.seconds * 1000, 1),
        "model": model,
        "error": None if error is None else _error(error),
        "input": row.content,
    }
    return with_checksum(msgspec.json.encode(line))


def _encode_openai(result: BatchResult, model: str) -> bytes:
    row, completion, error = result.row, result.completion, result.error
    name = f"row-{row.position}" if row.id is None else row.id
    line: dict[str, Any] = {
        "id": f"batch_req_{row.position}",
        "custom_id": name,
        "response": None,
        "error": None,
    }
    if completion is not None:
        choice = {"index": 0, "message": completion.message(), "finish_reason": completion.finish_reason}
        body = {
            "id": f"chatcmpl-{row.position}",
            "object": "chat.completion",
            "model": model,
            "choices": [choice],
            "usage": _usage(completion),
        }
        line["response"] = {"status_code": 200, "request_id": "", "body": body}
    if error is not None:
        line["error"] = _error(error)
    line |= {"row": row.position, "named": row.id is not None, "input": row.content}
    return with_checksum(msgspec.json.encode(line))


def _usage(completion: Completion) -> dict[str, int] | None:
    usage = completion.usage
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _error(error: LLMError) -> dict[str, Any]:
    found = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, ServerError):
        found |= {"code": error.code, "status": error.status_code}  # type: ignore[dict-item]
    return found


#: The forms of the output.
ENCODERS: dict[str, Encoder] = {"lagent_llms": _encode, "openai": _encode_openai}

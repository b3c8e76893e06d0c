"""`generate`: a Ray Data dataset in, the same dataset with answers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ..config import Source
from ..errors import InvalidArgument, MissingDependency
from .pool import ActorPool, check_backend
from .worker import ERROR_COLUMN, DatasetWorker, RowCall

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["generate"]


def generate(
    dataset: Dataset,
    llm: Source | None = None,
    *,
    input: str = "prompt",
    output: str = "answer",
    profile: str | None = None,
    parameters: str | None = None,
    prompt_template: str | None = None,
    details: str | None = None,
    actors: int | tuple[int, int] = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    resources: Mapping[str, float] | None = None,
    max_concurrency: int | Literal["auto"] | None = None,
    **overrides: Any,
) -> Dataset:
    """Add the answers of a model to a dataset, lazily, with a pool of actors that each hold a backend.

    A row that fails has its error in the column ``__inference_error__``, which is '' for the others; a row
    that has an error already is passed on. Rows of an actor that dies run again on another one.

    Args:
        dataset: A `ray.data.Dataset`.
        llm: The backend's configuration, as for `create_llm`: a file, a dict, or None.
        input: The column with prompts (text), messages (lists), or bodies in OpenAI's form.
        output: The column of the answers' texts, None for a row that failed.
        profile: A profile of the configuration file.
        parameters: A column with the parameters of each row's call.
        prompt_template: Makes the prompt of a row's columns instead of `input`; see `PromptTemplate`.
        details: A column for the whole answers as JSON: message, tool_calls, finish_reason, usage.
        actors: Number of actors; a pair is the least and the most, between which Ray Data scales.
        num_cpus: CPUs of each actor.
        num_gpus: GPUs of each actor.
        resources: Further resources of each actor, by name.
        max_concurrency: Most calls at once in each actor; None is that of the backend.
        **overrides: Parameters that replace the configuration's, such as ``temperature=0``.

    Raises:
        LLMError: The configuration cannot be used, a column is missing, or the cluster has no room for the
            actors. A dataset may know its columns only once it runs: then the first batch says what is
            missing.
        MissingDependency: The extra `ray` is not installed.
    """
    try:
        import ray.data  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency.of("ray[data]", "ray") from error
    call = RowCall(input, parameters, prompt_template)
    pool = ActorPool(actors, num_cpus, num_gpus, resources, max_concurrency)
    settings = check_backend(llm, profile=profile, **overrides)
    names = dataset.columns(fetch_if_missing=False) or []
    if names:
        call.check_columns(names)
    added = [output] if details is None else [output, details]
    for name in added:
        if name in names or added.count(name) > 1 or name == ERROR_COLUMN:
            raise InvalidArgument(f"output={name!r}: the dataset has that column", argument="output")
    pool.check_room()
    made = pool.options(DatasetWorker, settings, call, output, details)
    return dataset.map_batches(batch_size=pool.task_rows(settings), **made)

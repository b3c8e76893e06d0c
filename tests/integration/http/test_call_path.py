"""The number of files and functions that a reader, and Python, goes through for one streamed call."""

from benchmarks import call_path


def test_files_and_calls_of_a_streamed_call():
    figures = call_path.measure(quick=True)["functions"]
    for name in ("messages, sync", "messages, async"):
        assert len(call_path.files(figures[name])) <= call_path.MOST_FILES, call_path.files(figures[name])
        assert sum(figures[name].values()) <= call_path.MOST_CALLS, figures[name]

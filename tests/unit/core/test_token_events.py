"""Token ids that engines in this process take and report."""

import pytest

from lagent_llms import ContextLengthExceeded, InvalidArgument
from lagent_llms.core.token_events import check_prompt_ids, truncate


@pytest.mark.parametrize(
    ("tokens", "limit", "expected"),
    [
        ([5, 6], 3, ((5, 6), None, None)),
        ([5, 6, 7, 8], 3, ((5, 6, 7), None, "length")),
        ([5, 2, 7], 3, ((5,), 2, "stop")),
        ([5, 6, 7, 2], 3, ((5, 6, 7), None, "length")),
        ([], 3, ((), None, None)),
    ],
)
def test_an_answer_ends_at_an_end_token_or_its_limit(tokens, limit, expected):
    assert truncate(tokens, limit, {2}) == expected


def test_a_prompt_leaves_room_for_an_answer():
    assert check_prompt_ids(range(9), 10) == check_prompt_ids(range(9), None) == [*range(9)]
    with pytest.raises(ContextLengthExceeded, match="10 tokens, which leaves no room"):
        check_prompt_ids(range(10), 10)
    with pytest.raises(InvalidArgument, match="empty"):
        check_prompt_ids([], None)

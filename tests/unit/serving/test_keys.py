"""The file with API keys: names, comments, and errors that hold no key."""

import pytest

from lagent_llms.errors import ConfigError
from lagent_llms.serving.keys import read_keys


def written(tmp_path, text):
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_names_and_keys(tmp_path):
    text = "# keys of the team\r\nalice sk-1\n\n  bob@example.org\tsk-2  \nsk-3\n"
    assert read_keys(written(tmp_path, text)) == {
        "alice": "sk-1",
        "bob@example.org": "sk-2",
        "line-5": "sk-3",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no key"),
        ("# nothing\n", "it has no key"),
        ("a secret-1 more\n", "line 1"),
        ("na:me secret-1\n", "line 1"),
        ("a secret-1\na secret-2\n", "line 2: this name"),
        ("a secret-1\nb secret-1\n", "line 2: this key"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_errors_name_the_line_and_no_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_keys(written(tmp_path, text))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")

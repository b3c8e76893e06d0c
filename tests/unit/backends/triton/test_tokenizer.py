"""`LocalTokenizer` over a custom tokenizer."""

from lagent_llms.backends.triton.tokenizer import LocalTokenizer


class Words:
    """A custom tokenizer."""

    bos_token = "<s>"

    def encode(self, text):
        return [7, *map(len, text.split())]

    def convert_tokens_to_ids(self, token):
        return {"<s>": 7}.get(token)


def test_custom_tokenizer():
    tokens = LocalTokenizer(Words())
    assert tokens.encode("a bcd") == tokens.encode("<s>a bcd") == [7, 1, 3]
    assert (tokens.special("<BOS>"), tokens.special("<EOS>"), tokens.special("none")) == ([7], [], [])

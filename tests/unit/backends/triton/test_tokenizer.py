"""A local tokenizer."""

from lagent_llms.backends.triton.tokenizer import LocalTokenizer


class Words:
    """A tokenizer as a user may write one."""

    bos_token = "<s>"

    def encode(self, text):
        return [7, *map(len, text.split())]

    def convert_tokens_to_ids(self, token):
        return {"<s>": 7}.get(token)


def test_a_tokenizer_of_the_users_own():
    tokens = LocalTokenizer(Words())
    assert tokens.encode("a bcd") == tokens.encode("<s>a bcd") == [7, 1, 3]
    assert (tokens.special("<BOS>"), tokens.special("<EOS>"), tokens.special("none")) == ([7], [], [])

"""response_format: the tokens that a JSON schema allows next."""

import json

import xgrammar

#: The schema of `json_object` without a schema.
ANY_OBJECT = {
    "type": "object",
    "additionalProperties": {"type": ["object", "string", "integer", "number", "boolean", "null"]},
}


class Grammars:
    """Creates matchers.

    Args:
        tokenizer: transformers' tokenizer.
        vocab_size: Size of the vocabulary of the model.
        ends: Tokens that may end a finished text.
    """

    def __init__(self, tokenizer, vocab_size, ends):
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocab_size, stop_token_ids=ends)
        self._compiler = xgrammar.GrammarCompiler(info)
        self._vocab_size = vocab_size

    def matcher(self, response_format):
        """Return a matcher for one answer; None if everything is allowed.

        Raises:
            ValueError: The schema cannot be used.
        """
        if response_format is None or response_format.type == "text":
            return None
        schema = response_format.format_schema or ANY_OBJECT
        try:
            compiled = self._compiler.compile_json_schema(json.dumps(schema), any_whitespace=False)
        except RuntimeError as error:
            raise ValueError(f"response_format: {error}") from error
        return Matcher(xgrammar.GrammarMatcher(compiled), self._vocab_size)


class Matcher:
    """The state of the grammar during one answer."""

    def __init__(self, matcher, vocab_size):
        self._matcher = matcher
        self._bits = xgrammar.allocate_token_bitmask(1, vocab_size)

    def mask(self, scores):
        """Return `scores` with -inf for tokens that are not allowed next."""
        self._matcher.fill_next_token_bitmask(self._bits)
        scores = scores.clone()
        xgrammar.apply_token_bitmask_inplace(scores, self._bits)
        return scores

    def accept(self, token):
        self._matcher.accept_token(token)

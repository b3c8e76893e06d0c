"""An object like those of pydantic, in which callers hold messages and tools."""


class Model:
    """A model with the given fields; pydantic is not a dependency."""

    def __init__(self, **fields):
        self.fields = fields

    def __iter__(self):
        return iter(self.fields.items())

    def model_dump(self, *, exclude_none=False):
        return {name: value for name, value in self.fields.items() if value is not None or not exclude_none}

"""LoRA adapters of the model, loaded when first asked for, alone or merged. Used by one thread only."""

from peft import PeftModel

#: Source -> pattern of its adapter ids; `NAME` is the name of a folder. s3 has no bucket here.
IDS = {"hub": "{name}", "local": "{name}", "pbase": "{name}/1"}
SOURCES = ("hub", "local", "s3", "pbase")
BASE = None


class LoadFailure(Exception):
    """An adapter cannot be loaded."""


class Adapters:
    """The model and its active adapter.

    Args:
        model: The base model.
        folder: Contains one folder per adapter.
        private: Names of adapters that require `token`.
        token: The token of private adapters.
    """

    def __init__(self, model, folder, *, private=(), token=""):
        self._paths = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
        self._private = set(private)
        self._token = token
        self._loaded = {next(iter(self._paths))}
        first = next(iter(self._loaded))
        self.model = PeftModel.from_pretrained(model, self._paths[first], adapter_name=first).eval()
        self._merged = {}
        self._current = first
        self.use(BASE)

    def find(self, request):
        """Return the adapter of a request, for `use`; `BASE` without one.

        Raises:
            LoadFailure: The adapter does not exist, or needs another token.
        """
        given = request.parameters
        if given.merged_adapters is not None:
            names = [self._name(one, given) for one in given.merged_adapters.ids]
            merged = given.merged_adapters.model_copy(update={"ids": names})
            return merged.model_dump_json()
        return self._name(given.adapter_id, given) if given.adapter_id else BASE

    def use(self, adapter):
        """Activate `adapter` (from `find`)."""
        if adapter == self._current:
            return
        if adapter is BASE:
            self.model.base_model.disable_adapter_layers()
        else:
            name = adapter if adapter in self._paths else self._merge(adapter)
            self._load(name)
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(name)
        self._current = adapter

    def _name(self, adapter_id, given):
        source = given.adapter_source or "hub"
        if source not in SOURCES:
            raise LoadFailure(f"Unknown adapter source {source}")
        pattern = IDS.get(source)
        for name in self._paths if pattern is not None else ():
            if adapter_id == pattern.format(name=name):
                if name in self._private and given.api_token != self._token:
                    raise LoadFailure(f"401 Client Error: {adapter_id} is private (token: {given.api_token})")
                return name
        raise LoadFailure(f"No adapter weights found for {adapter_id} in {source}")

    def _load(self, name):
        if name in self._paths and name not in self._loaded:
            try:
                self.model.load_adapter(self._paths[name], adapter_name=name)
            except (OSError, ValueError, RuntimeError) as error:
                raise LoadFailure(f"{name} cannot be loaded: {error}") from error
            self._loaded.add(name)

    def _merge(self, adapter):
        if adapter not in self._merged:
            from validation import AdapterParameters

            merged = AdapterParameters.model_validate_json(adapter)
            for name in merged.ids:
                self._load(name)
            strategy = merged.merge_strategy or "linear"
            options = {} if strategy == "linear" else {"density": merged.density}
            if "ties" in strategy:
                options["majority_sign_method"] = merged.majority_sign_method or "total"
            name = f"merged-{len(self._merged)}"
            try:
                self.model.add_weighted_adapter(
                    merged.ids, merged.weights, name, combination_type=strategy, **options
                )
            except ValueError as error:
                raise LoadFailure(f"{merged.ids} cannot be merged: {error}") from error
            self._merged[adapter] = name
        return self._merged[adapter]

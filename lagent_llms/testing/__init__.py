"""For tests: a model that says what it is told, and (in `.conformance`) the promises every backend keeps."""

from .scripted import AsyncScriptedLLM, Script, ScriptedLLM

__all__ = ["AsyncScriptedLLM", "Script", "ScriptedLLM"]

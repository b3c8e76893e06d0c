"""Test tools: a model with scripted answers, and (in `.conformance`) the conformance tests for backends."""

from .scripted import AsyncScriptedLLM, Script, ScriptedLLM

__all__ = ["AsyncScriptedLLM", "Script", "ScriptedLLM"]

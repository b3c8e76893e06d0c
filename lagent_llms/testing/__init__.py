"""Test tools: models with scripted and with recorded answers, and (in `.conformance`) tests for backends."""

from .scripted import AsyncScriptedLLM, Script, ScriptedLLM

__all__ = ["AsyncScriptedLLM", "Script", "ScriptedLLM"]

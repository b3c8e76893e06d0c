"""An application with the structure of MindSearch, on lagent's own agents.

A planner writes code that builds a graph of questions. A searcher with tools answers each node, in a thread
(synchronous) or in an event loop of another thread (asynchronous); all of them stream from one model. Run by
test_search_graph.py in the environment of lagent: python search_graph.py sync|async
"""

import asyncio
import json
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

from lagent.actions import BaseAction, tool_api
from lagent.agents import (
    AgentForInternLM,
    AsyncAgentForInternLM,
    AsyncStreamingAgent,
    StreamingAgent,
)
from lagent.agents.agent import AsyncStreamingAgentMixin, StreamingAgentMixin
from lagent.agents.stream import get_plugin_prompt
from lagent.prompts.parsers import InterpreterParser, PluginParser
from lagent.utils import create_object

# The line that changes: from lagent.llms import INTERNLM2_META, AsyncLMDeployServer, LMDeployServer
from lagent_llms import INTERNLM2_META
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

FACTS = {"France": "The capital of France is Paris.", "Italy": "The capital of Italy is Rome."}
CODE = """\
graph = WebSearchGraph()
graph.add_root_node("Compare the capitals of France and Italy.")
graph.add_node("france", "What is the capital of France?")
graph.add_node("italy", "What is the capital of Italy?")
graph.add_edge("root", "france")
graph.add_edge("root", "italy")
graph.node("france"), graph.node("italy")
"""
together = threading.Barrier(2)


class Encyclopedia(BaseAction):
    """A tool."""

    @tool_api
    def run(self, query: str) -> str:
        """Look up a fact.

        Args:
            query (str): the name of a country
        """
        return FACTS[query]


def answer(request):
    """The script of the model: planner and searchers, before and after the result of their tool."""
    prompt = request.prompt
    result = prompt.rpartition("<|im_start|>environment")[2].partition("\n")[2].partition("<|im_end|>")[0]
    called = "<|im_start|>environment" in prompt
    if "You plan." in prompt:
        text = f"Found: {result}" if called else f"<|action_start|><|interpreter|>\n{CODE}<|action_end|>\n"
    elif called:
        text = result
    else:
        together.wait(timeout=60)  # the searchers stream at the same time
        country = "France" if "capital of France?" in prompt else "Italy"
        call = json.dumps({"name": "Encyclopedia", "parameters": {"query": country}})
        text = f"<|action_start|><|plugin|>\n{call}<|action_end|>\n"
    return [text[start : start + 7] for start in range(0, len(text), 7)]


# As in MindSearch: one model for all agents, made of its class and a dict.
MODEL = {
    "meta_template": INTERNLM2_META,
    "top_p": 0.8,
    "top_k": 1,
    "temperature": 0,
    "max_new_tokens": 8192,
    "repetition_penalty": 1.02,
    "stop_words": ["<|im_end|>"],
}


def searcher_config(llm):
    plugins = [Encyclopedia()]
    parser = {"type": PluginParser, "template": "{prompt}", "prompt": get_plugin_prompt(plugins)}
    return {"llm": llm, "template": "You search.", "plugins": plugins, "output_format": parser}


class Searcher(StreamingAgentMixin, AgentForInternLM):
    _INTERNAL_AGENT_CLS = StreamingAgent

    def forward(self, message, session_id=0, **kwargs):
        for _ in range(self.max_turn):
            for said in self.agent(message, session_id=session_id, **kwargs):
                yield said
            if self.finish_condition(said):
                return
            message = self.plugin_executor(said, session_id=session_id)
            yield message


class AsyncSearcher(AsyncStreamingAgentMixin, AsyncAgentForInternLM):
    _INTERNAL_AGENT_CLS = AsyncStreamingAgent

    async def forward(self, message, session_id=0, **kwargs):
        for _ in range(self.max_turn):
            async for said in self.agent(message, session_id=session_id, **kwargs):
                yield said
            if self.finish_condition(said):
                return
            message = await self.plugin_executor(said, session_id=session_id)
            yield message


class WebSearchGraph:
    """What the planner's code builds; the nodes are searched as soon as they are added."""

    asynchronous = False
    config = {}
    pool = ThreadPoolExecutor(8)

    def __init__(self):
        self.nodes, self.edges, self.searches = {}, {}, []

    def add_root_node(self, content):
        self.nodes["root"] = {"content": content}

    def add_node(self, name, question):
        self.nodes[name] = {"content": question, "states": []}
        config = {**self.config, "plugins": deepcopy(self.config["plugins"])}
        if self.asynchronous:
            search = self._search_async(AsyncSearcher(**config), name, question)
            self.searches.append(self.pool.submit(asyncio.run, search))
        else:
            self.searches.append(self.pool.submit(self._search, Searcher(**config), name, question))

    def add_edge(self, start, end):
        self.edges.setdefault(start, []).append(end)

    def node(self, name):
        return self.nodes[name]

    def _search(self, agent, name, question):
        session_id = random.randint(0, 999999)
        for message in agent(question, session_id=session_id):
            self._note(name, message)
        self.nodes[name]["memory"] = agent.state_dict(session_id=session_id)

    async def _search_async(self, agent, name, question):
        session_id = random.randint(0, 999999)
        async for message in agent(question, session_id=session_id):
            self._note(name, message)
        self.nodes[name]["memory"] = agent.state_dict(session_id=session_id)

    def _note(self, name, message):
        self.nodes[name]["response"] = message.content
        self.nodes[name]["states"].append(int(message.stream_state))


class ExecuteGraph(BaseAction):
    """The planner's interpreter: runs its code and waits for the searchers."""

    def __init__(self):
        super().__init__()
        self.variables = {}

    @tool_api
    def run(self, command: str) -> str:
        """Run code that builds a graph.

        Args:
            command (str): Python code
        """
        exec(command, {"WebSearchGraph": WebSearchGraph}, self.variables)
        graph = self.variables["graph"]
        for search in graph.searches:
            search.result(timeout=120)
        return " ".join(node["response"] for name, node in graph.nodes.items() if name != "root")


def main():
    WebSearchGraph.asynchronous = sys.argv[1] == "async"
    model = create_object({"type": ScriptedLLM, "script": answer, **MODEL})
    searching = model
    if WebSearchGraph.asynchronous:
        searching = create_object({"type": AsyncScriptedLLM, "script": answer, **MODEL})
    WebSearchGraph.config = searcher_config(searching)
    action = ExecuteGraph()
    planner = AgentForInternLM(
        llm=model,
        template="You plan.",
        interpreter=action,
        output_format={"type": InterpreterParser, "template": "Write code."},
    )
    result = planner("Compare the capitals of France and Italy.").content
    graph = action.variables["graph"]
    print(
        json.dumps(
            {
                "answer": result,
                "nodes": graph.nodes,
                "edges": graph.edges,
                "sessions": [request.options.session_id for request in searching.requests],
                "open": [model.open, searching.open],
            }
        )
    )


if __name__ == "__main__":
    main()

"""Compile a Jinja template to code that counts what it makes; see `limits`."""

# ruff: noqa: N802 - jinja2 names a visitor after the class of its nodes

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

from .limits import SMALL

__all__ = ["CountingCodeGenerator"]

#: Most operands of a sum that is counted only once, as a whole.
_MAX_OPERANDS = 8
#: Filters whose results are no containers.
_SCALAR_FILTERS = frozenset(("length", "count", "trim", "lower", "upper", "string", "int", "tojson", "join"))
_SCALARS = (nodes.Const, nodes.Compare, nodes.Not, nodes.Test, nodes.Concat, nodes.Div, nodes.Mod)


class CountingCodeGenerator(CodeGenerator):
    """Jinja's code generator; every operation that can make a value much larger than its operands is counted.

    Sums of strings, most of what chat templates consist of, are counted inline.
    """

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        """Count the loop: its values pass through `Budget.repeated`."""
        body = [item for part in node.body for item in part.find_all(nodes.Node)]
        pieces = 0
        if frame.buffer is not None:
            pieces = sum(len(item.nodes) for item in (*node.body, *body) if isinstance(item, nodes.Output))
        cost = 1 + len(body) + (1 if node.test is None else sum(1 for _ in node.test.find_all(nodes.Node)))
        node.iter = _environment_call("repeated", node.iter, nodes.Const(cost), nodes.Const(pieces))
        super().visit_For(node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        """Write a call; `_environment_call` makes those of the environment's own methods."""
        if isinstance(node.node, nodes.EnvironmentAttribute):
            self._call(node.node.name, node.args, frame)
        else:
            super().visit_Call(node, frame, forward_caller=forward_caller)

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write ``a + b + c``."""
        operands = _operands(node)
        if len(operands) > _MAX_OPERANDS or not _is_sum_of_texts(node):
            self._call("add", operands, frame)
            return
        name = self.temporary_identifier()
        self.write(f"({name} if len({name} := ")
        for position, operand in enumerate(operands):
            self.write(" + " if position else "")
            self.visit(operand, frame)
        self.write(f") < {SMALL} else environment.counted({name}))")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Write ``a ~ b``."""
        if frame.eval_ctx.volatile or frame.eval_ctx.autoescape:
            self.write("environment.counted(")
            checked = [_checked(operand) for operand in node.nodes]
            super().visit_Concat(nodes.Concat(checked, lineno=node.lineno), frame)
            self.write(")")
        else:
            self._call("text", node.nodes, frame)

    def visit_Mod(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write ``a % b``, which formats where `a` is a string; for numbers it is written inline."""
        if not isinstance(node.right, nodes.Const):
            super().visit_Mod(node, frame)
            return
        name, right = self.temporary_identifier(), repr(node.right.value)
        self.write(f"({name} % {right} if type({name} := ")
        self.visit(node.left, frame)
        self.write(f") is int else environment.call_binop(context, '%', {name}, {right}))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """Write comparisons; those that may compare containers are counted."""
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        dynamic = sum(not _is_scalar(operand) for operand in operands)
        contained = any(operand.op in ("in", "notin") for operand in node.ops)
        if dynamic > 1 or (contained and dynamic and not isinstance(node.expr, nodes.Const)):
            operators = [nodes.Operand(operand.op, _checked(operand.expr)) for operand in node.ops]
            node = nodes.Compare(_checked(node.expr), operators, lineno=node.lineno)
        super().visit_Compare(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """Write ``a[b]``; a slice is counted."""
        if not isinstance(node.arg, nodes.Slice):
            argument = _checked(node.arg)
            super().visit_Getitem(nodes.Getitem(node.node, argument, node.ctx, lineno=node.lineno), frame)
            return
        self.write("environment.counted(")
        super().visit_Getitem(node, frame)
        self.write(")")

    def visit_NSRef(self, node: nodes.NSRef, frame: Frame) -> None:
        """Write the target of ``{% set a.b = … %}``."""
        if node.attr.startswith("_"):
            self.fail(
                f"a namespace cannot hold {node.attr!r}: names must not begin with an underscore", node.lineno
            )
        super().visit_NSRef(node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        """Write a dict; keys are hashed, which takes long for some tuples."""
        items = [
            item if isinstance(item.key, nodes.Const) else nodes.Pair(_checked(item.key), item.value)
            for item in node.items
        ]
        super().visit_Dict(nodes.Dict(items, lineno=node.lineno), frame)

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        """Evaluate nothing while compiling but constants."""
        if not isinstance(node, (nodes.TemplateData, nodes.Const)):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.volatile or frame.eval_ctx.autoescape:
            self.write("environment.counted(")
            super()._output_child_pre(node, frame, finalize)
            self.write("environment.checked(")
        elif not _is_sum_of_texts(node):
            self._name = self.temporary_identifier()
            self.write(f"({self._name} if type({self._name} := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.volatile or frame.eval_ctx.autoescape:
            self.write(")")
            super()._output_child_post(node, frame, finalize)
            self.write(")")
        elif not _is_sum_of_texts(node):
            self.write(f") is str else environment.text({self._name}))")

    def _call(self, name: str, arguments: list[nodes.Expr], frame: Frame) -> None:
        """Write a call of a method of the environment."""
        self.write(f"environment.{name}(")
        for argument in arguments:
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")


def _environment_call(name: str, *arguments: nodes.Node) -> nodes.Expr:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


def _checked(node: nodes.Expr) -> nodes.Expr:
    """`node`; if its value is a container, its size is checked."""
    return node if _is_scalar(node) else _environment_call("checked", node)


def _operands(node: nodes.Expr) -> list[nodes.Expr]:
    """The operands of ``a + b + c``, in order."""
    found: list[nodes.Expr] = []
    while isinstance(node, nodes.Add):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


def _is_sum_of_texts(node: nodes.Expr) -> bool:
    """Whether `node` adds values of which one is a text, so that all must be."""
    return isinstance(node, nodes.Add) and any(map(_is_text, _operands(node)))


def _is_text(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def _is_scalar(node: nodes.Expr) -> bool:
    """Whether the value of `node` is no container."""
    if isinstance(node, (nodes.List, nodes.Tuple)):  # of constants: small
        return all(isinstance(item, nodes.Const) for item in node.items)
    return isinstance(node, _SCALARS) or (isinstance(node, nodes.Filter) and node.name in _SCALAR_FILTERS)

"""What is changed: operators of Cosmic Ray, and four of our own for what it does not change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    number_replacer,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from cosmic_ray.operators.operator import Example, Operator
from parso import parse
from parso.python.tree import IfStmt, Keyword, PythonNode

Span = tuple[tuple[int, int], tuple[int, int]]


class DeleteStatement(Operator):
    """Do not raise, and do not call what returns nothing: a guard, a flush, a record is missing."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "simple_stmt" and node.children[0].type in ("raise_stmt", "atom_expr", "await_expr"):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        old = node.children[0]
        node.children[0] = Keyword("pass", old.start_pos, old.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (Example("raise OSError\n", "pass\n"), Example("flush(x)\n", "pass\n"))


class LetThrough(Operator):
    """An exception is not caught."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "except_clause":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        node.children[1] = parse(" ()")
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (Example("try: pass\nexcept (A, b.C): pass", "try: pass\nexcept (): pass"),)


class DecideCondition(Operator):
    """A condition is always true, or never: `if`, `elif`, `… if … else …`, and `if` in a comprehension."""

    @staticmethod
    def _conditions(node: Any) -> list[int]:
        if isinstance(node, IfStmt):
            return [place + 1 for place, child in enumerate(node.children) if child in ("if", "elif")]
        if isinstance(node, PythonNode) and node.type in ("ternary", "test") and len(node.children) == 5:
            return [2]
        return [1] if node.type == "comp_if" else []

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        for place in self._conditions(node):
            for _ in ("True", "False"):
                yield node.children[place].start_pos, node.children[place].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        place = self._conditions(node)[index // 2]
        node.children[place] = parse(" False" if index % 2 else " True")
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (
            Example("if a: pass", "if True: pass"),
            Example("if a: pass\nelif b: pass", "if a: pass\nelif False: pass", 3),
            Example("x = a if b else c", "x = a if True else c"),
            Example("[a for a in b if c]", "[a for a in b if False]", 1),
        )


class ReplaceMembership(Operator):
    """`in` becomes `not in`, and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "comparison":
            for operator in node.children[1::2]:
                if operator.get_code().split() in (["in"], ["not", "in"]):
                    yield operator.start_pos, operator.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        places = [
            place
            for place in range(1, len(node.children), 2)
            if node.children[place].get_code().split() in (["in"], ["not", "in"])
        ]
        old = node.children[places[index]].get_code().split()
        node.children[places[index]] = parse(" not in" if old == ["in"] else " in", error_recovery=True)
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (Example("a in b", "a not in b"), Example("a not in b", "a in b"))


_NAMES = {
    comparison_operator_replacement: (
        "ReplaceComparisonOperator",
        "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Is_IsNot IsNot_Is",
    ),
    binary_operator_replacement: (
        "ReplaceBinaryOperator",
        "Add_Sub Sub_Add Mul_FloorDiv Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul RShift_LShift LShift_RShift BitOr_BitAnd BitAnd_BitOr",
    ),
    unary_operator_replacement: ("ReplaceUnaryOperator", "Delete_Not USub_UAdd"),
}

OPERATORS: dict[str, Operator] = {
    **{
        f"{kind}_{name}": getattr(module, f"{kind}_{name}")()
        for module, (kind, names) in _NAMES.items()
        for name in names.split()
    },
    **{
        operator.__name__: operator()
        for operator in (
            boolean_replacer.ReplaceTrueWithFalse,
            boolean_replacer.ReplaceFalseWithTrue,
            boolean_replacer.ReplaceAndWithOr,
            boolean_replacer.ReplaceOrWithAnd,
            break_continue.ReplaceBreakWithContinue,
            break_continue.ReplaceContinueWithBreak,
            number_replacer.NumberReplacer,
            zero_iteration_for_loop.ZeroIterationForLoop,
            DeleteStatement,
            LetThrough,
            DecideCondition,
            ReplaceMembership,
        )
    },
}

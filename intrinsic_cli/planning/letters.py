"""Hydra's reading of a word whose key holds texts: what looks like a number or a truth value is its letters.

`task.words={0: false, 1: 1e3}` is about the words `false` and `1e3`, of which Hydra makes `False` and `1000.0`.
"""

from __future__ import annotations

from typing import Any

from antlr4 import CommonTokenStream, InputStream
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Override, QuotedString
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from intrinsic_cli.record import text_keys
from intrinsic_cli.spec import RunSpec

KEYS = frozenset((*text_keys(RunSpec), "revisions"))  # the last is a trajectory's name of model.revision


class _Letters(HydraOverrideVisitor):
    """Keeps the letters. `null` is still no value, but as the key of a mapping, which can't be quoted."""

    def visitPrimitive(self, ctx: Any) -> Any:
        value = super().visitPrimitive(ctx)
        return value if value is None or isinstance(value, str | QuotedString) else ctx.getText().strip()

    def visitDictKey(self, ctx: Any) -> Any:
        value = super().visitDictKey(ctx)
        return value if isinstance(value, str) else ctx.getText().strip()

    def visitFunction(self, ctx: Any) -> Any:
        if ctx.getChild(0).getText() == "choice":
            return super().visitFunction(ctx)
        # The numbers of range(1,3) are numbers.
        return HydraOverrideVisitor(self.functions).visitFunction(ctx)


def read(word: str) -> Override:
    """`OverridesParser.parse_override` of a word with one of KEYS. Raises what that does."""
    listener = HydraErrorListener()
    lexer = OverrideLexer(InputStream(word))
    parser = OverrideParser(CommonTokenStream(lexer))
    for each in (lexer, parser):
        each.removeErrorListeners()
        each.addErrorListener(listener)
    override = _Letters(OverridesParser.create().functions).visit(parser.override())
    assert isinstance(override, Override)
    override.input_line = word
    override.validate()
    return override

"""Turns a version of a mapping into the statements that load its table; needs no connection."""

from services.mapper.compiler.names import NameRefusedError
from services.mapper.compiler.plan import compile_plan

__all__ = ["NameRefusedError", "compile_plan"]

"""The rewrites that targets choose from. Each gives, in 8 bits, what the op gave, or one step beside it.

But for those without ``steps``: they give something else, and stand among a target's ``approximations``.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

NONE, RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID

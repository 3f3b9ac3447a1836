"""Constants of the schema that several rewrites use."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

NONE, RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID

"""Runs a notebook's code cells in order, in this process and without Jupyter: python -m tests.support.notebook FILE

Called so, it writes what the cells print and show into the file, as Jupyter would.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def executed(notebook: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The outputs of each code cell, in nbformat 4: what it prints, and the value of its last expression."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(notebook), 1):
        tree, printed, value = ast.parse(source_of(cell)), io.StringIO(), None
        last = tree.body[-1]
        with contextlib.redirect_stdout(printed):
            if isinstance(last, ast.Expr):
                tree.body.pop()
            exec(compile(tree, f"cell {number}", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
        if value is not None:
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
            outputs.append({**result, "data": shown(value)})
        yield outputs


def shown(value: Any) -> dict[str, Any]:
    if not isinstance(value, Image.Image):
        return {"text/plain": lines(repr(value))}
    png = io.BytesIO()
    value.quantize(64).save(png, "PNG", optimize=True)
    text = f"{value.width}x{value.height} picture"
    return {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": [text]}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(file: Path) -> None:
    notebook = json.loads(file.read_text())
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for number, (cell, outputs) in enumerate(zip(code_cells(notebook), executed(notebook), strict=True), 1):
            cell["execution_count"], cell["outputs"] = number, outputs
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

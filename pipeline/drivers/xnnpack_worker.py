"""Asks LiteRT which pieces of a .tflite file XNNPACK takes; a process of its own, as a broken file can end it.

python xnnpack_worker.py FILE ...    prints a line of JSON for each file: [{"inputs": [...], "outputs": [...]}, ...]
"""

from __future__ import annotations

import json
import sys


def main(file: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=1)
    interpreter.allocate_tensors()
    pieces = [
        {"inputs": [int(i) for i in op["inputs"]], "outputs": [int(i) for i in op["outputs"]]}
        for op in interpreter._get_ops_details()
        if op["op_name"] == "DELEGATE"
    ]
    print(json.dumps(pieces))


if __name__ == "__main__":
    for path in sys.argv[1:]:
        main(path)

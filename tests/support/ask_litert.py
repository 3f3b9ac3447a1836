"""Asks LiteRT of single-op files, each in a child of its own, as one may end it.

python ask_litert.py FILE ...    a line of JSON for each: ["taken" | "left" | "refused", why]
"""

import json
import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def ask(file: str) -> tuple[str, str]:
    """'refused': LiteRT with its default delegate, XNNPACK, does not load the file, or not run it."""
    try:
        interpreter = Interpreter(file, num_threads=1)
        interpreter.allocate_tensors()
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], tensor["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        return "refused", str(error)
    taken = any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    return "taken" if taken else "left", ""


def main(files: list[str]) -> None:
    sys.stderr.flush()
    for file in files:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(write, json.dumps(ask(file)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        print(answer or json.dumps(["refused", "it ended"]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

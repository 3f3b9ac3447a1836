"""OpenSSH: how to start a program on the remote machine, and what its error messages mean."""

from __future__ import annotations

import shlex
import tarfile

SSH_FAILED = 255
"""Exit code of ssh(1) where the connection failed, and not what runs at its end."""
BATCH = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20")
"""No terminal, no question that nobody answers, no waiting without end."""
DAMAGED_TAR = (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError)
"""What Python's tarfile raises for what comes back and is no whole archive, such as sizes beyond 64 bits, or a thousand
headers for one file."""
SSH_SAYS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "its host key is not the one known here: make sure that it is the same"
    " machine, then remove the old key with `ssh-keygen -R`",
    "Host key verification failed": "its host key is not known here: run `ssh HOST` once by hand and accept it",
    "Permission denied": "it accepts none of your keys: set up a login without a password (`ssh-copy-id`)",
    "Could not resolve hostname": "there is no machine of that name: correct it",
    "Connection refused": "no ssh server answers there: start it, or name its port with `ssh -p PORT`",
    "timed out": "it does not answer: correct the name, or start the machine",
    "No route to host": "it cannot be reached from here: correct the name, or start the machine",
    "Network is unreachable": "it cannot be reached from here: connect this machine to its network",
}
"""What OpenSSH says → what it means and what to do. The first that is found counts."""


def for_a_shell(script: str, *words: str) -> str:
    """What runs ``script`` with ``words`` as $1, $2, ... there, whichever the far login shell is.

    ``script`` is for any POSIX shell, without a single quote, a backslash or an exclamation mark, so that every login
    shell passes it on.
    """
    return " ".join(shlex.quote(word) for word in ("sh", "-c", script, "sh", *words))


def last_line(output: str) -> str:
    lines = [line.strip().rstrip(".") for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def why(output: str) -> str:
    """What ssh's error means and what to do; its last line where that is unknown."""
    return next((what for words, what in SSH_SAYS.items() if words in output), last_line(output))

"""What the shell offers for an option: the names of what is registered, and the runs.

A shell asks with every Tab, so nothing here loads TensorFlow or opens more than it must.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from click.shell_completion import CompletionItem

from pipeline.core.files import newest_first
from pipeline.core.run import FILE, RUNS

Items = list[CompletionItem]
MODELS = Path(__file__).resolve().parents[2] / "models"


def _items(named: Iterable[tuple[str, str]], incomplete: str) -> Items:
    """``named``: (value, help) of each."""
    return [CompletionItem(name, help=words) for name, words in named if name.startswith(incomplete)]


def runs(incomplete: str) -> Items:
    """The newest first; folders of the file system where none fits."""
    files = newest_first(RUNS.glob(f"*/{FILE}"))
    return [CompletionItem(incomplete, type="dir"), *_items(((str(file.parent), "") for file in files), incomplete)]


def files_or_runs(incomplete: str) -> Items:
    return [CompletionItem(incomplete, type="file"), *runs(incomplete)[1:]]


def targets(incomplete: str) -> Items:
    """Names; after a colon, what may follow it."""
    from pipeline.targets import targets as registered

    name, colon, _ = incomplete.partition(":")
    if not colon:
        return _items(((target.name, target.title) for target in registered().values()), incomplete)
    target = registered().get(name)
    if target is None:
        return []
    selectors = (*map(str, target.levels), *target.configurations, *target.socs)
    return _items(((f"{name}:{selector}", target.title) for selector in selectors), incomplete)


def targets_or_all(incomplete: str) -> Items:
    return [*targets(incomplete), *_items([("all", "every target")], incomplete)]


def devices(incomplete: str) -> Items:
    from pipeline.devices import devices as registered

    named = ((device.name, device.title) for device in registered().values())
    return _items([("best", "the best device attached"), *named], incomplete)


def datasets(incomplete: str) -> Items:
    """Names, with the colon where a folder follows; after the colon, the folders."""
    from pipeline.data import sources

    name, colon, folder = incomplete.partition(":")
    if not colon:
        named = ((s.name + (":" if s.layout else ""), s.title) for s in sources().values())
        return _items(named, incomplete)
    path = Path(os.path.expanduser(folder))
    parent = path if folder.endswith("/") or not folder else path.parent
    shown = folder[: folder.rfind("/") + 1]
    names = sorted(each.name for each in parent.iterdir() if each.is_dir()) if parent.is_dir() else []
    return _items(((f"{name}:{shown}{each}", "") for each in names), incomplete)


def networks(incomplete: str) -> Items:
    """As the files of models/ write them; to load the networks would load TensorFlow."""
    named = []
    for file in sorted(MODELS.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Network":
                words = {str(keyword.arg): keyword.value for keyword in node.keywords}
                words |= dict(zip(("name", "title"), node.args, strict=False))
                texts = [words[key].value for key in ("name", "title") if isinstance(words.get(key), ast.Constant)]  # type: ignore[attr-defined]
                named += [(str(texts[0]), str(texts[-1]))] if texts else []
    return _items(sorted(named), incomplete)


KINDS: Mapping[str, Callable[[str], Items]] = {
    function.__name__: function
    for function in (runs, files_or_runs, targets, targets_or_all, devices, datasets, networks)
}
"""What ``options.complete`` may be asked for. What is no name comes first: bash forgets what it got before it."""

"""The networks of tests of what depends on how layers follow each other."""

from typing import Any

import models

BARE = {"batch_norm": False}
VARIANTS: list[tuple[str, dict[str, Any]]] = [*((name, {}) for name in sorted(models.networks())), ("fast-scnn", BARE)]
"""(network, options). Without batch norm one stands for all: `test_the_variants_left_out_have_nothing_of_their_own`."""

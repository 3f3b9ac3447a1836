"""What benchmarks.side_by_side makes of given weights and images; runs in `.jax`, an environment of its own.

    python side_by_side_worker.py CASE.npz OUT.npz

CASE: weights by "w:layer/variable"; images float32, labels uint8, class_weights; pictures and masks uint8, with the
draws look and light, and chosen, bool [n + 1, 256]. OUT: what tests/train/test_side_by_side.py compares.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side import batch, network, settle, update

jax.config.update("jax_platforms", "cpu")
case = dict(np.load(sys.argv[1]))
weights = {name[2:]: case[name] for name in case if name.startswith("w:")}
size, classes = case["images"].shape[1:3], len(case["class_weights"])
settings = {name[2:]: jnp.float32(case[name]) for name in case if name.startswith("s:")}
out = {"logits": update.scores_of(weights, case["images"], classes)}
out["shapes"] = np.array(sorted(f"{n} {x.shape}" for n, x in network.fresh(tuple(size), classes, 0).items()))


@jax.jit
@jax.vmap
def augmented(image, mask, look, light):
    return batch.augment(image, mask, look, light, tuple(size), settings)


pixels, ids = augmented(case["pictures"], case["masks"], case["look"], case["light"])
out["augmented"], out["augmented_labels"] = pixels, ids
out["pasted"], out["pasted_labels"] = batch.paste(pixels, ids, case["chosen"])

labels = case["labels"].astype(np.int32)


@jax.jit
def step(state):
    trained, moving = update.split(state["weights"])
    (loss, (_, statistics)), gradients = jax.value_and_grad(update.loss_of, has_aux=True)(
        trained, moving, case["images"], labels, jax.random.key(0), settings, case["class_weights"]
    )
    return update.updated(state, gradients, statistics, settings, int(case["steps"])), loss, gradients


state, losses = update.begin(weights), []
for n in range(int(case["steps"])):
    state, loss, gradients = step(state)
    losses.append(loss)
    if not n:
        out |= {f"g:{name}": x for name, x in gradients.items()}
out["losses"] = np.array(losses)
out |= {f"w:{name}": x for name, x in state["weights"].items()}
out |= {f"a:{name}": x for name, x in state["averages"].items()}
settled = settle.settled(weights, case["pictures"][:8], 0.25)
out |= {name: settled[f"ltd_conv_bn/{name}"] for name in network.MOVING}
np.savez(sys.argv[2], **dict[str, Any]({name: np.asarray(x) for name, x in out.items()}))

"""Spreads work over processes or machines, shard by shard, and gives the results in order.

Processes of this machine are joblib's (loky). Those of a cluster are asked by Dask's own client: joblib's backend for
Dask never reports a shard that was given up because three workers died of it, and would wait for it for ever.

A shard is a plain noun: paths, digests and names. The worker opens the files itself, so they must lie at the same paths
there, and it refuses to work with other versions of the code, whose counts could differ.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.core.errors import DeviceError
from pipeline.core.files import sha256
from pipeline.core.pool import Pool
from pipeline.drivers.litert_worker import cores

Shard = TypeVar("Shard")
Result = TypeVar("Result")

TRIES = 3
"""Workers may die this often before the next shard is done; Dask's own limit for a task is the same."""
CONNECT_SECONDS = 30
ALONE_SECONDS = 60
"""A cluster may be without a worker for so long, to restart one."""
POLL_SECONDS = 1.0
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "scipy", "pillow", "tensorflow", "tf-keras", "ai-edge-litert")
"""What results depend on, besides this project's code."""


def spread(work: Callable[[Shard], Result], shards: Sequence[Shard], pool: Pool) -> Generator[Result, None, None]:
    """work(shard) of each in order. A shard whose worker died is done again, by another one.

    ``work``: a function of a module, which a process that has this project can import. Its errors are raised here.
    Raises DeviceError where the cluster cannot be used, and where workers go on dying.
    """
    if pool.here:
        yield from map(work, shards)
    elif pool.cluster:
        yield from _on_cluster(_Checked(work), shards, pool.cluster)
    else:
        yield from _in_processes(_Checked(work), shards, pool.jobs)


def check_same(path: Path, digest: str) -> None:
    """For a worker. Raises DeviceError where the file at ``path`` is not the one with this sha256."""
    if not path.is_file():
        raise DeviceError(
            f"the worker on {platform.node()} does not see {path}: keep runs and datasets on a file system that all"
            " machines have at the same path."
        )
    if sha256(path) != digest:
        raise DeviceError(
            f"{path} is another file on {platform.node()} than it was here when the work began: repeat the command when"
            " nothing writes there, on a file system that all machines share."
        )


@functools.cache
def versions() -> dict[str, str]:
    """Of what results depend on: Python, packages, and a digest of this project's code."""
    digest = hashlib.sha256()
    for folder in ("pipeline", "models", "calib"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    found = {"Python": platform.python_version(), "segquant": digest.hexdigest()[:12]}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class _Checked(Generic[Shard, Result]):
    """``work``, which refuses to run with other versions than those of the process that asks for it."""

    def __init__(self, work: Callable[[Shard], Result]) -> None:
        self._work, self._versions = work, versions()

    def __call__(self, shard: Shard) -> Result:
        if (ours := versions()) != self._versions:
            differ = [
                f"{name} {ours.get(name, 'missing')} instead of {version}"
                for name, version in self._versions.items()
                if ours.get(name) != version
            ]
            raise DeviceError(
                f"the worker on {platform.node()} has {', '.join(differ) or 'packages that this machine lacks'}: its"
                " counts could differ. Install the same versions there and restart the worker."
            )
        return self._work(shard)


def _in_processes(work: Callable[[Shard], Result], shards: Sequence[Shard], jobs: int) -> Generator[Result, None, None]:
    """Dead workers take all processes with them: new ones do the shards whose results have not been taken yet."""
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    done = died = 0
    try:
        while done < len(shards):
            parallel = joblib.Parallel(
                jobs,
                backend="loky",
                batch_size=1,
                pre_dispatch="2*n_jobs",
                return_as="generator",
                max_nbytes=None,
                initializer=_begin,
                initargs=(os.getpid(), max(1, len(cores()) // jobs)),
            )
            results = parallel(joblib.delayed(work)(shard) for shard in shards[done:])
            try:
                for result in results:
                    died = 0
                    done += 1
                    yield result
            except BrokenProcessPool:
                died += 1
                if died == TRIES:
                    raise DeviceError(
                        f"processes died {TRIES} times in a row, after {done} of {len(shards)} shards: where the memory"
                        f" is full, give fewer --jobs (it was {jobs})."
                    ) from None
            finally:
                results.close()
    finally:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)


def _begin(parent: int, threads: int) -> None:
    """In a new process of this machine: it leaves Ctrl-C to its parent, ends with it, and takes its share of cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _on_cluster(
    work: Callable[[Shard], Result], shards: Sequence[Shard], address: str
) -> Generator[Result, None, None]:
    try:
        import distributed
    except ImportError:
        raise DeviceError(
            "--cluster needs Dask, which is not installed: run `pip install -r requirements-cluster.txt` here and on"
            " the workers."
        ) from None
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"--cluster {address}: no Dask scheduler answers there ({type(error).__name__}): start one with `dask"
            " scheduler`, or correct the address."
        ) from None
    with _without_tracebacks(), client:
        futures = client.map(work, shards, pure=False)
        for done, future in enumerate(futures):
            yield _result(client, future, f"{done} of {len(shards)} shards")
            future.release()


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Within it, Dask's client does not log the traceback of a connection that was lost: that is an error of ours."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _result(client: Any, future: Any, done: str) -> Any:
    """The future's result; ``done``: how much was done before, for messages."""
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    address, alone_since = client.scheduler.address, None
    lost = (
        f"the Dask scheduler {address} has ended or cannot be reached any more, after {done}: see that it runs, restart"
        " it where it does not, and repeat the command."
    )
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except (CancelledError, CommClosedError):  # Dask's client gives up all futures where it loses the scheduler
            raise DeviceError(lost) from None
        except TimeoutError:
            if client.status != "running" and client.status != "connecting":
                raise DeviceError(lost) from None
        except KilledWorker:
            raise DeviceError(
                f"several workers of {address} died of one shard, after {done}: their logs say why; where the memory is"
                " full, start fewer workers on each machine."
            ) from None
        except ModuleNotFoundError as error:
            raise DeviceError(
                f"a worker of {address} cannot import {error.name}: start it in an environment that has segquant, with"
                f" PYTHONPATH={ROOT} where that is a checkout, as `dask worker {address}`."
            ) from None
        try:
            workers = client.scheduler_info(n_workers=0).get("n_workers", 1)
        except OSError:
            raise DeviceError(lost) from None
        if workers:
            alone_since = None
            continue
        alone_since = alone_since or time.monotonic()
        if time.monotonic() - alone_since > ALONE_SECONDS:
            raise DeviceError(
                f"the Dask scheduler {address} has had no worker for {ALONE_SECONDS} s, after {done}: start one with"
                f" `dask worker {address}`."
            )

"""Work spread over processes: in order, equal to one process, whoever dies under way."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.core.errors import BadSpec, DeviceError, UnknownName
from pipeline.core.pool import HERE, Pool
from pipeline.drivers import spread as spreading
from pipeline.drivers.spread import check_same, spread


def squared(shard):
    return [i * i for i in shard]


def dies_once(shard):
    marker, i = shard
    if i == 3:
        with open(marker, "a") as file:
            file.write(f"{os.getpid()}\n")
        if len(Path(marker).read_text().split()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return i * i


def dies_always(shard):
    os._exit(9)


def fails(shard):
    raise UnknownName("model", "unett", ["unet"])


def test_the_items_are_cut_in_order():
    items = list(range(101))
    for pool in (HERE, Pool(2), Pool(64), Pool(cluster="tcp://far:8786")):
        shards = pool.shards(items)
        assert [i for shard in shards for i in shard] == items
        assert max(map(len, shards)) <= 16
    assert len(Pool(8).shards(items)) >= 32
    assert Pool(4).shards([]) == []


@pytest.mark.parametrize("kwargs", [{"jobs": 0}, {"cluster": "10.0.0.1"}, {"cluster": "tcp://a:1", "jobs": 2}])
def test_a_pool_that_cannot_be(kwargs):
    with pytest.raises(BadSpec, match="--jobs|--cluster"):
        Pool(**kwargs)


def test_processes_give_the_results_in_order_and_a_dead_one_costs_nothing(tmp_path):
    shards = Pool(2).shards(list(range(50)))
    assert list(spread(squared, shards, Pool(2))) == [squared(shard) for shard in shards]
    marker = tmp_path / "died"
    assert list(spread(dies_once, [(str(marker), i) for i in range(8)], Pool(2))) == [i * i for i in range(8)]
    assert len(set(marker.read_text().split())) == 2


def test_errors_of_processes_are_those_of_the_work():
    with pytest.raises(UnknownName, match=r"unknown model 'unett': did you mean 'unet'\?"):
        list(spread(fails, [1], Pool(2)))
    with pytest.raises(DeviceError, match=r"died 3 times in a row, after 0 of 2 shards: .* fewer --jobs \(it was 2\)"):
        list(spread(dies_always, [1, 2], Pool(2)))


def test_other_versions_are_refused(monkeypatch):
    checked = spreading._Checked(squared)
    assert checked([3]) == [9]
    monkeypatch.setattr(spreading, "versions", lambda: {**checked._versions, "numpy": "1.0"})
    with pytest.raises(DeviceError, match=r"has numpy 1\.0 instead of .*: its counts could differ"):
        checked([3])


def test_a_worker_opens_the_file_that_was_meant(tmp_path):
    file = tmp_path / "a.tflite"
    with pytest.raises(DeviceError, match="does not see"):
        check_same(file, "00")
    file.write_bytes(b"x")
    with pytest.raises(DeviceError, match="is another file"):
        check_same(file, "00")
    check_same(file, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")


def test_a_cluster_that_is_not_there(monkeypatch):
    monkeypatch.setattr(spreading, "CONNECT_SECONDS", 0.2)
    pytest.importorskip("distributed", reason="no Dask: pip install -r requirements-cluster.txt")
    with pytest.raises(DeviceError, match="no Dask scheduler answers there"):
        list(spread(squared, [[1]], Pool(cluster="tcp://127.0.0.1:9")))


@pytest.mark.parametrize("where", ["cancelled", "closed", "asked"])
def test_a_scheduler_that_ends_under_way_is_one_sentence(where):
    """As Dask's client tells it, which gives up the futures that it has."""
    distributed = pytest.importorskip("distributed", reason="no Dask: pip install -r requirements-cluster.txt")

    def result(timeout):
        if where == "cancelled":
            raise distributed.client.FutureCancelledError("shard-1", "scheduler-connection-lost")
        raise TimeoutError if where == "asked" else distributed.comm.CommClosedError("in <TCP (closed)>")

    def scheduler_info(n_workers):
        raise distributed.comm.CommClosedError("in <TCP (closed)>")

    scheduler = SimpleNamespace(address="tcp://a:1")
    client = SimpleNamespace(scheduler=scheduler, status="running", scheduler_info=scheduler_info)
    with pytest.raises(DeviceError, match="^the Dask scheduler tcp://a:1 has ended .*, after 3 of 9 shards: .*repeat"):
        spreading._result(client, SimpleNamespace(result=result), "3 of 9 shards")

"""MULTI, EXEC and WATCH by many clients on few keys: every history is strictly serializable, and no money is lost.

redis-server goes first: what it passes tells that the recording is right.
"""

import signal
import threading

import pytest
import redis

from conftest import Cluster, kill, wait_until
from faults import View
from histories import Bank, TransactionClient, TransactionLoad, check, check_reply


@pytest.fixture(scope="module")
def one():
    with Cluster("--shards", "1") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", "3") as cluster:
        View(cluster.data, 3).wait_led()
        yield cluster


@pytest.fixture(params=["redis-server", "one shard", "three nodes"])
def connect(request):
    """Makes clients of each of the databases in turn."""
    if request.param == "redis-server":
        port = request.getfixturevalue("oracle")
        return lambda **more: redis.Redis(port=port, **more)
    cluster = request.getfixturevalue({"one shard": "one", "three nodes": "three"}[request.param])
    return cluster.client


def test_histories_are_strictly_serializable(connect, tmp_path):
    load = TransactionLoad("hot", connect)
    load.wait_for(1500)
    load.wait_for_race()
    print(load.finish(tmp_path))


class Unwatched(TransactionClient):
    """Does not see to it that what it has read still holds."""

    def guard(self, keys):
        pass


class Piecemeal(TransactionClient):
    """Sends one command after the other."""

    def execute(self, rows):
        return [check_reply(self.session.ask(self.command(row))[0]) for row in rows]


@pytest.mark.parametrize("kind", [Unwatched, Piecemeal])
def test_careless_clients_are_found_out(oracle, tmp_path, kind):
    """What makes the test above worth something: without WATCH, or without MULTI, the same load does not pass."""
    for number in range(50):  # Where clients do not happen to meet they do no harm: then again.
        load = TransactionLoad(f"careless{number}", lambda **more: redis.Redis(port=oracle, **more), kind=kind)
        load.wait_for(300)
        try:
            load.finish(tmp_path)
        except AssertionError as error:
            assert "committed, checked in" in str(error), error  # The checker's word, and nobody else's.
            return
    pytest.fail("nothing was found")


def test_money_is_neither_made_nor_lost(connect):
    bank = Bank("bank", connect)
    bank.wait_for(500)
    bank.wait_for_race()
    bank.finish()


@pytest.mark.parametrize("connect", ["redis-server", "one shard"], indirect=True)
def test_a_counter_under_watch_loses_no_update(connect):
    """redis-py's own loop: each client adds one a number of times, with a SET of what was read and one more."""
    key, clients, times = "{count}er", 8, 25
    failures = []

    def count():
        try:
            with connect() as client:
                for _ in range(times):
                    client.transaction(lambda pipe: add(pipe), key)
        except Exception as error:
            failures.append(error)

    def add(pipe):
        value = int(pipe.get(key) or 0)
        pipe.multi()
        pipe.set(key, value + 1)

    with connect() as client:
        client.delete(key)
        threads = [threading.Thread(target=count, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[:3]
        assert int(client.get(key)) == clients * times


def test_the_leader_of_the_shard_is_killed(three, tmp_path):
    view = View(three.data, 3)
    load, bank = TransactionLoad("killed", three.client), Bank("killed-bank", three.client)
    for name, running in (("killed", load), ("killed-bank", bank)):
        load.wait_for(200)
        bank.wait_for(50)
        # The slot of a key with a tag is that of the tag.
        shard = view.shard_of(name)
        victim = wait_until(lambda: view.leader(shard), f"a leader of shard {shard}")
        before = three.pids()
        kill(before[f"storage-node-{victim}"], signal.SIGKILL)
        running.wait_for(200)
        three.wait_ready()
    load.wait_for(200)
    bank.wait_for(50)
    bank.finish()
    print(load.finish(tmp_path))


def test_an_anomaly_is_told(tmp_path):
    """Two clients read the same, and both write: the check says so, and names them."""
    both = {"end": 9, "outcome": "committed"}
    rows = [
        {"client": 1, "begin": 1, "operations": [["read", "k", None], ["write", "k", "a"]], **both},
        {"client": 2, "begin": 2, "operations": [["read", "k", None], ["write", "k", "b"]], **both},
    ]
    check(rows, tmp_path / "lost.jsonl", level="read-committed")
    with pytest.raises(AssertionError, match="lost update: T1 and T2 read the same k"):
        check(rows, tmp_path / "lost.jsonl", level="snapshot")

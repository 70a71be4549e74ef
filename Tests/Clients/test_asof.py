"""CLIENT ASOF: reads of the past, beside writers, over shards, after restarts and changes of leaders."""

import random
import signal
import threading

import pytest
import redis
from redis.exceptions import ClusterDownError, TryAgainError

from conftest import Cluster, kill, wait_until
from faults import View


@pytest.fixture(scope="module")
def one():
    with Cluster("--shards", "4") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", "3") as cluster:
        View(cluster.data, 3).wait_led()
        yield cluster


@pytest.fixture(params=["one", "three"])
def cluster(request):
    cluster = request.getfixturevalue(request.param)
    connection = cluster.client()
    patiently(connection.flushall)
    connection.close()
    return cluster


def patiently(call, *arguments):
    """Calls again while no leader is there, or others are in the way."""
    found = []

    def answered():
        try:
            found.append(call(*arguments))
            return True
        except (redis.ConnectionError, redis.TimeoutError, ClusterDownError, TryAgainError):
            return False
        except redis.ResponseError as error:
            if str(error).split()[0] in ("TRYAGAIN", "CLUSTERDOWN", "BUSY") or "unknown" in str(error):
                return False
            raise

    wait_until(answered, "an answer")
    return found[0]


def at_once(client, *commands):
    """MULTI … EXEC on the connection that the client has; a pipeline of redis-py would take another one."""
    client.execute_command("MULTI")
    for command in commands:
        client.execute_command(*command)
    return client.execute_command("EXEC")


class Past:
    """A connection that reads at a moment."""

    def __init__(self, cluster, moment="NOW"):
        self.client = cluster.client(single_connection_client=True, decode_responses=True)
        self.time = patiently(self.move, moment)

    def move(self, moment):
        return self.client.execute_command("CLIENT ASOF", moment)

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        self.client.close()


def test_everything_is_as_it_was(cluster):
    client = cluster.client(decode_responses=True)
    client.mset({f"k{n}": n for n in range(50)})
    client.hset("h", mapping={"f": "1", "g": "2"})
    client.setbit("bits", 7, 1)
    before = Past(cluster)
    client.mset({f"k{n}": "new" for n in range(25)})
    client.delete(*(f"k{n}" for n in range(25, 40)))
    client.hdel("h", "f")
    client.delete("bits")
    client.mset({f"more{n}": "x" for n in range(10)})
    between = Past(cluster)
    client.mset({f"k{n}": "newest" for n in range(50)})
    client.delete("h")

    with before as past:
        assert past.get("k3") == "3" and past.exists("k30", "h", "bits", "more1") == 3
        assert past.mget([f"k{n}" for n in range(50)]) == [str(n) for n in range(50)]
        assert past.hgetall("h") == {"f": "1", "g": "2"} and past.getbit("bits", 7) == 1
        assert past.dbsize() == 52 and len(past.keys()) == 52 and past.keys("more*") == []
        assert set(past.scan_iter(count=7)) == {*(f"k{n}" for n in range(50)), "h", "bits"}
        assert past.randomkey() in {*(f"k{n}" for n in range(50)), "h", "bits"}
        replies = at_once(past, ("MGET", "k1", "k2", "k30"), ("GET", "k49"), ("HLEN", "h"), ("DBSIZE",), ("PING",))
        assert replies == [["1", "2", "30"], "49", 2, 52, "PONG"]
        assert past.type("k0") == "string" and past.ttl("k0") == -1
        assert past.execute_command("CLIENT ASOF OFF") == "OK"
        assert past.get("k3") == "newest" and past.set("k3", "own")
    with between as past:
        assert past.get("k3") == "new" and past.get("k30") is None and past.get("k45") == "45"
        assert past.hgetall("h") == {"g": "2"} and past.exists("bits") == 0 and past.dbsize() == 46
    # Another connection can go there, too.
    with Past(cluster, before.time) as past:
        assert past.get("k3") == "3" and past.execute_command("CLIENT ASOF") == before.time


def test_moments(cluster):
    client = cluster.client(single_connection_client=True)
    now = client.execute_command("CLIENT ASOF", "now")
    assert client.execute_command("CLIENT ASOF") == now and now >> 16 > 1_700_000_000_000
    for moment in ("-1s", "-1500ms", "-2m", "-1h", "-1d"):
        assert 0 < client.execute_command("CLIENT ASOF", moment) < now
    assert client.execute_command("CLIENT ASOF", now >> 16) == now >> 16 << 16
    assert client.execute_command("CLIENT ASOF", now) == now
    for moment in ("", "x", "-5", "-1w", "0", "1.5", (now >> 16) + 3_600_000, now + (1 << 42)):
        with pytest.raises(redis.ResponseError):
            client.execute_command("CLIENT ASOF", moment)
    assert client.execute_command("CLIENT ASOF") == now
    for words in (("SET", "a", "1"), ("DEL", "a"), ("FLUSHDB",), ("GETEX", "a"), ("WATCH", "a"), ("HDEL", "h", "f")):
        with pytest.raises(redis.ResponseError, match="reads the past"):
            client.execute_command(*words)
    client.execute_command("CLIENT ASOF OFF")
    assert client.set("a", "1") and client.execute_command("CLIENT ASOF") is None
    client.execute_command("WATCH", "a")
    with pytest.raises(redis.ResponseError, match="watched"):
        client.execute_command("CLIENT ASOF", "NOW")
    client.execute_command("RESET")


def test_a_pipeline_sees_what_it_wrote(cluster):
    client = cluster.client()
    for number in range(20):
        with client.pipeline(transaction=False) as pipeline:
            for key in range(8):
                pipeline.set(f"own{key}", number)
            pipeline.execute_command("CLIENT ASOF", "NOW")
            for key in range(8):
                pipeline.get(f"own{key}")
            pipeline.execute_command("CLIENT ASOF", "OFF")
            pipeline.set("own0", "later")
            results = pipeline.execute()
        assert results[9:17] == [str(number).encode()] * 8 and results[17:] == [b"OK", True]


def test_what_was_acknowledged_is_seen(cluster):
    """By everybody who asks for the time then, not only by who has written it."""
    writer, reader = cluster.client(), cluster.client(single_connection_client=True)
    for number in range(100):
        key = f"seen{number % 7}"
        writer.set(key, number)
        reader.execute_command("CLIENT ASOF", "NOW")
        assert int(reader.get(key)) == number


def test_snapshots_beside_transfers(cluster):
    """Every snapshot has all of a transaction or nothing, and does not change while it is looked at."""
    accounts = [f"account{number}" for number in range(8)]
    cluster.client().mset({account: 100 for account in accounts})
    failures, is_over, moved = [], threading.Event(), [0] * 4

    def transfer(number):
        try:
            client, chance = cluster.client(), random.Random(number)
            while not is_over.is_set():
                source, target = chance.sample(accounts, 2)
                amount = chance.randint(1, 9)

                def move():
                    with client.pipeline(transaction=True) as pipeline:
                        pipeline.decrby(source, amount).incrby(target, amount).mset({"left": amount, "right": amount})
                        pipeline.execute()

                patiently(move)
                moved[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=transfer, args=(number,), daemon=True) for number in range(len(moved))]
    for thread in threads:
        thread.start()
    try:
        reader = cluster.client(single_connection_client=True)
        looked = 0
        while (looked < 60 or min(moved) < 20) and not failures:
            patiently(reader.execute_command, "CLIENT ASOF", "NOW")
            values = patiently(reader.mget, accounts)
            assert sum(map(int, values)) == 800, values
            one_by_one = [patiently(reader.get, account) for account in accounts]
            gets = [("GET", account) for account in reversed(accounts)]
            *backwards, pair = patiently(at_once, reader, *gets, ("MGET", "left", "right"))
            assert one_by_one == values and backwards == values[::-1] and pair[0] == pair[1]
            looked += 1
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]


def test_what_was_flushed_is_gone(cluster):
    client = cluster.client()
    client.set("a", "1")
    with Past(cluster) as past:
        assert past.get("a") == "1"
        client.flushall()
        with pytest.raises(redis.ResponseError, match="TOOOLD"):
            past.get("a")
        past.execute_command("CLIENT ASOF", "NOW")
        assert past.get("a") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_past_outlives_a_restart(number):
    with Cluster("--shards", "2") as cluster:
        client, times = cluster.client(), []
        for value in range(3):
            client.mset({f"k{key}": value for key in range(20)})
            times.append(Past(cluster).time)
        client.mset({f"k{key}": "last" for key in range(20)})
        pid = cluster.pids()["storage-node-1"]
        kill(pid, number)
        wait_until(lambda: cluster.pids().get("storage-node-1", pid) != pid, "another process")
        assert patiently(cluster.client().get, "k1") == b"last"
        for value, time in enumerate(times):
            with Past(cluster, time) as past:
                assert patiently(past.mget, [f"k{key}" for key in range(20)]) == [str(value)] * 20


def test_the_past_is_the_same_at_every_leader():
    with Cluster("--nodes", "3") as cluster:
        view = View(cluster.data, 3)
        view.wait_led()
        client, keys = cluster.client(), [f"k{key}" for key in range(20)]
        client.mset({key: "old" for key in keys})
        past = Past(cluster)
        client.mset({key: "new" for key in keys})
        for _ in range(2):
            leader = view.leader(view.shard_of("k0"))
            name = f"storage-node-{leader}"
            pid = cluster.pids()[name]
            kill(pid, signal.SIGKILL)
            assert patiently(past.client.mget, keys) == ["old"] * 20
            with Past(cluster) as now:
                assert patiently(now.mget, keys) == ["new"] * 20
            assert patiently(past.client.get, "k0") == "old"
            wait_until(lambda: cluster.pids().get(name, pid) != pid, "another process")
            view.wait_led()

"""MULTI, EXEC and WATCH as programs use them: no update is lost, and nothing is done half, also when nodes die."""

import os
import random
import signal
import socket
import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ExecAbortError, TryAgainError, WatchError
from redis.retry import Retry

from conftest import Cluster, kill, wait_until
from histories import TransactionLoad

ROUNDS = int(os.environ.get("ORBIT_CRASH_ROUNDS", "20")) // 4 or 1


def at_once(count, body):
    """Runs `body(number)` in `count` threads, and raises what one of them has raised."""
    failures = []

    def run(number):
        try:
            body(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def patiently(call, *arguments):
    """Calls again while others were in the way for too long: nothing was done then."""
    while True:
        try:
            return call(*arguments)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSY"):
                raise


def test_pipeline(client):
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("a", "1").incr("a").hset("h", "f", "v").hgetall("h").get("none").exists("a", "h")
        assert pipeline.execute() == [True, 2, 1, {b"f": b"v"}, None, 2]


def test_errors_in_a_transaction_leave_the_rest_done(client):
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("a", "text").incr("a").set("b", "2").hget("a", "f")
        results = pipeline.execute(raise_on_error=False)
    assert results[0] is True and results[2] is True
    assert "not an integer" in str(results[1]) and "WRONGTYPE" in str(results[3]) + type(results[3]).__name__.upper()
    assert client.mget("a", "b") == [b"text", b"2"]


def test_a_refused_command_undoes_all(client):
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("a", "1")
        pipeline.execute_command("NOSUCH")
        with pytest.raises((ExecAbortError, redis.ResponseError)):
            pipeline.execute()
    assert client.get("a") is None


def test_whole_databases(client):
    client.mset({f"k{number}": number for number in range(100)})
    with client.pipeline(transaction=True) as pipeline:
        pipeline.dbsize().set("one", "more").dbsize().keys("on*").randomkey().scan(count=1000).flushdb().dbsize()
        pipeline.set("left", "1")
        results = pipeline.execute()
    assert results[0] == 100 and results[2] == 101 and results[3] == [b"one"] and results[4]
    assert results[5][0] == 0 and len(results[5][1]) == 101
    assert results[6:] == [True, 0, True] and client.keys() == [b"left"]


def test_a_long_transaction(client):
    with client.pipeline(transaction=True) as pipeline:
        for number in range(20_000):
            pipeline.set(f"k{number % 500}", number)
        pipeline.dbsize()
        results = pipeline.execute()
    assert results[:-1] == [True] * 20_000 and results[-1] == 500


def test_watch(client, cluster):
    other = cluster.client()
    with client.pipeline() as pipeline:
        for change in (
            lambda: other.set("w", "theirs"),
            lambda: other.delete("w"),
            lambda: other.incr("n"),
            lambda: other.expire("w2", 100),
            lambda: (other.delete("w2"), other.set("w2", "2")),
            other.flushdb,
        ):
            client.mset({"w": "1", "w2": "2"})
            pipeline.watch("w", "w2", "n")
            before = pipeline.get("w")
            change()
            pipeline.multi()
            pipeline.set("w", before + b"0")
            with pytest.raises(WatchError):
                pipeline.execute()
            assert client.get("w") != b"10"
        client.mset({"w": "1", "w2": "2"})
        pipeline.watch("w", "n")
        other.mset({"w2": "x", "w3": "y"})
        other.get("w")
        pipeline.multi()
        pipeline.set("w", "5")
        assert pipeline.execute() == [True]
    other.close()


def test_a_watched_key_that_expires_counts_as_changed(client):
    with client.pipeline() as pipeline:
        for life in (30, 1000, 30_000, 300_000):  # Long enough to be seen, however slow the machine is.
            client.set("w", "1", px=life)
            pipeline.watch("w")
            if pipeline.get("w"):
                break
            pipeline.unwatch()
        wait_until(lambda: client.get("w") is None, what="the end of the key")
        pipeline.multi()
        pipeline.set("w", "5")
        with pytest.raises(WatchError):
            pipeline.execute()


def test_nothing_overtakes_a_watch(cluster):
    """A whole cycle in one write: the GET behind WATCH never sees less than what is watched."""
    cluster.client().delete("counter")

    def count(_):
        with socket.create_connection(("127.0.0.1", cluster.port), timeout=120) as connection:
            file = connection.makefile("rb")
            connection.sendall(f"AUTH orbit {cluster.password}\r\n".encode())
            assert file.readline() == b"+OK\r\n"
            done = 0
            while done < 40:
                connection.sendall(b"WATCH counter\r\nGET counter\r\n")
                assert file.readline() == b"+OK\r\n"
                length = int(file.readline()[1:])
                value = int(file.read(length + 2)) if length >= 0 else 0
                connection.sendall(b"MULTI\r\nSET counter %d\r\nEXEC\r\n" % (value + 1))
                assert [file.readline(), file.readline()] == [b"+OK\r\n", b"+QUEUED\r\n"]
                if file.readline() == b"*1\r\n":
                    assert file.readline() == b"+OK\r\n"
                    done += 1

    at_once(6, count)
    assert int(cluster.client().get("counter")) == 240


def test_no_update_is_lost(cluster):
    """Optimistic locking, as the books have it: many clients count one counter."""
    cluster.client().delete("counter", "log")

    def count(number):
        client = cluster.client()

        def step(pipeline):
            value = int(pipeline.get("counter") or 0)
            pipeline.multi()
            pipeline.set("counter", value + 1)
            pipeline.append("log", f"{value + 1},")

        for _ in range(40):
            client.transaction(step, "counter")
        client.close()

    at_once(8, count)
    client = cluster.client()
    assert int(client.get("counter")) == 320
    assert client.get("log") == "".join(f"{number}," for number in range(1, 321)).encode()


def test_transfers(cluster):
    """Money moves between accounts; whoever looks at all of them at once sees all of it."""
    client, names = cluster.client(), [f"account{number}" for number in range(5)]
    client.mset(dict.fromkeys(names, 100))

    def move(number):
        client, source = cluster.client(), random.Random(number)

        def step(pipeline):
            balance, amount = int(pipeline.get(one)), source.randrange(1, 30)
            pipeline.multi()
            if balance >= amount:
                pipeline.decrby(one, amount)
                pipeline.incrby(other, amount)

        for _ in range(60):
            one, other = source.sample(names, 2)
            client.transaction(step, one)
            with client.pipeline(transaction=True) as pipeline:
                for name in names:
                    pipeline.get(name)
                balances = [int(value) for value in pipeline.execute()]
            assert sum(balances) == 500 and min(balances) >= 0, balances
        client.close()

    at_once(6, move)


@pytest.fixture(scope="module")
def wide():
    """Several shards on several nodes: keys without tags live anywhere."""
    with Cluster("--nodes", "3", "--shards", "3") as running:
        yield running


@pytest.fixture
def wide_client(wide):
    connection = wide.client()
    connection.flushall()
    yield connection
    connection.close()


KEYS = [f"k{number}" for number in range(50)]
TAGS = ["a", "b", "c", "d", "e"]  # They live on all three.


def test_transactions_over_shards(wide, wide_client):
    with wide_client.pipeline(transaction=True) as pipeline:
        for number, key in enumerate(KEYS):
            pipeline.set(key, number)
        for key in KEYS:
            pipeline.incr(key)
        pipeline.hget("k7", "f").dbsize().mget(KEYS[:5])
        results = pipeline.execute(raise_on_error=False)
    assert results[:50] == [True] * 50 and results[50:100] == list(range(1, 51))
    assert "wrong kind" in str(results[100]) and results[101:] == [50, [b"1", b"2", b"3", b"4", b"5"]]
    other = wide.client()
    for changed, isDone in (("k49", False), ("k48", True)):
        with wide_client.pipeline() as pipeline:
            pipeline.watch("k1", "k2", "k49")
            other.set(changed, "theirs")
            pipeline.multi()
            pipeline.set("k1", "mine").set("k2", "mine")
            if isDone:
                assert pipeline.execute() == [True, True]
            else:
                with pytest.raises(WatchError):
                    pipeline.execute()
                assert wide_client.mget("k1", "k2") == [b"2", b"3"]
    other.close()


def test_commands_over_shards(wide_client):
    assert wide_client.mset(dict.fromkeys(KEYS, "v")) is True
    assert wide_client.mget(*KEYS, "none") == [b"v"] * 50 + [None]
    assert wide_client.exists(*KEYS, *KEYS, "none") == 100
    assert wide_client.touch(*KEYS, "none") == 50
    assert wide_client.delete(*KEYS[:10], *KEYS[:10]) == 10
    assert wide_client.unlink(*KEYS[:20]) == 10
    assert wide_client.msetnx({"new": "1", **dict.fromkeys(KEYS[:11], "w")}) is True
    assert wide_client.msetnx({"newer": "1", **dict.fromkeys(KEYS[:11], "x")}) is False
    assert wide_client.mget("new", "newer", *KEYS[:11]) == [b"1", None] + [b"w"] * 11
    for key in KEYS[20:]:
        assert wide_client.set("source", key) and wide_client.rename("source", key) is True
        assert wide_client.mget("source", key) == [None, key.encode()]


def test_pipelines_over_shards_keep_their_order(wide_client):
    with wide_client.pipeline(transaction=False) as pipeline:
        for number in range(30):
            pipeline.mset(dict.fromkeys(KEYS, number)).get(KEYS[number]).set(KEYS[number], "x").mget(KEYS)
        results = pipeline.execute()
    for number in range(30):
        step = results[4 * number : 4 * number + 4]
        expected = [str(number).encode()] * 50
        expected[number] = b"x"
        assert step == [True, str(number).encode(), True, expected]


def test_writes_over_shards_are_seen_whole(wide):
    """Writers put the same into all keys; whoever reads all of them reads one writer's."""

    def write_all(client, value):
        with client.pipeline(transaction=True) as pipeline:
            for key in KEYS[:8]:
                pipeline.set(key, value)
            pipeline.execute()

    def write(number):
        client = wide.client()
        for turn in range(40):
            if number % 3 == 0:
                patiently(client.mset, dict.fromkeys(KEYS[:8], f"{number}:{turn}"))
            elif number % 3 == 1:
                patiently(write_all, client, f"{number}:{turn}")
            else:
                assert len(set(patiently(client.mget, KEYS[:8]))) == 1
        client.close()

    wide.client().delete(*KEYS)
    at_once(6, write)


def test_no_update_is_lost_over_shards(wide):
    wide.client().delete(*KEYS)

    def count(_):
        client = wide.client()

        def step(pipeline):
            values = [int(pipeline.get(key) or 0) for key in KEYS[:4]]
            pipeline.multi()
            for key, value in zip(KEYS[:4], values):
                pipeline.set(key, value + 1)

        for _ in range(25):
            patiently(client.transaction, step, *KEYS[:4])
        client.close()

    at_once(6, count)
    assert wide.client().mget(KEYS[:4]) == [b"150"] * 4


def test_histories_over_shards_are_strictly_serializable(wide, tmp_path):
    load = TransactionLoad("wide", wide.client, tags=TAGS)
    load.wait_for(1000)
    load.wait_for_race()
    print(load.finish(tmp_path))


@pytest.mark.crash
def test_histories_over_shards_bear_sigkill(tmp_path):
    with Cluster("--nodes", "3", "--shards", "3") as cluster:
        load = TransactionLoad("wide", cluster.client, tags=TAGS)
        load.wait_for(500)
        for number in range(ROUNDS):
            victim = random.choice([name for name in cluster.pids() if not name.startswith("coordinator")])
            before = cluster.pids()[victim]
            kill(before, signal.SIGKILL)
            wait_until(lambda: cluster.pids().get(victim, before) != before, what=f"the restart of {victim}")
            cluster.wait_ready()
            load.wait_for(500)
        print(load.finish(tmp_path))


class Writer(threading.Thread):
    """Writes pairs of keys and counts them, each time at once; remembers what was acknowledged, and what may be."""

    def __init__(self, cluster, name):
        super().__init__(daemon=True)
        self.cluster, self.prefix = cluster, name
        self.acknowledged, self.unknown, self.errors = [], [], []
        self.stopping = threading.Event()

    def connect(self):
        return self.cluster.client(retry=Retry(NoBackoff(), 0), socket_connect_timeout=2)

    def run(self):
        client, number = self.connect(), 0
        while not self.stopping.is_set():
            number += 1
            try:
                with client.pipeline(transaction=True) as pipeline:
                    pipeline.set(f"{self.prefix}:{number}:a", number).incr(f"{self.prefix}:count")
                    pipeline.set(f"{self.prefix}:{number}:b", number)
                    pipeline.execute()
                self.acknowledged.append(number)
            except (ClusterDownError, TryAgainError):
                self.stopping.wait(0.02)  # Refused: it must not have happened.
            except redis.ResponseError as error:
                if not str(error).startswith("BUSY"):  # Refused, as above.
                    if "outcome is unknown" not in str(error):
                        self.errors.append(str(error))
                    self.unknown.append(number)
                self.stopping.wait(0.02)
            except (redis.ConnectionError, redis.TimeoutError):
                self.unknown.append(number)
                client.close()
                client = self.connect()
                self.stopping.wait(0.02)
        client.close()

    def stop(self):
        self.stopping.set()
        self.join(60)
        assert not self.is_alive(), "a writer hangs"

    def verify(self, client):
        assert not self.errors, self.errors[:3]
        found, possible = 0, {*self.acknowledged, *self.unknown}
        for key in client.scan_iter(match=f"{self.prefix}:*:a", count=1000):
            number = int(key.decode().split(":")[-2])
            found += 1
            assert number in possible, f"{key} was refused, and is there"
            assert client.get(f"{self.prefix}:{number}:b") == str(number).encode(), f"half of {key}"
        halves = sum(1 for _ in client.scan_iter(match=f"{self.prefix}:*:b", count=1000))
        assert halves == found and int(client.get(f"{self.prefix}:count") or 0) == found
        for number in self.acknowledged:
            assert client.exists(f"{self.prefix}:{number}:a"), f"{self.prefix}:{number} is lost"

@pytest.mark.crash
@pytest.mark.parametrize("options", [[], ["--nodes", "3", "--shards", "3"]], ids=["one shard", "three nodes"])
def test_transactions_are_whole_after_sigkill(options):
    with Cluster(*options) as cluster:
        for number in range(ROUNDS):
            nodes = [name for name in cluster.pids() if name.startswith("storage-node")]
            victim = [random.choice(nodes), random.choice(nodes), "resp-gw-1"][number % 3]
            writers = [Writer(cluster, f"r{number}:{name}") for name in range(3)]
            for writer in writers:
                writer.start()

            def done():
                return sum(len(writer.acknowledged) for writer in writers)

            goal = 100 + random.randrange(300)
            wait_until(lambda: done() >= goal, what=f"round {number}: {goal} transactions")
            before = cluster.pids()[victim]
            kill(before, signal.SIGKILL)
            wait_until(lambda: cluster.pids().get(victim, before) != before, what=f"the restart of {victim}")
            cluster.wait_ready()
            reached = done()
            wait_until(lambda: done() >= reached + 100, what=f"round {number}: transactions after the restart")
            client = cluster.client()
            for writer in writers:
                writer.stop()
            for writer in writers:
                writer.verify(client)
            client.close()


@pytest.mark.crash
def test_a_watch_does_not_survive_its_node_wrongly():
    """Between WATCH and EXEC the key changes and the node dies: the transaction must not be done."""
    with Cluster() as cluster:
        client, other = cluster.client(), cluster.client(retry=Retry(NoBackoff(), 0))
        client.set("w", "1")
        with client.pipeline() as pipeline:
            pipeline.watch("w")
            before = cluster.pids()["storage-node-1"]
            other.set("w", "theirs")
            kill(before, signal.SIGKILL)
            wait_until(lambda: cluster.pids().get("storage-node-1", before) != before, what="the restart")
            cluster.wait_ready()
            pipeline.multi()
            pipeline.set("w", "mine")
            with pytest.raises(WatchError):
                pipeline.execute()
        assert client.get("w") == b"theirs"

"""CLIENT TRANSACTION with real processes: anomalies per level in the manner of Hermitage, locks, deadlocks, savepoints,
time-outs, and what a death in the middle leaves behind."""

import binascii
import pathlib
import random
import signal
import threading
import time

import pytest
import redis

from conftest import Cluster, kill, wait_until
from faults import ask_admin
from histories import InteractiveClient, Session, TransactionLoad

SHARDS = 4
RC, SNAPSHOT, SERIALIZABLE = "READ-COMMITTED", "SNAPSHOT", "SERIALIZABLE"
LEVELS = [RC, SNAPSHOT, SERIALIZABLE]


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--shards", str(SHARDS)) as running:
        yield running


def shard(key):
    return binascii.crc_hqx(key.encode(), 0) % 16384 * SHARDS // 16384


def keys(name, count=2):
    """Keys on as many shards."""
    found = []
    number = 0
    while len(found) < count:
        key = f"{name}{number}"
        if shard(key) not in [shard(other) for other in found]:
            found.append(key)
        number += 1
    return found


class Transaction:
    """A connection with a transaction on it."""

    def __init__(self, cluster, level=None, *options):
        self.session = Session(cluster.client)
        if level:
            self.control("BEGIN", "ISOLATION", level, *(options or ("LOCKTIMEOUT", "60000")))

    def ask(self, *words):
        reply = self.session.ask(words)[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def control(self, *words):
        return self.ask("CLIENT", "TRANSACTION", *words)

    def get(self, key):
        value = self.ask("GET", key)
        return None if value is None else int(value)

    def set(self, key, value):
        assert self.ask("SET", key, value) == b"OK"

    def commit(self):
        assert self.control("COMMIT") == b"OK"

    def rollback(self):
        assert self.control("ROLLBACK") == b"OK"

    def later(self, *words):
        """The command on its way, in a thread of its own; `Later.result` waits."""
        return Later(lambda: self.ask(*words))

    def close(self):
        self.session.close()


class Later:
    def __init__(self, body):
        self.value = self.error = None

        def run():
            try:
                self.value = body()
            except redis.RedisError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    @property
    def is_done(self):
        return not self.thread.is_alive()

    def result(self):
        self.thread.join(60)
        assert self.is_done, "it is not answered"
        if self.error:
            raise self.error
        return self.value


def refused(body, *codes):
    with pytest.raises(redis.RedisError) as failure:
        body()
    text = str(failure.value)
    assert any(text.startswith(code) for code in codes), text
    return text


def increment(client, key):
    """As soon as nobody has locked the key: a call waits for so long, and then has done nothing."""

    def attempt():
        try:
            return client.incr(key)
        except redis.RedisError as error:
            assert str(error).startswith(("BUSY", "LOCKED")), error
            return None

    return wait_until(attempt, f"an increment of {key}")


def waiting(cluster, count=1):
    """Until so many calls wait for locks."""
    wait_until(lambda: metric(cluster, "orbit_lock_waiters") >= count, "a wait for a lock")


def metric(cluster, name):
    page = ask_admin(pathlib.Path(cluster.data, "run", "n1.admin"), "/metrics") or b""
    for line in page.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    return 0


@pytest.fixture
def pair(cluster):
    """Two keys on two shards, 10 and 20, and what makes transactions."""
    made = []

    class Pair:
        x, y = keys(f"pair{time.monotonic_ns()}")

        def begin(self, level, *options):
            made.append(Transaction(cluster, level, *options))
            return made[-1]

        def values(self):
            return [int(value) for value in self.plain.mget(self.x, self.y)]

    pair = Pair()
    pair.plain = cluster.client()
    # One by one: what is done over several shards is answered before all of its locks are free.
    pair.plain.set(pair.x, 10)
    pair.plain.set(pair.y, 20)
    yield pair
    for transaction in made:
        transaction.close()
    pair.plain.close()


# Anomalies


@pytest.mark.parametrize("level", LEVELS)
def test_g0_writes_are_not_mixed(cluster, pair, level):
    one, two = pair.begin(level), pair.begin(level)
    one.set(pair.x, 11)
    if level != RC:
        two.get(pair.y)
    blocked = two.later("SET", pair.x, 12)
    waiting(cluster)
    one.set(pair.y, 21)
    one.commit()
    if level == RC:
        assert blocked.result() == b"OK"
        assert pair.values() == [11, 21]
        two.set(pair.y, 22)
        two.commit()
        assert pair.values() == [12, 22]
    else:
        refused(blocked.result, "CONFLICT")
        assert pair.values() == [11, 21]


@pytest.mark.parametrize("level", LEVELS)
def test_g1a_what_is_undone_was_never_there(pair, level):
    one, two = pair.begin(level), pair.begin(level)
    one.set(pair.x, 101)
    assert two.get(pair.x) == 10
    one.rollback()
    assert two.get(pair.x) == 10
    two.commit()
    assert pair.values() == [10, 20]


@pytest.mark.parametrize("level", LEVELS)
def test_g1b_nothing_in_between_is_seen(pair, level):
    one, two = pair.begin(level), pair.begin(level)
    one.set(pair.x, 101)
    assert two.get(pair.x) == 10
    one.set(pair.x, 11)
    one.commit()
    assert two.get(pair.x) == (11 if level == RC else 10)
    two.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_g1c_no_circle_of_information(pair, level):
    one, two = pair.begin(level), pair.begin(level)
    one.set(pair.x, 11)
    two.set(pair.y, 22)
    assert one.get(pair.y) == 20
    assert two.get(pair.x) == 10
    finish(level, one, two)


def finish(level, one, two, strict=(SERIALIZABLE,)):
    """Both commit, but at a strict level one of them must not."""
    committing = two.later("CLIENT", "TRANSACTION", "COMMIT")
    outcomes = []
    for commit in (one.commit, committing.result):
        try:
            commit()
            outcomes.append(True)
        except redis.RedisError as error:
            assert str(error).startswith(("CONFLICT", "DEADLOCK", "EXECABORT")), error
            outcomes.append(False)
    assert outcomes.count(True) == 2 if level not in strict else outcomes.count(True) <= 1, outcomes
    return outcomes


@pytest.mark.parametrize("level", LEVELS)
def test_otv_what_was_seen_does_not_vanish(cluster, pair, level):
    one, two, three = (pair.begin(level) for _ in range(3))
    one.set(pair.x, 11)
    one.set(pair.y, 19)
    if level != RC:
        two.get(pair.y)
    blocked = two.later("SET", pair.x, 12)
    waiting(cluster)
    one.commit()
    if level != RC:
        refused(blocked.result, "CONFLICT")
        return
    blocked.result()
    assert three.get(pair.x) == 11
    two.set(pair.y, 18)
    assert three.get(pair.y) == 19
    two.commit()
    assert [three.get(pair.y), three.get(pair.x)] == [18, 12]
    three.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_pmp_keys_that_come_meanwhile(pair, level):
    fresh = keys(pair.x + "fresh", 1)[0]
    one, two = pair.begin(level), pair.begin(level)
    assert one.ask("EXISTS", fresh, pair.y) == 1
    two.set(fresh, 1)
    two.commit()
    assert one.ask("EXISTS", fresh, pair.y) == (2 if level == RC else 1)
    one.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_p4_lost_update(cluster, pair, level):
    one, two = pair.begin(level), pair.begin(level)
    assert [one.get(pair.x), two.get(pair.x)] == [10, 10]
    one.set(pair.x, 11)
    blocked = two.later("SET", pair.x, 12)
    waiting(cluster)
    one.commit()
    if level == RC:
        blocked.result()
        two.commit()
        assert pair.values()[0] == 12
    else:
        refused(blocked.result, "CONFLICT")
        refused(two.commit, "CONFLICT")
        assert pair.values()[0] == 11


@pytest.mark.parametrize("level", LEVELS)
def test_g_single_read_skew(pair, level):
    one, two = pair.begin(level), pair.begin(level)
    assert one.get(pair.x) == 10
    two.set(pair.x, 12)
    two.set(pair.y, 18)
    two.commit()
    assert one.get(pair.y) == (18 if level == RC else 20)
    one.commit()


@pytest.mark.parametrize("level", LEVELS)
def test_g2_item_write_skew(pair, level):
    one, two = pair.begin(level), pair.begin(level)
    for transaction in (one, two):
        assert [transaction.get(pair.x), transaction.get(pair.y)] == [10, 20]
    one.set(pair.x, 11)
    two.set(pair.y, 21)
    finish(level, one, two)


@pytest.mark.parametrize("level", LEVELS)
def test_g2_of_keys_that_are_not_there(pair, level):
    a, b = keys(pair.x + "absent")
    one, two = pair.begin(level), pair.begin(level)
    for transaction in (one, two):
        assert transaction.ask("EXISTS", a, b) == 0
    one.set(a, 1)
    two.set(b, 1)
    finish(level, one, two)


# Locks and deadlocks


def test_two_hundred_clients_on_ten_hot_keys_lose_nothing(cluster):
    """Each adds one to two of the keys, in their order, so that nobody has to give way."""
    names, clients, times = keys(f"hot{time.monotonic_ns()}", 4) * 3, 200, 3
    names = sorted(f"{{{name}}}{number}" for number, name in enumerate(names[:10]))
    failures = []

    def add(number):
        source = random.Random(number)
        try:
            one = Transaction(cluster)
            for _ in range(times):
                one.control("BEGIN", "ISOLATION", RC, "LOCKTIMEOUT", "60000", "IDLE", "0")
                for name in sorted(source.sample(names, 2)):
                    one.ask("INCR", name)
                one.commit()
            one.close()
        except Exception as error:  # Of a thread nobody would hear of it.
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    assert sum(int(value) for value in cluster.client().mget(names) if value) == clients * times * 2


@pytest.mark.parametrize("count", [2, 3])
def test_a_deadlock_costs_the_youngest(cluster, count):
    names = keys(f"dead{time.monotonic_ns()}", count)
    plain = cluster.client()
    plain.mset({name: 0 for name in names})
    circle = []
    for name in names:  # The last one is the youngest.
        circle.append(Transaction(cluster, RC))
        circle[-1].set(name, 1)
        now = time.time_ns() // 10**6  # Ages are told apart by milliseconds.
        wait_until(lambda: time.time_ns() // 10**6 > now + 1, "the next millisecond")
    calls = []
    for position, transaction in enumerate(circle):
        calls.append(transaction.later("SET", names[(position + 1) % count], 2))
    refused(calls[-1].result, "DEADLOCK")
    refused(circle[-1].commit, "DEADLOCK")
    for position in reversed(range(count - 1)):
        assert calls[position].result() == b"OK"
        circle[position].commit()
    for transaction in circle:
        transaction.close()


def test_nowait_and_skip(pair):
    one, two = pair.begin(RC), pair.begin(RC)
    assert one.control("LOCK", "UPDATE", pair.x) == [1]
    refused(lambda: two.control("LOCK", "UPDATE", "NOWAIT", pair.x, pair.y), "LOCKED")
    assert two.control("LOCK", "UPDATE", "SKIP", pair.x, pair.y) == [None, 1]
    refused(lambda: one.control("LOCK", "SHARE", "NOWAIT", pair.y), "LOCKED")
    assert one.get(pair.y) == 20  # Who only reads is not held up.
    two.rollback()
    assert one.control("LOCK", "SHARE", pair.y) == [1]
    three = pair.begin(RC)
    assert three.control("LOCK", "SHARE", "NOWAIT", pair.y) == [1]
    for transaction in (one, three):
        transaction.commit()


def test_a_lock_is_waited_for_no_longer_than_asked(pair):
    one, two = pair.begin(RC), pair.begin(RC, "LOCKTIMEOUT", "50")
    one.set(pair.x, 1)
    two.set(pair.y, 2)
    refused(lambda: two.set(pair.x, 2), "LOCKED")
    two.commit()  # That statement was not done; the transaction goes on.
    one.rollback()
    assert pair.values() == [10, 2]


@pytest.mark.parametrize("level", LEVELS)
def test_random_histories(cluster, level, tmp_path):
    class Client(InteractiveClient):
        LEVEL = level

    load = TransactionLoad(f"open-{level}", cluster.client, clients=10, kind=Client, tags=["a", "b", "c", "d"])
    load.wait_for(400)
    print(load.finish(tmp_path, {RC: "read-committed", SNAPSHOT: "snapshot"}.get(level, "strict-serializable")))


# Savepoints, statements and ends


def test_savepoints(pair):
    one = pair.begin(RC)
    one.set(pair.x, 1)
    one.control("SAVEPOINT", "a")
    one.ask("MSET", pair.x, 2, pair.y, 2)
    one.control("SAVEPOINT", "a")
    one.ask("DEL", pair.x, pair.y)
    assert one.ask("EXISTS", pair.x, pair.y) == 0
    one.control("ROLLBACK", "TO", "a")
    assert [one.get(pair.x), one.get(pair.y)] == [2, 2]
    one.control("RELEASE", "a")
    one.control("ROLLBACK", "TO", "a")
    assert [one.get(pair.x), one.get(pair.y)] == [1, 20]
    refused(lambda: one.control("ROLLBACK", "TO", "b"), "There is no savepoint")
    assert pair.values() == [10, 20]
    one.commit()
    assert pair.values() == [1, 20]


def test_statements_see_their_own(pair):
    one = pair.begin(RC)
    replies = one.session.ask(
        ["INCRBY", pair.x, 5], ["GET", pair.x], ["MULTI"], ["INCR", pair.x], ["INCR", pair.y], ["EXEC"],
        ["HSET", pair.x, "f", "1"], ["MGET", pair.x, pair.y])
    assert replies[:2] == [15, b"15"] and replies[5] == [16, 21]
    assert str(replies[6]).startswith("WRONGTYPE") or "WRONGTYPE" in repr(replies[6])
    assert replies[7] == [b"16", b"21"]
    refused(lambda: one.ask("FLUSHALL"), "ERR", "This")
    refused(lambda: one.ask("WATCH", pair.x), "WATCH", "ERR")
    assert pair.values() == [10, 20]
    one.commit()
    assert pair.values() == [16, 21]


@pytest.mark.parametrize("way", ["close", "reset", "rollback"])
def test_what_is_not_committed_is_not_there(pair, way):
    one = pair.begin(RC)
    one.ask("MSET", pair.x, 1, pair.y, 1)
    if way == "close":
        one.close()
    elif way == "reset":
        one.ask("RESET")
    else:
        one.rollback()
    assert [increment(pair.plain, key) for key in (pair.x, pair.y)] == [11, 21]  # And nothing is locked.


@pytest.mark.parametrize("option", ["IDLE", "TIMEOUT"])
def test_time_outs(pair, option):
    one = pair.begin(RC, option, "300")
    one.set(pair.x, 1)
    assert increment(pair.plain, pair.x) == 11  # When the time is over.
    refused(lambda: one.get(pair.x), "EXECABORT", "The transaction")
    refused(one.commit, "EXECABORT", "The transaction")
    assert pair.values() == [11, 20]


def test_a_gateway_that_dies_leaves_nothing():
    with Cluster("--shards", str(SHARDS)) as cluster:
        x, y = keys("dying")
        cluster.client().mset({x: 1, y: 1})
        one = Transaction(cluster, RC)
        one.ask("MSET", x, 2, y, 2)
        kill(cluster.pids()["resp-gw-1"], signal.SIGKILL)
        cluster.wait_ready()
        plain = cluster.client()
        assert [increment(plain, key) for key in (x, y)] == [2, 2]


def test_a_node_that_dies_ends_the_transaction():
    with Cluster("--shards", str(SHARDS)) as cluster:
        x, y = keys("dying")
        cluster.client().mset({x: 1, y: 1})
        one = Transaction(cluster, RC)
        one.ask("MSET", x, 2, y, 2)
        kill(cluster.pids()["storage-node-1"], signal.SIGKILL)
        cluster.wait_ready()
        refused(lambda: one.set(x, 3), "EXECABORT", "CLUSTERDOWN", "A shard", "The ")
        refused(one.commit, "EXECABORT", "A shard", "The ")
        plain = cluster.client()
        assert [increment(plain, key) for key in (x, y)] == [2, 2]

"""The change feed as a foreign gRPC client sees it: every commit once, in order, also while leaders are killed."""

import os
import random
import signal
import threading

import grpc
import pytest
import redis

from conftest import Cluster, kill, wait_until
from test_grpc import OPTIONS, stubs  # noqa: F401 (a fixture)

NODES = 3
SEED = int(os.environ.get("ORBIT_SEED", "7"))


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", str(NODES), "--shards", "3") as running:
        yield running


class Feed(threading.Thread):
    """A subscriber that goes on where it was, at any node, until it has what was asked of it."""

    def __init__(self, cluster, stubs, position=None, **wanted):
        super().__init__(daemon=True)
        self.cluster, self.wanted = cluster, wanted
        self.messages = stubs("changefeed_pb2")
        self.service = stubs("changefeed_pb2_grpc").ChangeFeedServiceStub
        self.position = position
        self.changes, self.positions, self.errors = [], [], []
        self.call = None
        self.is_over = False

    def connect(self, number):
        names = self.cluster.process(f"storage-node-{number}")["addresses"]
        address = next(name for name in names if name.startswith("unix:"))
        return grpc.insecure_channel(address, OPTIONS)

    def run(self):
        number = 0
        while not self.is_over:
            number = number % NODES + 1
            try:
                with self.connect(number) as channel:
                    self.listen(channel)
            except (grpc.RpcError, StopIteration, KeyError) as error:
                self.errors.append(error)

    def listen(self, channel):
        request = self.messages.SubscribeRequest(**self.wanted)
        if self.position:
            request.after, request.skip = self.position
        self.call = self.service(channel).Subscribe(request)
        for batch in self.call:
            self.changes += batch.changes
            self.position = (batch.resolved, batch.skip)
            self.positions.append((self.position, len(self.changes)))
            if self.is_over:
                return

    def has(self, condition):
        wait_until(lambda: any(condition(change) for change in list(self.changes)), what="a change")

    def finish(self):
        self.is_over = True
        if self.call:
            self.call.cancel()
        self.join(60)
        return self.changes


def subscribed(cluster, stubs, **wanted):  # noqa: F811
    feed = Feed(cluster, stubs, **wanted)
    feed.start()
    wait_until(lambda: feed.positions, what="a first batch")
    return feed


def identity(change):
    return (change.timestamp, change.database, change.key, change.kind, change.value)


def check_order(changes):
    order = [(change.timestamp, change.database, change.key) for change in changes if change.kind != 3]
    assert order == sorted(order)
    assert len(set(order)) == len(order), "a change came twice"


def until_done(call):
    while True:
        try:
            return call()
        except redis.RedisError as error:
            assert any(word in str(error) for word in ("unknown", "lost", "leader", "TRYAGAIN", "Connection")), error


def test_changes_of_strings_hashes_and_databases(three, stubs):  # noqa: F811
    three.wait_ready()
    client = three.client()
    feed = subscribed(three, stubs, old_values=True, prefixes=[b"feed:"])
    client.set("feed:s", "one")
    client.set("feed:s", "two", px=3_600_000)
    client.set("other", "x")
    client.hset("feed:h", mapping={"a": "1", "b": "2"})
    client.hdel("feed:h", "a")
    client.delete("feed:h")
    client.set("feed:e", "soon", px=1)
    big = os.urandom(200_000)
    client.set("feed:big", big)
    client.setrange("feed:big", 70_000, b"written")
    feed.has(lambda change: change.key == b"feed:e" and change.kind == 2)
    client.set("feed:end", "")
    feed.has(lambda change: change.key == b"feed:end")
    changes = feed.finish()
    check_order(changes)
    assert b"other" not in {change.key for change in changes}
    of = {}
    for change in changes:
        of.setdefault(change.key, []).append(change)
    one, two = of[b"feed:s"]
    assert (one.kind, one.type, one.value, one.HasField("old")) == (0, "string", b"one", False)
    assert (two.value, two.old.value, two.old.type) == (b"two", b"one", "string") and two.expires_at_ms
    made, cut, gone = of[b"feed:h"]
    assert {field.name: field.value for field in made.fields} == {b"a": b"1", b"b": b"2"} and made.size == 2
    assert [(field.name, field.removed) for field in cut.fields] == [(b"a", True)]
    assert [(field.name, field.value) for field in cut.old.fields] == [(b"a", b"1")]
    assert gone.kind == 1 and [(field.name, field.value) for field in gone.old.fields] == [(b"b", b"2")]
    first, second = of[b"feed:big"]
    assert b"".join(piece.data for piece in first.pieces) == big and first.size == len(big)
    assert len(second.pieces) == 1 and second.pieces[0].offset == 65536
    assert second.pieces[0].data[70_000 - 65536:][:7] == b"written"
    assert second.old.pieces[0].data == big[65536:131072]
    assert [change.kind for change in of[b"feed:e"]] == [0, 2] and of[b"feed:e"][1].old.value == b"soon"


def test_flush_and_filters(three, stubs):  # noqa: F811
    three.wait_ready()
    client = three.client()
    feed = subscribed(three, stubs, databases=[3], types=["hash"], patterns=[b"f?o*"])
    other = three.client(db=3)
    other.hset("foo:1", "a", "1")
    other.set("foo:2", "a string")
    other.hset("bar", "a", "1")
    client.hset("foo:3", "a", "1")
    other.delete("foo:1")
    other.delete("foo:2")
    other.flushdb()
    other.hset("fxo:end", "a", "1")
    feed.has(lambda change: change.key == b"fxo:end")
    changes = feed.finish()
    found = [(change.kind, change.key) for change in changes]
    assert found[:2] == [(0, b"foo:1"), (1, b"foo:1")] and found[-1] == (0, b"fxo:end")
    assert [kind for kind, _ in found[2:-1]] == [3] * 3, "a flush of each shard"


class Writer(threading.Thread):
    """Sets its own keys to rising numbers, one call at a time, and knows which were acknowledged."""

    def __init__(self, cluster, number):
        super().__init__(daemon=True)
        self.client, self.number = cluster.client(retry=None), number
        self.random = random.Random(SEED + number)
        self.done, self.unknown, self.pairs = {}, set(), {}
        self.count = 0
        self.is_over = False

    def run(self):
        while not self.is_over:
            self.count += 1
            key = f"w{self.number}:{self.random.randrange(6)}".encode()
            value = str(self.count).encode()
            try:
                if self.random.random() < 0.3:
                    # Two keys that are most likely of two shards: one transaction.
                    twin = key + b":twin"
                    self.unknown.add(value)
                    self.client.mset({key: value, twin: value})
                    self.unknown.discard(value)
                    self.done[value] = [key, twin]
                else:
                    self.unknown.add(value)
                    self.client.set(key, value)
                    self.unknown.discard(value)
                    self.done[value] = [key]
            except redis.RedisError:
                pass


def final_state(changes):
    state = {}
    for change in changes:
        if change.kind == 0:
            state[change.key] = change.value
        elif change.kind in (1, 2):
            state.pop(change.key, None)
    return state


def check_writers(writers, changes):
    seen = {}
    for change in changes:
        number, value = int(change.key[1:].split(b":")[0]), change.value
        seen.setdefault((number, value), []).append((change.timestamp, change.key))
    for writer in writers:
        assert writer.done
        for value, keys in writer.done.items():
            told = seen.pop((writer.number, value), [])
            assert sorted(key for _, key in told) == sorted(keys), (writer.number, value, told)
            assert len({timestamp for timestamp, _ in told}) == 1, "a transaction has one timestamp"
        last = {}
        for change in changes:
            if change.key.startswith(b"w%d:" % writer.number):
                value = int(change.value)
                # What is unknown may come late, but never twice and never below what was acknowledged after it.
                if change.value not in writer.unknown:
                    assert value > last.get(change.key, 0)
                    last[change.key] = value
    for (number, value), told in seen.items():
        assert value in writers[number].unknown, (number, value, told)
        assert len({timestamp for timestamp, _ in told}) == 1


@pytest.mark.faults
def test_leaders_are_killed_under_writes(three, stubs):  # noqa: F811
    three.wait_ready()
    client = three.client()
    feeds = [subscribed(three, stubs, prefixes=[b"w"]) for _ in range(2)]
    writers = [Writer(three, number) for number in range(4)]
    for writer in writers:
        writer.start()

    def goes_on():
        counts = [len(writer.done) for writer in writers]
        wait_until(lambda: all(len(w.done) > c + 40 for w, c in zip(writers, counts)), what="writes")

    for number in (1, 2, 3):
        goes_on()
        kill(three.pids()[f"storage-node-{number}"], signal.SIGKILL)
        goes_on()
        three.wait_ready()
    goes_on()
    for writer in writers:
        writer.is_over = True
    for writer in writers:
        writer.join(300)
    three.wait_ready()
    until_done(lambda: client.set("w9:end", "1"))
    for feed in feeds:
        feed.has(lambda change: change.key == b"w9:end")
    told = [feed.finish() for feed in feeds]
    for changes in told:
        check_order(changes)
    changes = [change for change in told[0] if not change.key.startswith(b"w9:")]
    check_writers(writers, changes)
    keys = sorted({change.key for change in changes})
    assert final_state(changes) == dict(zip(keys, until_done(lambda: client.mget(keys))))
    # Both have seen the same, though each broke off elsewhere.
    start = max(changes[0].timestamp for changes in told)
    cut = [[identity(change) for change in changes if change.timestamp >= start] for changes in told]
    assert cut[0] == cut[1]
    again_from_anywhere(three, stubs, feeds[0])


def again_from_anywhere(cluster, stubs, feed):  # noqa: F811
    """Whoever begins at a position that the feed had gets exactly what the feed got after it."""
    source = random.Random(SEED)
    whole = [identity(change) for change in feed.changes]
    for position, count in source.sample(feed.positions, min(5, len(feed.positions))):
        again = subscribed(cluster, stubs, position=position, prefixes=[b"w"])
        again.has(lambda change: change.key == b"w9:end")
        assert [identity(change) for change in again.finish()] == whole[count:]


def test_a_slow_subscriber_costs_nothing_and_misses_nothing(three, stubs):  # noqa: F811
    three.wait_ready()
    client = three.client()
    feed = Feed(three, stubs, prefixes=[b"slow:"])
    with feed.connect(1) as channel:
        call = feed.service(channel).Subscribe(feed.messages.SubscribeRequest(prefixes=[b"slow:"]))
        batches = iter(call)
        next(batches)
        value = os.urandom(50_000)
        for number in range(600):
            until_done(lambda: client.set(f"slow:{number % 7}", value + str(number).encode()))
        got = []
        for batch in batches:
            got += [int(change.value[len(value):]) for change in batch.changes]
            if 599 in got:
                break
        assert got == list(range(600))
        call.cancel()


def test_what_cannot_be_served_is_refused(three, stubs):  # noqa: F811
    three.wait_ready()
    messages = stubs("changefeed_pb2")
    feed = Feed(three, stubs)
    code = grpc.StatusCode
    with feed.connect(1) as channel:
        service = feed.service(channel)
        for request, expected in [
            (dict(databases=[16]), code.INVALID_ARGUMENT), (dict(types=["list"]), code.INVALID_ARGUMENT),
            (dict(shard=77), code.INVALID_ARGUMENT), (dict(skip=1), code.INVALID_ARGUMENT),
            (dict(prefixes=[b"x"] * 2000), code.RESOURCE_EXHAUSTED),
        ]:
            with pytest.raises(grpc.RpcError) as failure:
                next(service.Subscribe(messages.SubscribeRequest(**request)))
            assert failure.value.code() == expected, request
        raw = channel.unary_stream("/orbit.v1.ChangeFeedService/Subscribe")
        source = random.Random(SEED)
        for _ in range(200):
            call = raw(bytes(source.randrange(256) for _ in range(source.randrange(40))), timeout=2)
            try:
                next(call)
                call.cancel()
            except grpc.RpcError as error:
                assert error.code() not in (code.INTERNAL, code.UNKNOWN), error
    client = three.client()
    feed = subscribed(three, stubs, prefixes=[b"alive"])
    client.set("alive", "1")
    feed.has(lambda change: change.key == b"alive")
    feed.finish()

"""Reads below strong consistency on three nodes: followers answer what they can prove, and nothing else."""

import os
import signal
import threading
import time

import grpc
import pytest
import redis

from conftest import PATIENCE, Cluster, wait_until
from test_grpc import OPTIONS, stubs  # noqa: F401 (a fixture)
from test_grpc_node import GET, INCREMENT_BY, SET, slot

NODES = ("storage-node-1", "storage-node-2", "storage-node-3")
NOT_LEADER, TOO_STALE = 13, 27
STRONG, BOUNDED, ANY = range(3)


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", "3") as running:
        yield running


class Node:
    """A storage node as a foreign gRPC client sees it."""

    def __init__(self, cluster, name, stubs):
        row = cluster.process(name)
        address = next(address for address in row["addresses"] if address.startswith("unix:"))
        self.pid = row["pid"]
        self.messages = stubs("invocation_pb2")
        self.channel = grpc.insecure_channel(address, OPTIONS)
        self.invoke = stubs("invocation_pb2_grpc").InvocationServiceStub(self.channel).Invoke

    def ask(self, method, key, arguments=(), numbers=(), bookmark=0, **terms):
        """The batch's bookmark and the one reply."""
        batch = self.messages.InvocationBatch(session=5, bookmark=bookmark)
        call = self.messages.ActorCall(method=method, key=key, arguments=arguments, numbers=numbers)
        batch.invocations.add(id=1, connection=1, slot=slot(key), call=call, **terms)
        answer = self.invoke(batch, timeout=60)
        return answer.bookmark, answer.replies[0]

    def get(self, key, level=STRONG, **terms):
        """The value, or the error's code as a negative number."""
        reply = self.ask(GET, key, consistency=level, **terms)[1]
        return -reply.error.code if reply.kind == self.messages.Reply.ERROR else reply.data


class Replicas:
    """The nodes, by who leads the shard of a key."""

    def __init__(self, cluster, stubs, key):
        self.nodes = [Node(cluster, name, stubs) for name in NODES]
        self.key = key
        self.look()

    def look(self, among=None):
        """Finds the leader; waits until there is one."""

        def leading():
            return next((n for n in among or self.nodes if isinstance(n.get(self.key), bytes)), None)

        self.leader = wait_until(leading, what="a leader")
        self.followers = [node for node in self.nodes if node is not self.leader]

    def close(self):
        for node in self.nodes:
            node.channel.close()


@pytest.fixture
def replicas(three, stubs, request):  # noqa: F811
    found = Replicas(three, stubs, f"replica:{request.node.name}".encode())
    yield found
    found.close()


def test_followers_answer_what_they_can_prove(replicas):
    key, follower = replicas.key, replicas.followers[0]
    replicas.leader.ask(SET, key, [b"1"])
    for node in replicas.nodes:
        wait_until(lambda: node.get(key, ANY) == b"1", what="the entry at every replica")
    assert follower.get(key) == -NOT_LEADER
    assert follower.get(key, BOUNDED, staleness_ms=1) == -TOO_STALE
    # An idle group says nothing after a while: a strong read wakes it.
    wait_until(lambda: replicas.leader.get(key) and follower.get(key, BOUNDED) == b"1", what="a closed timestamp")
    assert replicas.leader.get(key, BOUNDED, staleness_ms=1) == b"1"
    for level in (BOUNDED, ANY):
        assert follower.ask(SET, key, [b"2"], consistency=level)[1].kind == follower.messages.Reply.ERROR


def test_nothing_older_than_bookmark_or_position(replicas):
    key, served, refused, history = replicas.key, 0, 0, []
    end = time.monotonic() + PATIENCE
    while served < 200 or refused < 200:
        assert time.monotonic() < end, (served, refused)
        bookmark, reply = replicas.leader.ask(INCREMENT_BY, key, numbers=[1])
        position = replicas.leader.ask(GET, key, consistency=BOUNDED)[1].position
        assert position > 0
        history.append((reply.integer, bookmark, position))
        # What was seen just now, and what was seen a while ago; said by the batch, and by the call.
        for count, bookmark, position in (history[-1], history[-2:][0], history[len(history) // 2]):
            for node in replicas.followers:
                for terms in ({"bookmark": bookmark}, {"position": position}):
                    value = node.get(key, BOUNDED, **terms)
                    assert value == -TOO_STALE or int(value) >= count, (terms, value, count)
                    served += value != -TOO_STALE
                    refused += value == -TOO_STALE


def test_a_leader_that_stands_still(replicas):
    """Any goes on, bounded ends with the bound, strong is never stale."""
    key, old = replicas.key, replicas.leader
    old.ask(SET, key, [b"before"])
    follower = replicas.followers[0]
    wait_until(lambda: old.get(key) and follower.get(key, BOUNDED) == b"before", what="a closed timestamp")
    os.kill(old.pid, signal.SIGSTOP)
    try:
        assert follower.get(key, ANY) == b"before"
        replicas.look(among=replicas.followers)
        replicas.leader.ask(SET, key, [b"after"])
        other = next(node for node in replicas.followers if node is not old)
        wait_until(lambda: replicas.leader.get(key) and other.get(key, BOUNDED, staleness_ms=2000) == b"after",
                   what="the new leader's closed timestamp")
    finally:
        os.kill(old.pid, signal.SIGCONT)
    # It was the leader, as far as it knows; whatever it answers now is no older than the write.
    assert old.get(key) != b"before"
    assert old.get(key, BOUNDED, staleness_ms=300) != b"before"
    wait_until(lambda: old.get(key, ANY) == b"after", what="the entry at the node that stood still")


def test_bounded_ends_with_the_bound(replicas):
    """With two of three standing still nobody leads, and nobody can say how fresh the third is."""
    key, left = replicas.key, replicas.followers[0]
    replicas.leader.ask(SET, key, [b"v"])
    wait_until(lambda: replicas.leader.get(key) and left.get(key, BOUNDED) == b"v", what="a closed timestamp")
    still = [node for node in replicas.nodes if node is not left]
    try:
        for node in still:
            os.kill(node.pid, signal.SIGSTOP)
        start = time.monotonic()
        sent = start
        while left.get(key, BOUNDED, staleness_ms=1500) == b"v":
            # What was asked after the bound must not be answered; when an answer arrives is the machine's affair.
            assert sent - start < 1.5, "answers after the bound"
            sent = time.monotonic()
        assert left.get(key, ANY) == b"v"
    finally:
        for node in still:
            os.kill(node.pid, signal.SIGCONT)
    replicas.look()


def replica_reads(cluster):
    """Reads that followers have answered, over all nodes."""
    total = 0
    for name in NODES:
        process = cluster.process(name)
        total += process["details"]["replicaReads"]
    return total


def test_readonly_reads_its_own_writes_and_never_backwards(three):
    """READONLY beside somebody who writes: no value falls, and what the client wrote itself is there."""
    stop = threading.Event()

    def write():
        client = three.client()
        while not stop.is_set():
            client.incr("readonly:shared")

    writer = threading.Thread(target=write, daemon=True)
    client = three.client(decode_responses=True)
    connection = client.connection_pool.get_connection("READONLY")

    def send(*words):
        connection.send_command(*words)
        return connection.read_response()

    assert send("SET", "readonly:shared", "0") == "OK"
    before = replica_reads(three)
    assert send("READONLY") == "OK"
    writer.start()
    last = 0

    def look(own):
        nonlocal last
        assert int(send("GET", "readonly:own")) >= own
        value = int(send("GET", "readonly:shared"))
        assert value >= last
        last = value

    try:
        for number in range(3000):
            if number % 300 == 0:
                assert send("SET", "readonly:own", str(number)) == "OK"
            look(number - number % 300)

        def is_answered_by_followers():
            for _ in range(100):
                look(2700)
            return replica_reads(three) > before

        # For a moment after its own write a client is answered by the leader: on a fast machine that was all the time.
        wait_until(is_answered_by_followers)
    finally:
        stop.set()
        writer.join()
    assert send("READWRITE") == "OK"
    before = replica_reads(three)
    for _ in range(50):
        send("GET", "readonly:shared")
    assert replica_reads(three) == before
    client.connection_pool.release(connection)


def test_readonly_goes_on_without_the_leader(three, replicas):
    key = replicas.key.decode()
    client = three.client(decode_responses=True, single_connection_client=True)
    client.set(key, "v")
    client.execute_command("READONLY")

    def is_answered_by_a_follower():
        before = replica_reads(three)
        client.get(key)
        replicas.leader.get(replicas.key)
        return replica_reads(three) > before

    wait_until(is_answered_by_a_follower, what="a read from a replica")
    os.kill(replicas.leader.pid, signal.SIGSTOP)
    try:
        slowest = 0.0
        end = time.monotonic() + 4
        while time.monotonic() < end:
            start = time.monotonic()
            assert client.get(key) == "v"
            slowest = max(slowest, time.monotonic() - start)
    finally:
        os.kill(replicas.leader.pid, signal.SIGCONT)
    print(f"slowest read {slowest * 1000:.0f} ms")
    client.close()

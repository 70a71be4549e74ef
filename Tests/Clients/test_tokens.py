"""Calls with idempotency tokens: made again as often as one likes, they are executed once, whatever dies meanwhile."""

import queue
import signal

import grpc
import pytest

from conftest import Cluster, kill, wait_until
from test_grpc import OPTIONS, stubs  # noqa: F401 (a fixture)
from test_grpc_node import GET, INCREMENT_BY, SET, addresses, slot

# Numbers of Shared/Base/Errors.swift.
INVALID_ARGUMENT, NOT_LEADER, UNAVAILABLE, OUTCOME_UNKNOWN, BUSY = 7, 13, 16, 18, 23
APPEND, GET_DELETE, ALREADY_EXECUTED = 36, 34, 26
WINDOW = 64


class Session:
    """A client that asks whichever node leads, and asks again until it knows."""

    def __init__(self, stubs, addresses, session):
        self.messages = stubs("invocation_pb2")
        self.session = session
        self.channels = [grpc.insecure_channel(address, OPTIONS) for address in addresses]
        service = stubs("invocation_pb2_grpc").InvocationServiceStub
        self.services = [service(channel) for channel in self.channels]
        self.leader = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for channel in self.channels:
            channel.close()

    def batch(self, sequence, method, key, arguments=(), numbers=(), **terms):
        batch = self.messages.InvocationBatch(session=terms.pop("session", self.session))
        call = self.messages.ActorCall(method=method, key=key, arguments=arguments, numbers=numbers)
        terms = {"slot": slot(key), "idempotent": True, **terms}
        batch.invocations.add(id=sequence, connection=1, call=call, **terms)
        return batch

    def ask(self, *call, **terms):
        """One reply of the node that led when it was last known."""
        return self.services[self.leader].Invoke(self.batch(*call, **terms), timeout=60).replies[0]

    def insist(self, *call):
        """The reply to a call that is made until its outcome is known."""
        return wait_until(lambda: self.attempt(*call), what=f"the outcome of {call}")

    def attempt(self, *call):
        try:
            reply = self.services[self.leader].Invoke(self.batch(*call), timeout=20).replies[0]
            if reply.error.code not in (NOT_LEADER, UNAVAILABLE, OUTCOME_UNKNOWN, BUSY):
                return reply
        except grpc.RpcError:
            pass
        self.leader = (self.leader + 1) % len(self.services)
        return None

    def increment(self, sequence, key):
        return self.insist(sequence, INCREMENT_BY, key, [], [1])

    def begin(self, *call):
        """Makes a call whose outcome nobody waits for."""
        return self.services[self.leader].Invoke.future(self.batch(*call), timeout=60)


def count_through(session, sequence, interrupt):
    """Counts on by 50, then by 5 during which `interrupt` runs, and nobody is told which of those are done: asked
    again, each was counted once, and so were earlier ones. Gives the last sequence."""
    for _ in range(50):
        sequence += 1
        assert session.increment(sequence, b"n").integer == sequence
    begun = [session.begin(sequence + 1 + number, INCREMENT_BY, b"n", [], [1]) for number in range(5)]
    interrupt()
    assert all(call.exception() or call.result() for call in begun)
    replies = [session.increment(sequence + 1 + number, b"n").integer for number in range(5)]
    sequence += 5
    assert sorted(replies) == list(range(sequence - 4, sequence + 1))
    for old in range(sequence - 20, sequence - 5):
        assert session.increment(old, b"n").integer == old
    return sequence


def sockets(cluster, nodes):
    found = [addresses_of(cluster, f"storage-node-{number}") for number in range(1, nodes + 1)]
    return [next(address for address in all if address.startswith("unix:")) for all in found]


def addresses_of(cluster, node):
    return cluster.process(node)["addresses"]


@pytest.fixture(scope="module")
def node(cluster, stubs):
    """A session at the node of the cluster that all tests use."""
    address = next(address for address in addresses(cluster) if address.startswith("unix:"))
    with Session(stubs, [address], session=0x70CE) as session:
        yield session


def test_a_token_is_good_for_one_execution(node):
    for _ in range(3):
        assert node.ask(1, INCREMENT_BY, b"token:once", [], [5]).integer == 5
    # An error is an outcome, too.
    for _ in range(2):
        assert node.ask(2, INCREMENT_BY, b"token:once", [], [2**63 - 1]).kind == node.messages.Reply.ERROR
        assert node.ask(3, SET, b"token:once", [b"text"]).kind == node.messages.Reply.OK
    assert node.ask(4, GET, b"token:once").data == b"text"


def test_the_stream_takes_tokens(node):
    def ask(*batches):
        outgoing = queue.SimpleQueue()
        for batch in (*batches, None):
            outgoing.put(batch)
        answers = node.services[0].Stream(iter(outgoing.get, None), timeout=60)
        return sorted((reply.id, reply.integer) for answer in answers for reply in answer.replies)

    calls = [node.batch(100 + number, INCREMENT_BY, b"token:stream", [], [1]) for number in range(50)]
    expected = [(100 + number, number + 1) for number in range(50)]
    assert ask(*calls) == expected
    assert ask(*calls) == expected
    # Sent twice before the first is answered, and on two streams.
    twice = node.batch(200, INCREMENT_BY, b"token:stream", [], [1])
    assert ask(twice, twice, twice) == [(200, 51)] * 3
    assert node.ask(201, GET, b"token:stream").data == b"51"


def test_a_token_of_another_call_is_refused(node):
    assert node.ask(300, APPEND, b"token:other", [b"a"]).integer == 1
    for method, arguments in ((APPEND, [b"b"]), (SET, [b"a"]), (APPEND, [b"a", b""])):
        assert node.ask(300, method, b"token:other", arguments).error.code == INVALID_ARGUMENT
    assert node.ask(300, APPEND, b"token:other", [b"a"], principal="ada").error.code == INVALID_ARGUMENT
    assert node.ask(300, APPEND, b"token:other", [b"a"], deadline_ms=60_000, trace=bytes(25)).integer == 1
    assert node.ask(301, GET, b"token:other").data == b"a"


def test_a_token_that_is_none_is_refused(node):
    for sequence, terms in ((0, {}), (400, {"session": 0}), (400, {"slot": slot(b"elsewhere")})):
        assert node.ask(sequence, SET, b"token:none", [b"x"], **terms).error.code == INVALID_ARGUMENT, terms
    assert node.ask(401, GET, b"token:none").kind == node.messages.Reply.NULL


def test_a_token_below_the_window_is_refused(node):
    key = b"token:window"
    for sequence in range(1000, 1000 + WINDOW + 10):
        assert node.ask(sequence, INCREMENT_BY, key, [], [1], session=77).integer == sequence - 999
    for sequence in (1, 999, 1000, 1009):
        assert node.ask(sequence, INCREMENT_BY, key, [], [1], session=77).error.code == OUTCOME_UNKNOWN
    for sequence in (1010, 1000 + WINDOW + 9):
        assert node.ask(sequence, INCREMENT_BY, key, [], [1], session=77).integer == sequence - 999


def test_a_large_reply_is_not_kept(node):
    node.ask(500, SET, b"token:large", [b"x" * 5000])
    assert node.ask(501, GET_DELETE, b"token:large").data == b"x" * 5000
    node.ask(502, SET, b"token:large", [b"y"])
    assert node.ask(501, GET_DELETE, b"token:large").error.code == ALREADY_EXECUTED
    assert node.ask(503, GET, b"token:large").data == b"y"


def test_a_session_that_nobody_uses_is_forgotten(stubs):
    cluster = Cluster()
    cluster.environment["ORBIT_TOKEN_RETENTION"] = "1s"
    with cluster, Session(stubs, sockets(cluster, 1), session=5) as session:
        cluster.wait_ready()
        assert session.increment(1, b"n").integer == 1

        def is_executed_again():
            value = session.increment(1, b"n").integer
            assert value in (1, 2)
            return value == 2

        wait_until(is_executed_again, what="the end of the session")


def test_a_node_that_is_killed_remembers(stubs):
    with Cluster() as cluster, Session(stubs, sockets(cluster, 1), session=6) as session:
        cluster.wait_ready()
        sequence = 0
        for _ in range(4):
            pid = cluster.process("storage-node-1")["pid"]
            sequence = count_through(session, sequence, lambda: kill(pid, signal.SIGKILL))
        assert session.insist(sequence + 1, GET, b"n").data == str(sequence).encode()


def test_another_replica_remembers(stubs):
    with Cluster("--nodes", "3") as cluster, Session(stubs, sockets(cluster, 3), session=7) as session:
        cluster.wait_ready()
        wait_until(
            lambda: all(len(row["replicas"]) == 3 and row["settled"] for row in cluster.coordinator()["shards"]),
            what="three replicas")
        sequence = 0
        for isKilled in (True, False, True, False):
            leader, node, pid = None, None, None

            def interrupt():
                nonlocal leader, node, pid
                leader, node = session.leader, f"storage-node-{session.leader + 1}"
                pid = cluster.process(node)["pid"]
                if isKilled:
                    kill(pid, signal.SIGKILL)
                else:
                    cluster.orbit("stop", node)

            sequence = count_through(session, sequence, interrupt)
            if not isKilled:
                assert session.leader != leader
                cluster.orbit("start", node)
            wait_until(lambda: cluster.process(node).get("pid") not in (None, pid), what="the node's restart")
            cluster.wait_ready()
        assert session.insist(sequence + 1, GET, b"n").data == str(sequence).encode()

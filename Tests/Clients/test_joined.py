"""Transactions that several connections share by a token: Redis clients of two gateways, and gRPC clients of nodes."""

import pathlib
import re
import signal
import subprocess
import threading

import grpc
import pytest
import redis

from conftest import BIN, Cluster, kill, wait_until
from faults import View, ask_admin, slot
from histories import Session
from test_grpc import OPTIONS, stubs  # noqa: F401 (a fixture)
from test_grpc_node import GET, INCREMENT_BY, SET
from test_interactive import Transaction, increment, refused

NODES = 3
TOKEN = re.compile(rb"^([1-9][0-9]*)-[0-9a-f]{32}$")


class Pair:
    """A cluster with two gateways."""

    def __init__(self):
        self.cluster = Cluster("--nodes", str(NODES), "--shards", str(NODES))
        self.gateway = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        self.cluster.start()
        self.run = pathlib.Path(self.cluster.data, "run")
        self.second = f"{self.run}/g2"
        coordinators = ",".join(f"unix:{self.run}/c{number}" for number in range(1, NODES + 1))
        words = ["--listen", f"unix:{self.second}", "--coordinator", coordinators]
        self.gateway = subprocess.Popen(
            [str(BIN / "resp-gw"), *words, "--admin", f"unix:{self.run}/g2.admin"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.cluster.environment)
        self.view = View(self.cluster.data, NODES)
        self.view.wait_led()
        wait_until(lambda: ask_admin(f"{self.run}/g2.admin", "/readyz") is not None, "the second gateway")

    def close(self):
        if self.gateway:
            self.gateway.kill()
            self.gateway.wait()
        self.cluster.close()

    @property
    def client(self):
        return self.cluster.client

    def other(self, **more):
        """A client of the second gateway."""
        options = {"username": "orbit", "password": self.cluster.password, "socket_timeout": 60, "protocol": 2, **more}
        return redis.Redis(unix_socket_path=self.second, **options)

    def keys(self, name):
        """One on each shard."""
        found = {}
        for number in range(1000):
            found.setdefault(self.view.shard_of(f"{name}{number}"), f"{name}{number}")
        return [found[shard] for shard in sorted(found)]

    def metric(self, name):
        """Its sum over the nodes."""
        total = 0
        for number in range(1, NODES + 1):
            page = ask_admin(self.run / f"n{number}.admin", "/metrics") or b""
            total += sum(float(line.split()[1]) for line in page.decode().splitlines() if line.startswith(name + " "))
        return total


@pytest.fixture(scope="module")
def pair():
    made = Pair()
    yield made
    made.close()


class Joining(Transaction):
    """A connection of some gateway, with or without a transaction on it."""

    def __init__(self, connect, *begin):
        self.session = Session(connect)
        if begin:
            self.control("BEGIN", *begin)

    def joined(self, other):
        assert self.control("JOIN", other.control("ID")) == b"OK"
        return self

    def members(self):
        info = self.control("INFO")
        return info[info.index(b"members") + 1]


@pytest.fixture
def two(pair):
    """Two connections on two gateways in one transaction, and a third outside."""
    one, two = Joining(pair.client, "ISOLATION", "READ-COMMITTED"), Joining(pair.other)
    two.joined(one)
    yield one, two
    one.close()
    two.close()


def test_what_one_does_the_other_sees_and_nobody_else(pair, two):
    one, other = two
    x, y, z = pair.keys("seen")
    plain = pair.client()
    one.set(x, 1)
    other.ask("MSET", y, 2, z, 3)
    assert [one.get(y), other.get(x)] == [2, 1]
    assert plain.mget(x, y, z) == [None] * 3
    one.control("SAVEPOINT", "a")
    other.set(x, 5)
    other.control("ROLLBACK", "TO", "a")
    assert one.get(x) == 1
    assert one.members() == 2
    other.commit()
    assert plain.mget(x, y, z) == [b"1", b"2", b"3"]
    assert "committed by another" in refused(lambda: one.set(x, 9), "EXECABORT", "The transaction")
    assert "committed by another" in refused(one.commit, "EXECABORT", "The transaction")
    one.set(x, 7)  # Outside: the end has been heard of.
    assert plain.get(x) == b"7"


def test_rollback_by_one_is_for_all(pair, two):
    one, other = two
    x = pair.keys("undone")[0]
    other.set(x, 1)
    one.rollback()
    assert "rolled back" in refused(lambda: other.get(x), "EXECABORT", "The transaction")
    assert other.control("ROLLBACK") == b"OK"
    assert increment(pair.client(), x) == 1


@pytest.mark.parametrize("way", ["LEAVE", "RESET", "close"])
def test_who_leaves_ends_nothing_while_others_are_there(pair, two, way):
    one, other = two
    x = pair.keys("left" + way)[0]
    one.set(x, 1)
    if way == "LEAVE":
        assert one.control("LEAVE") == b"OK"
        refused(lambda: one.control("INFO"), "NOTXN", "There is no")
    elif way == "RESET":
        one.ask("RESET")
    else:
        one.close()
    wait_until(lambda: other.members() == 1, "the member's leaving")
    assert other.get(x) == 1
    assert pair.client().get(x) is None
    other.commit()
    assert pair.client().get(x) == b"1"


def test_the_last_one_to_leave_takes_it_along(pair, two):
    one, other = two
    x = pair.keys("last")[0]
    one.set(x, 5)
    token = one.control("ID")
    one.control("LEAVE")
    other.control("LEAVE")
    assert increment(pair.client(), x) == 1
    assert "rolled back" in refused(lambda: one.control("JOIN", token), "EXECABORT", "The transaction")


def test_both_commit_at_once(pair):
    """Once, or not at all."""
    x, y, z = pair.keys("raced")
    for number in range(10):
        one, other = Joining(pair.client, "ISOLATION", "SERIALIZABLE"), Joining(pair.other)
        other.joined(one)
        one.ask("INCR", x)
        other.ask("INCR", y)
        calls = [connection.later("CLIENT", "TRANSACTION", "COMMIT") for connection in (one, other)]
        outcomes = []
        for call in calls:
            try:
                outcomes.append(call.result())
            except redis.RedisError as error:
                outcomes.append(str(error))
        assert sorted(outcome == b"OK" for outcome in outcomes) == [False, True], outcomes
        assert any("committed by another" in str(outcome) for outcome in outcomes)
        for connection in (one, other):
            connection.close()
        assert [int(value) for value in pair.client().mget(x, y)] == [number + 1] * 2


def test_many_statements_of_many_connections(pair):
    """They are done one after the other: nothing is lost, whoever sends how much."""
    x, y, z = pair.keys("crowd")
    first = Joining(pair.client, "ISOLATION", "READ-COMMITTED")
    token = first.control("ID")
    assert TOKEN.match(token)
    failures = []

    def work(number):
        try:
            mine = Joining(pair.other if number % 2 else pair.client)
            assert mine.control("JOIN", token) == b"OK"
            for reply in mine.session.ask(*([["INCR", key] for key in (x, y, z)] * 20)):
                assert isinstance(reply, int), reply
            assert mine.control("LEAVE") == b"OK"
            mine.close()
        except Exception as error:  # Of a thread nobody would hear of it.
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    first.commit()
    assert pair.client().mget(x, y, z) == [b"160"] * 3
    first.close()


def test_tokens_that_are_none_and_other_peoples(pair, two):
    one, _ = two
    token = one.control("ID").decode()
    home, number = token.split("-")
    stranger = Joining(pair.other)
    for word in ["", "x", token + "0", token.upper() if token.upper() != token else "-", "-" + number, "0" + token]:
        refused(lambda: stranger.control("JOIN", word), "ERR", "That is no token")
    guess = number[:-1] + ("0" if number[-1] != "0" else "1")
    refused(lambda: stranger.control("JOIN", f"{home}-{guess}"), "NOTXN", "There is no such")
    elsewhere = int(home) % NODES + 1
    refused(lambda: stranger.control("JOIN", f"{elsewhere}-{number}"), "NOTXN", "There is no such")
    refused(lambda: stranger.control("JOIN", f"4000000000-{number}"), "EXECABORT", "The transaction's home")
    pair.client().execute_command("ACL", "SETUSER", "stranger", "on", ">secret", "~*", "+@all")
    try:
        wait_until(lambda: stranger_may_log_in(stranger), "the new user")
        refused(lambda: stranger.control("JOIN", token), "NOPERM", "The transaction is another")
        refused(lambda: stranger.control("ID"), "NOTXN", "There is no transaction")
    finally:
        pair.client().execute_command("ACL", "DELUSER", "stranger")
    one.commit()
    stranger.close()


def stranger_may_log_in(stranger):
    try:
        return stranger.ask("AUTH", "stranger", "secret") == b"OK"
    except redis.AuthenticationError:
        return False


def test_read_only_and_the_past(pair):
    x = pair.keys("past")[0]
    plain = pair.client()
    plain.set(x, 1)
    moment = plain.execute_command("CLIENT", "ASOF", "NOW")
    plain.execute_command("CLIENT", "ASOF", "OFF")
    plain.set(x, 2)
    for words, seen in ((["READONLY"], 2), (["ASOF", str(moment)], 1)):
        one, other = Joining(pair.client, *words), Joining(pair.other)
        other.joined(one)
        assert [one.get(x), other.get(x)] == [seen, seen]
        refused(lambda: other.set(x, 3), "READONLY", "The transaction is read-only")
        assert other.get(x) == seen
        one.commit()
        one.close()
        other.close()
    refused(lambda: Joining(pair.client, "ASOF", str(2**62)), "ERR", "that time has not come")
    assert plain.get(x) == b"2"


def test_the_home_dies(pair):
    """The transaction is gone; nothing of it was done, and nothing is locked."""
    keys = pair.keys("dead")
    one, other = Joining(pair.client, "ISOLATION", "SERIALIZABLE"), Joining(pair.other)
    one.ask("MSET", *[word for key in keys for word in (key, 5)])
    other.joined(one)
    other.ask("INCR", keys[1])
    home = pair.view.leader(pair.view.shard_of(keys[0]))
    before = pair.cluster.pids()
    kill(before[f"storage-node-{home}"], signal.SIGKILL)
    wait_until(lambda: pair.cluster.pids().get(f"storage-node-{home}") != before[f"storage-node-{home}"], "a restart")
    pair.cluster.wait_ready()
    pair.view.wait_led()
    for connection in (one, other):
        refused(lambda: connection.set(keys[0], 6), "EXECABORT", "The transaction's home")
        refused(connection.commit, "EXECABORT", "The transaction's home")
        connection.close()
    assert [increment(pair.client(), key) for key in keys] == [1] * len(keys)
    wait_until(lambda: pair.metric("orbit_home_transactions") == 0, "the end of all transactions")


class Service:
    """TransactionService of every node, over their Unix sockets."""

    def __init__(self, stubs, run):
        self.messages, self.calls = stubs("transaction_pb2"), stubs("invocation_pb2")
        stub = stubs("transaction_pb2_grpc").TransactionServiceStub
        self.channels = {n: grpc.insecure_channel(f"unix:{run}/n{n}", OPTIONS) for n in range(1, NODES + 1)}
        self.nodes = {number: stub(channel) for number, channel in self.channels.items()}

    def close(self):
        for channel in self.channels.values():
            channel.close()

    def named(self, token, **more):
        return self.messages.TransactionRequest(token=token, principal="orbit", **more)

    def find(self, token):
        """The node whose token it is; the others say which it is."""
        homes = set()
        for node in self.nodes.values():
            try:
                node.Status(self.named(token), timeout=60)
                found = node
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error
                homes.add(dict(error.trailing_metadata())["orbit-home-node"])
        assert homes == {token.split("-")[0]}
        return found

    def execute(self, node, token, *calls, **more):
        request = self.messages.ExecuteTransactionRequest(token=token, principal="orbit", **more)
        for method, key, arguments, numbers in calls:
            share = request.shares.add(slot=slot(key))
            share.calls.calls.add(method=method, key=key.encode(), arguments=arguments, numbers=numbers)
        return [batch.replies[0] for batch in node.Execute(request, timeout=60).replies]


@pytest.fixture
def service(pair, stubs):
    made = Service(stubs, pair.run)
    yield made
    made.close()


def test_a_grpc_client_joins_a_redis_client(pair, two, service):
    one, other = two
    x, y, z = pair.keys("grpc")
    one.set(x, 1)
    token = one.control("ID").decode()
    node = service.find(token)
    replies = service.execute(
        node, token, (GET, x, [], []), (SET, y, [b"2"], []), (INCREMENT_BY, x, [], [5]), (GET, z, [], []))
    assert (replies[0].data, replies[2].integer) == (b"1", 6)
    assert [one.get(x), other.get(y)] == [6, 2]
    assert pair.client().mget(x, y) == [None, None]
    status = node.Commit(service.named(token), timeout=60)
    assert status.state == service.messages.TRANSACTION_COMMITTED
    assert pair.client().mget(x, y) == [b"6", b"2"]
    assert "committed by another" in refused(lambda: other.get(x), "EXECABORT", "The transaction")


def test_a_redis_client_joins_a_grpc_client(pair, service):
    x, y, z = pair.keys("begun")
    node = service.nodes[2]
    options = service.calls.TransactionOptions(isolation=service.calls.SERIALIZABLE)
    token = node.Begin(
        service.messages.BeginTransactionRequest(principal="orbit", options=options, deferrable=True), timeout=60).token
    assert TOKEN.match(token.encode())
    service.execute(service.find(token), token, (SET, x, [b"1"], []), (SET, y, [b"1"], []))
    one = Joining(pair.other)
    assert one.control("JOIN", token) == b"OK"
    named = service.messages.SavepointRequest(token=token, principal="orbit", name=b"a")
    home = service.find(token)
    home.Savepoint(named, timeout=60)
    one.ask("DEL", x, y)
    status = home.RollbackTo(named, timeout=60)
    assert (list(status.savepoints), status.members) == ([b"a"], 1)
    assert [one.get(x), one.get(y)] == [1, 1]
    assert list(home.Release(named, timeout=60).savepoints) == []
    one.close()  # Nobody who begins it over gRPC is a member: it lives on.
    wait_until(lambda: home.Status(service.named(token), timeout=60).members == 0, "the member's leaving")
    assert home.Rollback(service.named(token), timeout=60).state == service.messages.TRANSACTION_ROLLED_BACK
    assert [increment(pair.client(), key) for key in (x, y)] == [1, 1]
    for call in (home.Commit, home.Rollback):
        with pytest.raises(grpc.RpcError) as failure:
            call(service.named(token), timeout=60)
        assert failure.value.code() == grpc.StatusCode.ABORTED


def test_what_grpc_clients_may_not(pair, two, service):
    one, _ = two
    x = pair.keys("strange")[0]
    one.set(x, 1)
    token = one.control("ID").decode()
    node = service.find(token)

    def code(body):
        with pytest.raises(grpc.RpcError) as failure:
            body()
        return failure.value.code()

    other = service.messages.TransactionRequest(token=token, principal="other")
    for call in (node.Commit, node.Rollback, node.Status):
        assert code(lambda: call(other, timeout=60)) == grpc.StatusCode.PERMISSION_DENIED
    assert code(lambda: node.Status(service.named("1-x"), timeout=60)) == grpc.StatusCode.INVALID_ARGUMENT
    missing = f"{token.split('-')[0]}-{'0' * 32}"
    assert code(lambda: node.Status(service.named(missing), timeout=60)) == grpc.StatusCode.NOT_FOUND
    request = service.messages.ExecuteTransactionRequest(token=token, principal="orbit")
    share = request.shares.add(slot=slot(x))
    share.calls.calls.add(method=60000, key=x.encode())
    assert code(lambda: node.Execute(request, timeout=60)) == grpc.StatusCode.UNIMPLEMENTED
    share.calls.calls[0].method = GET
    share.calls.part.id = 7
    assert code(lambda: node.Execute(request, timeout=60)) == grpc.StatusCode.INVALID_ARGUMENT
    share.calls.ClearField("part")
    share.slot = 16384
    assert code(lambda: node.Execute(request, timeout=60)) == grpc.StatusCode.INVALID_ARGUMENT
    one.commit()
    assert pair.client().get(x) == b"1"


def test_figures(pair, two):
    one, other = two
    assert pair.metric("orbit_home_transactions") >= 1 and pair.metric("orbit_home_members") >= 2
    before = pair.metric("orbit_home_statements_total")
    one.ask("GET", "figure")
    assert pair.metric("orbit_home_statements_total") == before + 1
    assert pair.metric("orbit_home_joins_total") >= 1
    other.rollback()

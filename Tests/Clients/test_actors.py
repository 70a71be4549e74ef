"""The directory of actors on three nodes: where a key's actor lives, and which actors are in memory."""

import json
import os
import signal

import grpc
import pytest
import redis
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from conftest import PATIENCE, Cluster, wait_until
from test_grpc import OPTIONS, stubs  # noqa: F401 (a fixture)
from test_grpc_node import slot

NODES = ("storage-node-1", "storage-node-2", "storage-node-3")
BUCKETS = 64


@pytest.fixture(scope="module")
def three():
    # A node that is killed stays away until it is started: it cannot lead again before the others have elected.
    with Cluster("--nodes", "3", "--no-restart") as running:
        yield running


class Directory:
    """The directories of all nodes as a foreign gRPC client sees them."""

    def __init__(self, cluster, stubs):
        self.cluster = cluster
        self.messages = stubs("directory_pb2")
        self._service = stubs("directory_pb2_grpc").DirectoryServiceStub
        self._channels = {name: grpc.insecure_channel(self._socket(name), OPTIONS) for name in NODES}
        self.services = {name: self._service(channel) for name, channel in self._channels.items()}

    def _socket(self, name):
        addresses = self.cluster.process(name)["addresses"]
        return next(address for address in addresses if address.startswith("unix:"))

    def channel(self, name):
        return self._channels[name]

    def ask(self, name, key, **more):
        """The answer of one node, or its error."""
        try:
            return self.services[name].Locate(self.messages.LocateRequest(key=key, **more), timeout=60)
        except grpc.RpcError as error:
            return error

    def locate(self, key, among=NODES, **more):
        """The process that leads the key's shard, and what it says; waits until there is one."""

        def find():
            answers = ((name, self.ask(name, key, **more)) for name in among)
            return next((found for found in answers if not isinstance(found[1], grpc.RpcError)), None)

        return wait_until(find, what="a leader that answers")

    def pages(self, name, token=b"", **more):
        """Pages of one node, to the end."""
        while True:
            request = self.messages.ListActorsRequest(page_token=token, **more)
            page = self.services[name].ListActors(request, timeout=60)
            yield page
            token = page.next_page_token
            if not token:
                return

    def close(self):
        for channel in self._channels.values():
            channel.close()


@pytest.fixture
def directory(three, stubs):  # noqa: F811
    found = Directory(three, stubs)
    yield found
    found.close()


def settled(cluster):
    """Every shard has a leader that the coordinator knows, and every node's process is up."""
    cluster.wait_ready()
    wait_until(lambda: all(row["leader"] for row in cluster.coordinator()["shards"]), what="a leader of each shard")


def until_done(call):
    """Repeats a call that may be repeated, while its outcome is unknown."""
    while True:
        try:
            return call()
        except redis.RedisError as error:
            assert "unknown" in str(error) or "lost" in str(error) or "leader" in str(error), error


def activate(cluster, directory, key):
    """Calls the actor until it is active, and returns the process that has it and its answer: leadership may go
    elsewhere between a call and a question, and takes all activations with it."""
    client = cluster.client()

    def is_active():
        until_done(lambda: client.set(key, "1"))
        found = directory.locate(key)
        return found if found[1].HasField("actor") else None

    return wait_until(is_active, what="the activation")


def test_locate_finds_the_leader_and_activates_nothing(three, directory):
    settled(three)
    for number in range(12):
        key = f"locate:{number}".encode()
        name, idle = directory.locate(key)
        assert not idle.HasField("actor") and idle.bucket == slot(key) * BUCKETS // 16384
        _, again = directory.locate(key)
        assert not again.HasField("actor"), "a question is no call"
        name, found = activate(three, directory, key)
        actor = found.actor
        assert (actor.type, actor.key, actor.database) == ("string", key, 0)
        assert (actor.shard, actor.term) == (found.shard, found.term) and not actor.pending
        assert 0 < actor.active_since_ms <= actor.last_called_ms
        # The node, its addresses and the shard are those of the shard map.
        rows = three.coordinator()
        shard = next(row for row in rows["shards"] if row["id"] == found.shard)
        assert any(first <= found.bucket < end for first, end in shard["buckets"])
        node = next(row for row in rows["nodes"] if row["id"] == found.node)
        assert list(found.addresses) == node["addresses"]
        assert set(found.addresses) & set(three.process(name)["addresses"])


def test_who_does_not_lead_says_who_does(three, directory):
    settled(three)
    key = b"hint"

    def everybody_agrees():
        name, found = directory.locate(key)
        hints = [directory.ask(other, key) for other in NODES if other != name]
        if not all(isinstance(hint, grpc.RpcError) for hint in hints):
            return False  # The leader has changed in between.
        for hint in hints:
            assert hint.code() == grpc.StatusCode.UNAVAILABLE
            trailers = dict(hint.trailing_metadata())
            told = [trailers.get(f"orbit-leader{what}") for what in ("-node", "", "-term")]
            if told != [str(found.node), ",".join(found.addresses), str(found.term)]:
                return False
        return True

    wait_until(everybody_agrees, what="the same leader by all nodes")


def test_a_new_leader_begins_with_inactive_actors(three, directory):
    settled(three)
    key = b"failover"
    name, before = activate(three, directory, key)
    os.kill(three.process(name)["pid"], signal.SIGKILL)
    others = [other for other in NODES if other != name]
    _, after = directory.locate(key, among=others)
    assert after.term > before.term and after.shard == before.shard and after.node != before.node
    assert not after.HasField("actor"), "inactive until it is called"
    client = three.client()
    assert until_done(lambda: client.get(key)) == b"1"
    _, again = activate(three, directory, key)
    assert again.actor.term == again.term >= after.term
    wait_until(lambda: three.process(name)["state"] == "stopped", what="the node's end")
    three.orbit("start", name)
    settled(three)


def test_a_leader_that_slept_does_not_claim_what_it_lost(three, directory):
    """The question is there when it wakes up, before it can have heard that it was deposed."""
    settled(three)
    key = b"sleeper"
    name, before = activate(three, directory, key)
    pid = three.process(name)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        question = directory.services[name].Locate.future(directory.messages.LocateRequest(key=key), timeout=PATIENCE)
        _, after = directory.locate(key, among=[other for other in NODES if other != name])
        assert after.term > before.term and not after.HasField("actor")
    finally:
        os.kill(pid, signal.SIGCONT)
    error = question.exception()
    assert question.result().term > after.term if error is None else error.code() == grpc.StatusCode.UNAVAILABLE
    settled(three)


def test_pages_have_every_actor_once(three, directory):
    settled(three)
    client = three.client()
    keys = {f"page:{number}".encode() for number in range(700)}
    hashes = {f"page:hash:{number}".encode() for number in range(70)}

    def touch():
        for key in keys:
            until_done(lambda: client.set(key, "1"))
        for key in hashes:
            until_done(lambda: client.hset(key, "f", "v"))

    def listed(**more):
        """What all nodes list, or None if a leader has changed meanwhile."""
        by_node = {name: list(directory.pages(name, **more)) for name in NODES}
        pages = [page for listed in by_node.values() for page in listed]
        complete = [row.shard for page in pages for row in page.shards if row.complete]
        leaderships = {(name, row.shard, row.term) for name in NODES for page in by_node[name] for row in page.shards}
        shards = sorted(row["id"] for row in three.coordinator()["shards"])
        if sorted(complete) != shards or len(leaderships) != len(shards):
            return None
        assert all(len(page.actors) <= more.get("page_size", 100) for page in pages)
        return [actor for page in pages for actor in page.actors]

    def everything():
        touch()
        actors = listed(page_size=64)
        found = [actor.key for actor in actors or [] if actor.database == 0]
        assert len(found) == len(set(found))
        return actors if set(found) >= keys | hashes else None

    actors = wait_until(everything, what="a list under one set of leaders")
    assert {actor.key for actor in actors if actor.type == "hash"} >= hashes
    for actor in actors:
        assert actor.type in ("string", "hash") and actor.bytes > 0 and actor.last_called_ms > 0

    def only_hashes():
        touch()
        actors = listed(page_size=1000, type="hash")
        assert all(actor.type == "hash" for actor in actors or [])
        return actors and {actor.key for actor in actors} >= hashes

    wait_until(only_hashes, what="a list of hashes under one set of leaders")


def test_nonsense_is_refused(directory):
    service, messages = directory.services[NODES[0]], directory.messages
    for call, request, code in [
        (service.Locate, messages.LocateRequest(key=b"k", database=16), grpc.StatusCode.INVALID_ARGUMENT),
        (service.Locate, messages.LocateRequest(key=b"k", type="list"), grpc.StatusCode.INVALID_ARGUMENT),
        (service.Locate, messages.LocateRequest(key=bytes(65_537)), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (service.ListActors, messages.ListActorsRequest(page_size=1001), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (service.ListActors, messages.ListActorsRequest(page_token=b"x"), grpc.StatusCode.INVALID_ARGUMENT),
        (service.ListActors, messages.ListActorsRequest(shard=99), grpc.StatusCode.INVALID_ARGUMENT),
    ]:
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=60)
        assert error.value.code() == code, request


def test_reflection_knows_the_service(directory):
    for name in NODES:
        database = ProtoReflectionDescriptorDatabase(directory.channel(name))
        assert "orbit.v1.DirectoryService" in database.get_services()


def test_the_command_line(three, directory):
    settled(three)
    client = three.client()
    keys = [f"cli:{number}" for number in range(9)]

    def listing(*words):
        """What is listed after all keys were called."""
        for key in keys:
            until_done(lambda: client.set(key, "1"))
        until_done(lambda: client.hset("cli:hash \\", "f", "v"))
        return three.orbit("actors", *words).stdout

    def document(*words):
        return json.loads(listing("--limit", "100000", "--json", *words))

    def has_all():
        found = document()
        assert found["complete"]
        is_there = {actor["key"] for actor in found["actors"]} >= {*keys, "cli:hash \\\\"}
        return found["actors"] if is_there else None

    for actor in wait_until(has_all, what="all keys in one list"):
        assert actor["process"] in NODES and actor["lastCalled"] >= actor["activeSince"] > 0
    hashes = wait_until(lambda: document("--type", "hash")["actors"], what="a hash in the list")
    assert {actor["type"] for actor in hashes} == {"hash"}
    assert {actor["shard"] for actor in document("--shard", "1")["actors"]} <= {1}

    def is_cut():
        lines = listing("--limit", "3").splitlines()
        head = ["KEY", "TYPE", "DB", "SHARD", "TERM", "NODE", "ACTIVE", "IDLE", "SIZE", "PENDING"]
        assert lines[0].split() == head and len(lines) <= 5
        return len(lines) == 5 and lines[4].startswith("… and more")

    wait_until(is_cut, what="a list that is cut")

    name, found = activate(three, directory, b"cli:1")
    place = json.loads(three.orbit("actors", "locate", "cli:1", "--json").stdout)
    assert (place["key"], place["shard"], place["bucket"]) == ("cli:1", found.shard, found.bucket)
    assert place["term"] >= found.term and place["process"] in NODES
    if place["term"] == found.term:
        assert (place["process"], place["node"], place["active"]) == (name, found.node, True)
    head, row = three.orbit("actors", "locate", "cli:none").stdout.splitlines()
    assert head.startswith("KEY") and row.startswith("cli:none ") and "not active" in row

    for words, complaint in [
        (["find", "k"], "unknown: find"), (["locate"], "takes a KEY"), (["locate", "k", "--limit", "1"], "--limit"),
        (["--database", "1"], "--database"), (["--type", "list"], "string or hash"), (["--shard", "99"], "no shard 99"),
    ]:
        wrong = three.orbit("actors", *words, check=False)
        assert wrong.returncode == 64 and complaint in wrong.stderr, (words, wrong.stderr)

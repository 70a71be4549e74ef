"""Sagas over gRPC, as somebody has them from Proto/: also while processes are killed."""

import random
import signal

import grpc
import pytest

from conftest import Cluster, kill, wait_until
from faults import View
from test_grpc import OPTIONS, stubs  # noqa: F401 (a fixture)
from test_grpc_node import SET, INCREMENT_BY
from test_tokens import sockets

HASH_GET = 65
OVER = {"SAGA_COMPLETED", "SAGA_COMPENSATED", "SAGA_FAILED"}


class Sagas:
    """A client that asks the node that leads the saga's shard, whichever that is."""

    def __init__(self, stubs, addresses):
        self.messages = stubs("saga_pb2")
        self.calls = stubs("invocation_pb2")
        self.channels = [grpc.insecure_channel(address, OPTIONS) for address in addresses]
        service = stubs("saga_pb2_grpc").SagaServiceStub
        self.services = [service(channel) for channel in self.channels]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for channel in self.channels:
            channel.close()

    def batch(self, *calls):
        batch = self.calls.CallBatch()
        for method, key, arguments, numbers in calls:
            batch.calls.add(method=method, key=key, arguments=arguments, numbers=numbers)
        return batch

    def add(self, key, amount):
        return self.batch((INCREMENT_BY, key, [], [amount]))

    def steps(self, keys, *more):
        steps = [self.messages.SagaStep(action=self.add(key, 1), compensation=self.add(key, -1)) for key in keys]
        return [*steps, *more]

    def once(self, method, request):
        """The answer of whoever leads; None while nobody does."""
        for service in self.services:
            try:
                return getattr(service, method)(request, timeout=20)
            except grpc.RpcError as error:
                again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)
                if error.code() not in again:
                    raise
        return None

    def insist(self, method, request):
        return wait_until(lambda: self.once(method, request), what=f"an answer to {method}")

    def start(self, name, steps, attempts=0):
        request = self.messages.StartSagaRequest(id=name, steps=steps, maximum_attempts=attempts)
        return self.insist("Start", request)

    def named(self, method, name):
        return self.insist(method, self.messages.SagaRequest(id=name))

    def status(self, saga):
        return self.messages.SagaStatus.Name(saga.status)

    def end(self, name):
        """The saga once it is over."""
        return wait_until(lambda: self.over(name), what=lambda: f"the end of {self.named('Get', name)}")

    def over(self, name):
        saga = self.named("Get", name)
        return saga if self.status(saga) in OVER else None

    def refused(self, method, request):
        """The status with which whoever leads refuses."""

        def code():
            try:
                assert self.once(method, request) is None
            except grpc.RpcError as error:
                return error.code()

        return wait_until(code, what=f"a refusal of {method}")


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", "3") as cluster:
        View(cluster.data, 3).wait_led()
        yield cluster


@pytest.fixture(scope="module")
def sagas(three, stubs):
    with Sagas(stubs, sockets(three, 3)) as client:
        yield client


def keys_of(name, count):
    return [f"{name}-{number}".encode() for number in range(count)]


def values(cluster, keys):
    with cluster.client() as client:
        return [int(value or 0) for value in client.mget(keys)]


def test_a_saga_is_done_or_undone(three, sagas):
    keys = keys_of("plain", 5)
    first = sagas.start("plain", sagas.steps(keys))
    assert sagas.status(first) in ("SAGA_RUNNING", "SAGA_COMPLETED") and first.steps == 5
    saga = sagas.end("plain")
    assert sagas.status(saga) == "SAGA_COMPLETED" and saga.steps_done == 5
    assert values(three, keys) == [1] * 5
    # The same again is the same saga.
    assert sagas.start("plain", sagas.steps(keys)).created_ms == saga.created_ms
    assert values(three, keys) == [1] * 5

    wrong = sagas.messages.SagaStep(name="wrong", action=sagas.batch((HASH_GET, keys[0], [b"f"], [])))
    sagas.start("undone", sagas.steps(keys, wrong))
    saga = sagas.end("undone")
    assert sagas.status(saga) == "SAGA_COMPENSATED" and "wrongType" in saga.reason and saga.steps_done == 0
    assert values(three, keys) == [1] * 5


def test_lists_and_deletes(sagas):
    names = [f"listed-{number:02}" for number in range(12)]
    for name in names:
        sagas.start(name, sagas.steps([b"listed"]))
    for name in names:
        sagas.end(name)
    found = []
    for service in sagas.services:
        token = b""
        while True:
            request = sagas.messages.ListSagasRequest(
                page_size=5, page_token=token, statuses=[sagas.messages.SAGA_COMPLETED])
            page = service.List(request, timeout=60)
            assert len(page.sagas) <= 5
            found += [saga.id for saga in page.sagas]
            token = page.next_page_token
            if not token:
                break
    assert sorted(name for name in found if name.startswith("listed")) == names and len(set(found)) == len(found)
    for name in names:
        assert sagas.named("Delete", name).deleted
        assert not sagas.named("Delete", name).deleted
    assert sagas.refused("Get", sagas.messages.SagaRequest(id=names[0])) == grpc.StatusCode.NOT_FOUND


def test_what_cannot_be_is_refused(three, sagas):
    start = sagas.messages.StartSagaRequest
    invalid, limit = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
    good = sagas.steps([b"k"])
    step = sagas.messages.SagaStep
    part = sagas.batch((SET, b"k", [b"v"], []))
    part.part.id = 5
    cases = [
        (start(id="", steps=good), invalid), (start(id="a\nb", steps=good), invalid),
        (start(id="i" * 129, steps=good), invalid), (start(id="a"), invalid),
        (start(id="a", steps=good * 33), limit), (start(id="a", steps=good, maximum_attempts=1001), limit),
        (start(id="a", steps=[step()]), invalid), (start(id="a", steps=[step(name="n" * 65, action=part)]), invalid),
        (start(id="a", steps=[step(action=part)]), invalid),
        (start(id="a", steps=[step(action=sagas.batch((17, b"", [], [])))]), invalid),
        (start(id="a", steps=[step(action=sagas.batch((9999, b"k", [], [])))]), invalid),
        (start(id="a", steps=[step(action=sagas.batch((SET, b"k", [b"x" * 70_000], [])))]), limit),
        (start(id="a", steps=[step(action=sagas.batch(*((SET, key, [b"v"], []) for key in keys_of("far", 40))))]),
         invalid),
    ]
    for request, code in cases:
        assert sagas.refused("Start", request) == code, request
    sagas.start("known", good)
    other = start(id="known", steps=sagas.steps([b"other"]))
    assert sagas.refused("Start", other) == grpc.StatusCode.ALREADY_EXISTS
    sagas.end("known")
    assert sagas.refused("Cancel", sagas.messages.SagaRequest(id="known")) == invalid
    assert sagas.refused("Retry", sagas.messages.RetrySagaRequest(id="known")) == invalid
    for method in ("Get", "Cancel"):
        assert sagas.refused(method, sagas.messages.SagaRequest(id="none")) == grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(sockets(three, 1)[0], OPTIONS) as channel:
        for nonsense in (b"\xff\xff\xff", b"\x12\x03\x12\x09\x00"):
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary("/orbit.v1.SagaService/Start")(nonsense, timeout=60)
            assert error.value.code() == invalid


def test_what_cannot_be_undone_waits_for_a_person(three, sagas):
    """Its compensation meets a key of another type: the saga fails, and goes on when that is mended."""
    wrong = sagas.batch((HASH_GET, b"stuck", [b"f"], []))
    with three.client() as client:
        client.hset("stuck-undo", "f", 1)
        steps = [
            sagas.messages.SagaStep(action=sagas.add(b"stuck", 1), compensation=sagas.add(b"stuck-undo", 1)),
            sagas.messages.SagaStep(action=wrong),
        ]
        sagas.start("stuck", steps)
        saga = sagas.end("stuck")
        assert sagas.status(saga) == "SAGA_FAILED" and saga.steps_done == 1
        client.delete("stuck-undo")
        sagas.insist("Retry", sagas.messages.RetrySagaRequest(id="stuck"))
        assert sagas.status(sagas.end("stuck")) == "SAGA_COMPENSATED"
        assert (client.get("stuck"), client.get("stuck-undo")) == (b"1", b"1")


def test_sagas_outlive_processes(three, sagas):
    """Nodes are killed again and again: every saga comes to its end, each of its steps done once, or all undone."""
    chance = random.Random(5)
    view = View(three.data, 3)
    begun = {}
    for number in range(30):
        name, keys = f"killed-{number}", keys_of(f"killed-{number}", 8)
        wrong = sagas.messages.SagaStep(action=sagas.batch((HASH_GET, keys[0], [b"f"], [])))
        begun[name] = (keys, number % 3 != 0)
        sagas.start(name, sagas.steps(keys, *([] if begun[name][1] else [wrong])), attempts=1000)
        if number % 10 == 4:
            victim = chance.randrange(1, 4)
            before = three.pids()
            kill(before[f"storage-node-{victim}"], signal.SIGKILL)
    view.wait_led()
    three.wait_ready()
    for name, (keys, is_whole) in begun.items():
        saga = sagas.end(name)
        assert sagas.status(saga) == ("SAGA_COMPLETED" if is_whole else "SAGA_COMPENSATED"), saga
        assert values(three, keys) == [1 if is_whole else 0] * 8, saga

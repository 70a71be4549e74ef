"""A foreign gRPC client at a real storage node: what somebody without our code gets from Proto/ and a certificate."""

import binascii
import pathlib
import queue

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from test_grpc import OPTIONS, check_reflection, stubs  # noqa: F401 (a fixture)

# Numbers of Shared/Contracts/Method.swift.
GET, SET, INCREMENT_BY = 32, 33, 40


def addresses(cluster):
    return cluster.process("storage-node-1")["addresses"]


def tcp_address(cluster):
    return next(address for address in addresses(cluster) if not address.startswith("unix:"))


def credentials(cluster, with_certificate=True, of="client"):
    folder = pathlib.Path(cluster.data, "tls")
    own = [(folder / f"{of}.{kind}").read_bytes() for kind in ("key", "pem")] if with_certificate else [None, None]
    return grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes(), *own)


@pytest.fixture(scope="module", params=["mutual TLS", "unix"])
def node(cluster, request):
    if request.param == "unix":
        address = next(address for address in addresses(cluster) if address.startswith("unix:"))
        channel = grpc.insecure_channel(address, OPTIONS)
    else:
        channel = grpc.secure_channel(tcp_address(cluster), credentials(cluster), OPTIONS)
    with channel:
        yield channel


def slot(key):
    return binascii.crc_hqx(key, 0) % 16384


class Caller:
    """Makes batches with rising ids."""

    def __init__(self, stubs, session):
        self.messages = stubs("invocation_pb2")
        self.session = session
        self.id = 0

    def batch(self, *calls):
        batch = self.messages.InvocationBatch(session=self.session)
        for method, key, arguments, numbers in calls:
            self.id += 1
            call = self.messages.ActorCall(method=method, key=key, arguments=arguments, numbers=numbers)
            batch.invocations.add(id=self.id, connection=1, slot=slot(key), call=call)
        return batch


def test_health(node):
    watch = health_pb2_grpc.HealthStub(node).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    # Health follows readiness with a short delay.
    assert any(answer.status == health_pb2.HealthCheckResponse.SERVING for answer in watch)
    watch.cancel()


def test_reflection(node):
    check_reflection(node)


def test_invoke(node, stubs):
    caller = Caller(stubs, session=11)
    invoke = stubs("invocation_pb2_grpc").InvocationServiceStub(node).Invoke
    replies = caller.messages.Reply
    written = invoke(caller.batch((SET, b"grpc:key", [b"value \x00\xff"], [])), timeout=60)
    assert [(reply.id, reply.kind) for reply in written.replies] == [(1, replies.OK)]
    assert written.bookmark > 0
    read = invoke(caller.batch((GET, b"grpc:key", [], []), (GET, b"grpc:none", [], [])), timeout=60)
    by_id = {reply.id: reply for reply in read.replies}
    assert (by_id[2].kind, by_id[2].data) == (replies.DATA, b"value \x00\xff")
    assert by_id[3].kind == replies.NULL


def test_the_stream_answers_batches_of_any_size(node, stubs):
    caller = Caller(stubs, session=12)
    stream = stubs("invocation_pb2_grpc").InvocationServiceStub(node).Stream
    outgoing = queue.SimpleQueue()
    answers = stream(iter(outgoing.get, None), timeout=60)
    invoke = stubs("invocation_pb2_grpc").InvocationServiceStub(node).Invoke
    invoke(caller.batch((SET, b"grpc:count", [b"0"], [])), timeout=60)
    seen = {}
    total = 0
    for size in (1, 10, 1000):
        outgoing.put(caller.batch(*[(INCREMENT_BY, b"grpc:count", [], [1])] * size))
        total += size
        while len(seen) < total:
            for reply in next(answers).replies:
                assert reply.kind == caller.messages.Reply.INTEGER
                seen[reply.id] = reply.integer
    assert sorted(seen.values()) == list(range(1, total + 1))
    outgoing.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def test_terms_are_kept_or_refused(node, stubs, request):
    """What an invocation demands besides its operation; `orbit` over TLS is no gateway, our own user is trusted."""
    caller = Caller(stubs, session=13)
    invoke = stubs("invocation_pb2_grpc").InvocationServiceStub(node).Invoke
    is_gateway = "unix" in request.node.name

    def ask(method=GET, schema=0, **terms):
        batch = caller.batch((method, b"grpc:terms", [b"x"] if method == SET else [], []))
        batch.schema_version = schema
        for name, value in terms.items():
            setattr(batch.invocations[0], name, value)
        return invoke(batch, timeout=60).replies[0]

    error = caller.messages.Reply.ERROR
    assert ask(SET, deadline_ms=10_000, trace=bytes(25)).kind == caller.messages.Reply.OK
    assert ask(consistency=caller.messages.ANY).data == b"x"
    assert ask(principal="ada").kind == (caller.messages.Reply.DATA if is_gateway else error)
    assert ask(SET, idempotent=True).kind == caller.messages.Reply.OK
    for terms in ({"consistency": 2, "method": SET}, {"consistency": 9}, {"transaction": 1}, {"schema": 1}):
        assert ask(**terms).kind == error, terms


def test_nonsense_is_refused(node):
    invoke = node.unary_unary("/orbit.v1.InvocationService/Invoke")
    with pytest.raises(grpc.RpcError) as error:
        invoke(b"\xff\xff\xff\xff\xff\xff", timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_no_certificate_no_service(cluster):
    for given in (credentials(cluster, with_certificate=False), None):
        address = tcp_address(cluster)
        channel = grpc.secure_channel(address, given, OPTIONS) if given else grpc.insecure_channel(address, OPTIONS)
        with channel, pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/orbit.v1.InvocationService/Invoke")(b"", timeout=60)
        assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_another_node_sends_steps_and_nothing_else(cluster, stubs):
    """Nodes recover transactions at each other; data they get by Raft."""
    caller = Caller(stubs, session=14)
    with grpc.secure_channel(tcp_address(cluster), credentials(cluster, of="storage-node-1"), OPTIONS) as channel:
        service = stubs("invocation_pb2_grpc").InvocationServiceStub(channel)
        batch = caller.batch((GET, b"grpc:step", [], []))
        step = batch.invocations.add(id=2, connection=1, slot=0)
        step.step.kind = caller.messages.TransactionStep.RESOLVE
        step.step.id = 1
        with pytest.raises(grpc.RpcError) as error:
            service.Invoke(batch, timeout=60)
        assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
        outgoing = queue.SimpleQueue()
        outgoing.put(batch)
        outgoing.put(None)
        answers = service.Stream(iter(outgoing.get, None), timeout=60)
        replies = {reply.id: reply for batch in answers for reply in batch.replies}
        assert sorted(replies) == [1, 2]
        assert replies[1].error.message == "A storage node may only take part in transactions and sagas"
        assert replies[2].error.message != replies[1].error.message

"""A foreign gRPC client against a real node and a real coordinator: stubs made from Proto/, mutual TLS."""

import pathlib
import subprocess
import sys
import tempfile

import grpc
import pytest
import redis

from conftest import ROOT, Cluster, wait_until

DELETE, GET, SET, INCREMENT = 1, 32, 33, 40  # Shared/Contracts/Method.swift


@pytest.fixture(scope="module")
def proto():
    """Messages and stubs generated from Proto/, as any user of the .proto files would do."""
    with tempfile.TemporaryDirectory() as folder:
        files = [path.name for path in sorted((ROOT / "Proto").glob("*.proto"))]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'Proto'}", f"--python_out={folder}"]
        subprocess.run([*command, f"--grpc_python_out={folder}", *files], check=True)
        sys.path.insert(0, folder)
        try:
            import invocation_pb2
            import invocation_pb2_grpc
            import placement_pb2
            import placement_pb2_grpc

            yield type("Proto", (), {
                "messages": invocation_pb2, "Invocations": invocation_pb2_grpc.InvocationServiceStub,
                "placement": placement_pb2, "Placement": placement_pb2_grpc.PlacementServiceStub,
            })  # fmt: skip
        finally:
            sys.path.remove(folder)


def secure_channel(cluster, role, certificate="client"):
    """A channel to the TCP port of a role, with a certificate of the cluster (or none)."""
    row = next(row for row in cluster.status()["processes"] if row["role"] == role)
    address = next(a for a in row["addresses"] if not a.startswith("unix:"))
    tls = pathlib.Path(cluster.data, "tls")
    chain = (tls / f"{certificate}.pem").read_bytes() if certificate else None
    key = (tls / f"{certificate}.key").read_bytes() if certificate else None
    credentials = grpc.ssl_channel_credentials((tls / "ca.pem").read_bytes(), key, chain)
    return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])


@pytest.fixture(scope="module")
def node(cluster, proto):
    with secure_channel(cluster, "storage-node") as channel:
        yield proto.Invocations(channel)


def slot(key):
    """CRC16 (XMODEM) of the key, as Redis cluster has it."""
    crc = 0
    for byte in key:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % 16384


def call(proto, identifier, method, key, *arguments, numbers=()):
    m = proto.messages
    actor = m.ActorCall(method=method, key=key, arguments=list(arguments), numbers=list(numbers))
    return m.Invocation(id=identifier, slot=slot(key), call=actor)


def test_a_key_written_over_grpc_is_read_over_resp(cluster, proto, node):
    m = proto.messages
    batch = m.InvocationBatch(
        invocations=[call(proto, 1, SET, b"over:grpc", b"value"), call(proto, 2, GET, b"over:grpc")])  # fmt: skip
    replies = {reply.id: reply for reply in node.Invoke(batch, timeout=60).replies}
    assert replies[1].kind == m.Reply.OK and replies[2].data == b"value"
    assert cluster.client().get("over:grpc") == b"value"


def test_the_stream_pairs_replies_by_id(proto, node):
    m = proto.messages

    def batches():
        yield m.InvocationBatch(session=7, invocations=[call(proto, 1, DELETE, b"n")])
        for first in range(2, 1002, 100):
            numbers = range(first, first + 100)
            yield m.InvocationBatch(
                session=7, invocations=[call(proto, i, INCREMENT, b"n", numbers=[1]) for i in numbers])  # fmt: skip

    replies = {}
    for batch in node.Stream(batches(), timeout=60):
        for reply in batch.replies:
            replies[reply.id] = reply
        if len(replies) == 1001:
            break
    assert [replies[i].integer for i in range(2, 1002)] == list(range(1, 1001))


def test_what_a_node_does_not_know_is_an_error_of_that_invocation(proto, node):
    m = proto.messages
    batch = m.InvocationBatch(invocations=[call(proto, 1, 9999, b"k"), m.Invocation(id=2), call(proto, 3, GET, b"no")])
    replies = {reply.id: reply for reply in node.Invoke(batch, timeout=60).replies}
    assert replies[1].kind == replies[2].kind == m.Reply.ERROR
    assert replies[3].kind == m.Reply.NULL


def test_nobody_calls_without_a_certificate_of_the_cluster(cluster, proto):
    with secure_channel(cluster, "storage-node", certificate=None) as channel:
        with pytest.raises(grpc.RpcError) as error:
            proto.Invocations(channel).Invoke(proto.messages.InvocationBatch(), timeout=60)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_an_unknown_service_is_unimplemented(cluster):
    with secure_channel(cluster, "storage-node") as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/orbit.v1.NoSuch/Method")(b"", timeout=60)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_and_reflection(cluster):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    for role, service in [("storage-node", "InvocationService"), ("coordinator", "PlacementService")]:
        with secure_channel(cluster, role) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert f"orbit.v1.{service}" in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_the_shard_map_is_watched(cluster, proto):
    with secure_channel(cluster, "coordinator") as channel:
        watch = proto.Placement(channel).Watch(proto.placement.WatchRequest(), timeout=60)
        shard_map = next(watch)
        watch.cancel()
    buckets = sum(part.count for shard in shard_map.shards for part in shard.buckets)
    assert buckets == shard_map.bucket_count == 64
    assert [node.state for node in shard_map.nodes] == [proto.placement.Node.UP]
    assert all(shard.leader == shard_map.nodes[0].id for shard in shard_map.shards)


def test_thousands_of_users(proto):
    """More users than a page of the gateway's scan: all are listed, and all can log in."""
    count = 2_500
    with Cluster() as cluster, secure_channel(cluster, "storage-node") as channel:
        messages = proto.messages
        batch = messages.InvocationBatch()
        for number in range(count):
            name, rules = b"user%d" % number, b"nopass ~* +@all"
            record = messages.RecordOperation(
                kind=messages.RecordOperation.PUT, collection=16, key=b"\x30" + name + b"\0",
                value=b"\1\1" + bytes([len(name)]) + name + bytes([len(rules)]) + rules + b"\0",
            )  # fmt: skip
            batch.invocations.add(id=number + 1, slot=slot(record.key), record=record)
        replies = proto.Invocations(channel).Invoke(batch, timeout=60).replies
        assert {reply.kind for reply in replies} == {messages.Reply.OK} and len(replies) == count
        client = cluster.client()
        expected = {"orbit"} | {f"user{number}" for number in range(count)}
        wait_until(lambda: expected <= set(client.acl_users()), what="all users at the gateway")
        for number in range(0, count, 100):
            with cluster.client(username=f"user{number}", password="") as user:
                assert user.acl_whoami() == f"user{number}"
        # What is changed is seen at once, though all users are read again for it.
        for number in range(5):
            client.acl_setuser(f"late{number}", enabled=True, nopass=True)
            assert f"late{number}" in client.acl_users()
            client.acl_deluser(f"late{number}")
            assert f"late{number}" not in client.acl_users()


def test_threads_have_names(cluster):
    tasks = pathlib.Path(f"/proc/{cluster.pids()['storage-node-1']}/task").iterdir()
    names = {(task / "comm").read_text().strip() for task in tasks}
    assert {"log", "worker-1", "worker-2"} <= names


def test_half_of_the_shards_is_not_everything():
    """A command for all shards fails when one of them does, and says how far it came. Each is on one node only: of two
    replicas, the one that is left may not go on."""
    with Cluster("--nodes", "2", "--replication-factor", "1") as cluster:
        client = cluster.client(socket_timeout=30)
        for number in range(100):
            client.set(f"key{number}", number)
        assert client.dbsize() == 100 and len(client.keys()) == 100
        cluster.orbit("stop", "storage-node-2")
        for command in ("FLUSHALL", "FLUSHDB"):
            with pytest.raises(redis.ResponseError, match="carried out on 1 of 2 shards"):
                client.execute_command(command)
        for command in ("DBSIZE", "KEYS *", "INFO keyspace"):
            with pytest.raises(redis.ResponseError):
                client.execute_command(*command.split())
        with pytest.raises(redis.ResponseError):
            list(client.scan_iter())
        cluster.orbit("start", "storage-node-2")
        cluster.wait_ready()
        left = wait_until(client.dbsize, what="the other shard")
        assert 0 < left < 100
        assert client.flushall() and client.dbsize() == 0


def test_users_of_every_shard_are_made_by_orbit():
    """Braces mean nothing in a user's name, though they do in a Redis key."""
    with Cluster("--nodes", "2", password="correct horse") as cluster:
        for number in range(10):
            name = f"user{{{number}}}"
            cluster.orbit("user", "add", name)
            assert cluster.client(username=name).acl_whoami() == name

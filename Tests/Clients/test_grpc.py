"""Foreign gRPC clients: grpcio against the probe server (Tests/GRPCProbe), with plain bytes and generated stubs."""

import importlib
import subprocess
import sys
import tempfile
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2 as alpha_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc as alpha_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from conftest import BIN, ROOT, wait_until

OPTIONS = [
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


@pytest.fixture(scope="module")
def stubs():
    """Modules generated from Proto/ as any user of the .proto files would do."""
    with tempfile.TemporaryDirectory() as folder:
        files = [path.name for path in sorted((ROOT / "Proto").glob("*.proto"))]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'Proto'}", f"--python_out={folder}"]
        subprocess.run([*command, f"--grpc_python_out={folder}", *files], check=True)
        sys.path.insert(0, folder)
        try:
            yield importlib.import_module
        finally:
            sys.path.remove(folder)


class Probe:
    def __init__(self, address, *tls):
        command = [str(BIN / "grpc-probe"), address, *map(str, tls)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the probe did not start"

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0


@pytest.fixture(scope="module", params=["tcp", "unix"])
def probe(request, tmp_path_factory):
    folder = tempfile.TemporaryDirectory(prefix="orbit-", dir="/tmp")
    probe = Probe("127.0.0.1:0" if request.param == "tcp" else f"unix:{folder.name}/s")
    yield probe
    probe.close()
    folder.cleanup()


@pytest.fixture(scope="module")
def channel(probe):
    with grpc.insecure_channel(probe.address, OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        yield channel


def test_unary_calls_of_every_size(channel):
    echo = channel.unary_unary("/probe.Probe/Echo")
    for size in (0, 1, 16_383, 16_384, 100_000, 5_000_000):
        payload = bytes(size % 251 for _ in range(size))
        assert echo(payload, timeout=60) == payload


def test_a_message_above_the_limit_is_refused(channel):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/probe.Probe/Echo")(bytes((20 << 20) + 1), timeout=60)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary("/probe.Probe/Echo")(b"still there", timeout=60) == b"still there"


def test_many_calls_at_once(channel):
    echo = channel.unary_unary("/probe.Probe/Echo")
    futures = [echo.future(str(index).encode(), timeout=60) for index in range(2000)]
    assert [future.result() for future in futures] == [str(index).encode() for index in range(2000)]


def test_bidirectional_stream(channel):
    chat = channel.stream_stream("/probe.Probe/Chat")
    messages = [bytes([index % 256]) * (index * 37 % 5000) for index in range(1000)]
    assert list(chat(iter(messages), timeout=60)) == messages


def test_a_stream_answers_before_the_client_ends(channel):
    go_on = threading.Event()

    def messages():
        yield b"first"
        assert go_on.wait(10)
        yield b"second"

    answers = channel.stream_stream("/probe.Probe/Chat")(messages(), timeout=60)
    assert next(answers) == b"first"
    go_on.set()
    assert next(answers) == b"second"
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def test_server_streaming_through_flow_control(channel):
    count = channel.unary_stream("/probe.Probe/Count")
    sizes = [len(message) for message in count(b"500 100000", timeout=60)]
    assert sizes == [100_000] * 500


def test_client_streaming(channel):
    total = channel.stream_unary("/probe.Probe/Sum")(iter([bytes(10_000)] * 500), timeout=60)
    assert total == b"500 5000000"


@pytest.mark.parametrize("message", ["plain", "Schlüssel „k%“ fehlt\n", "%41 100 %", ""])
def test_status_messages_and_trailers(channel, message):
    for code in grpc.StatusCode:
        number = code.value[0]
        if number == 0:
            continue
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/probe.Probe/Fail")(f"{number} {message}".encode(), timeout=60)
        assert error.value.code() == code
        assert error.value.details() == message
        assert dict(error.value.trailing_metadata())["x-detail-bin"] == b"\x00\x01\xfe\xff"


def test_metadata(channel):
    sent = (("x-text", "value with spaces"), ("x-data-bin", bytes(range(256))), ("x-empty", ""))
    _, call = channel.unary_unary("/probe.Probe/Metadata").with_call(b"", timeout=60, metadata=sent)
    received = dict(call.initial_metadata())
    for name, value in sent:
        assert received[name] == value


def test_unknown_method(channel):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/probe.Probe/Nothing")(b"", timeout=60)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def ended(channel):
    return int(channel.unary_unary("/probe.Probe/Ended")(b"", timeout=60))


def test_deadline_ends_the_call_on_both_sides(channel):
    before = ended(channel)

    def has_ended():
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/probe.Probe/Wait")(b"", timeout=0.2)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        return ended(channel) > before

    # Called again and again: on a busy machine a call may be over before it has left.
    wait_until(has_ended, "the end of the call on the server")


def test_cancellation_ends_the_call_on_the_server(channel):
    before = ended(channel)
    calls = [channel.unary_unary("/probe.Probe/Wait").future(b"", timeout=60) for _ in range(20)]
    assert channel.unary_unary("/probe.Probe/Echo")(b"x", timeout=60) == b"x"  # The calls before it have arrived.
    for call in calls:
        call.cancel()
    wait_until(lambda: ended(channel) == before + 20, "the end of the calls on the server")


def test_compression_is_refused_with_its_reason(channel):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/probe.Probe/Echo")(bytes(1000), timeout=60, compression=grpc.Compression.Gzip)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in error.value.details()


def test_keepalive_pings_are_answered(probe):
    options = OPTIONS + [
        ("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 2000), ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.min_time_between_pings_ms", 100),
    ]
    with grpc.insecure_channel(probe.address, options) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/probe.Probe/Wait")(b"", timeout=1.5)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_health_check_and_watch(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest
    assert stub.Check(request(), timeout=60).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(request(service="absent"), timeout=60)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND

    set_health = channel.unary_unary("/probe.Probe/SetHealth")
    watch = stub.Watch(request(service="probe.Probe"), timeout=60)
    first = next(watch).status
    assert first in (health_pb2.HealthCheckResponse.SERVICE_UNKNOWN, health_pb2.HealthCheckResponse.NOT_SERVING)
    set_health(b"serving", timeout=60)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    set_health(b"", timeout=60)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


def check_reflection(channel):
    """What grpcurl does: lists the services, then learns their messages from the server alone."""
    database = ProtoReflectionDescriptorDatabase(channel)
    services = database.get_services()
    assert "grpc.health.v1.Health" in services
    assert "grpc.reflection.v1.ServerReflection" in services
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("orbit.v1.InvocationService")
    batch = service.FindMethodByName("Invoke").input_type
    assert batch.full_name == "orbit.v1.InvocationBatch"
    call = batch.fields_by_name["invocations"].message_type.fields_by_name["call"].message_type
    assert call.full_name == "orbit.v1.ActorCall"


def test_reflection(channel):
    check_reflection(channel)


def test_reflection_says_what_it_does_not_have(channel):
    stub = alpha_pb2_grpc.ServerReflectionStub(channel)
    questions = [
        alpha_pb2.ServerReflectionRequest(file_by_filename="absent.proto"),
        alpha_pb2.ServerReflectionRequest(file_containing_symbol="no.Such"),
        alpha_pb2.ServerReflectionRequest(all_extension_numbers_of_type="orbit.v1.Error"),
        alpha_pb2.ServerReflectionRequest(),
    ]
    answers = list(stub.ServerReflectionInfo(iter(questions), timeout=60))
    assert [answer.WhichOneof("message_response") for answer in answers] == [
        "error_response", "error_response", "all_extension_numbers_response", "error_response",
    ]
    assert answers[0].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert [answer.original_request for answer in answers] == questions


def test_reflection_under_its_stable_name_with_our_stubs(channel, stubs):
    messages, services = stubs("reflection_pb2"), stubs("reflection_pb2_grpc")
    stub = services.ServerReflectionStub(channel)
    question = messages.ServerReflectionRequest(file_containing_symbol="orbit.v1.InvocationService.Invoke")
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=60)
    files = answer.file_descriptor_response.file_descriptor_proto
    names = [FileDescriptorProto.FromString(file).name for file in files]
    assert names == ["invocation.proto", "common.proto"]


class Authority:
    """A certificate authority made with the openssl command."""

    def __init__(self, folder):
        self.folder = folder
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/O=orbit/CN=test authority")

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def issue(self, name):
        (self.folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                     "-out", f"{name}.csr", "-subj", f"/O=orbit/OU=test/CN={name}")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


def test_mutual_tls(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "foreign").mkdir()
    own, foreign = Authority(tmp_path / "own"), Authority(tmp_path / "foreign")
    probe = Probe("127.0.0.1:0", *own.issue("server"), own.folder / "ca.pem")

    def credentials(authority, name):
        certificate, key = authority.issue(name)
        trusted = (own.folder / "ca.pem").read_bytes()
        return grpc.ssl_channel_credentials(trusted, key.read_bytes(), certificate.read_bytes())

    with grpc.secure_channel(probe.address, credentials(own, "client-7"), OPTIONS) as channel:
        assert channel.unary_unary("/probe.Probe/Peer")(b"", timeout=60) == b"client-7"
        payload = bytes(3_000_000)
        assert channel.unary_unary("/probe.Probe/Echo")(payload, timeout=60) == payload
    anonymous = grpc.ssl_channel_credentials((own.folder / "ca.pem").read_bytes())
    for refused in (credentials(foreign, "client-8"), anonymous):
        with grpc.secure_channel(probe.address, refused, OPTIONS) as channel:
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary("/probe.Probe/Peer")(b"", timeout=60)
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    probe.close()

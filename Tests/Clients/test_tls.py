"""Clients over TLS: the port that `orbit up` offers, with the certificate that the cluster's authority issued."""

import ssl
import socket
import subprocess

import pytest
import redis

from conftest import Cluster


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(cluster, protocol, host):
    with cluster.tls_client(protocol=protocol, host=host) as client:
        assert client.set("over", "tls") is True and client.get("over") == b"tls"
        value = bytes(i * 31 % 251 for i in range(3_000_000))
        client.set("big", value)
        assert client.get("big") == value
        client.delete("n")
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(5000):
                pipeline.incr("n")
            assert pipeline.execute() == list(range(1, 5001))
    assert cluster.client().get("over") == b"tls"


def test_redis_cli(cluster):
    assert cluster.cli("SET", "from:cli", "value", tls=True) == "OK"
    assert cluster.cli("GET", "from:cli", tls=True) == "value"
    assert cluster.cli("CONFIG", "GET", "tls-port", tls=True).split() == ["tls-port", str(cluster.tls_port)]


def test_the_line_that_up_prints_works():
    with Cluster(password="correct-horse") as cluster:
        cluster.down()
        text = cluster.orbit("up", "--detach", "--port-offset", str(cluster.offset)).stdout
        line = next(line for line in text.splitlines() if "--cacert" in line)
        command = line.split("over TLS", 1)[1].strip() + " --no-auth-warning PING"
        result = subprocess.run(
            command, shell=True, capture_output=True, text=True, timeout=60,
            env={**cluster.environment, "ORBIT_PASSWORD": "correct-horse"})
        assert result.stdout.strip() == "PONG", (command, result)


def test_status_and_json_say_where(cluster):
    assert f"127.0.0.1:{cluster.tls_port}" in cluster.process("resp-gw-1")["addresses"]
    assert f"127.0.0.1:{cluster.tls_port} (TLS)" in cluster.orbit("status").stdout
    assert cluster.up["endpoints"]["rediss"] == f"rediss://orbit@127.0.0.1:{cluster.tls_port}"
    assert cluster.up["authority"] == cluster.authority


def test_a_client_that_does_not_know_the_authority_refuses_us(cluster):
    with cluster.client(port=cluster.tls_port, ssl=True) as client:
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            client.ping()


def test_the_password_is_asked_for_over_tls_too(cluster):
    with cluster.tls_client(password="wrong") as client:
        with pytest.raises(redis.AuthenticationError):
            client.ping()


def test_plain_text_on_the_tls_port_gets_nothing(cluster):
    with socket.create_connection(("127.0.0.1", cluster.tls_port), timeout=60) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        try:
            answer = connection.recv(100)
        except ConnectionResetError:
            answer = b""
        assert b"PONG" not in answer and b"NOAUTH" not in answer
    assert cluster.tls_client().ping()


def test_the_certificate_of_the_client_port_opens_no_other_door(cluster):
    """It is for serving only: a node closes the door on whoever shows it as a client's."""
    stem = cluster.authority.removesuffix("ca.pem") + "resp-gw-1.clients"
    context = ssl.create_default_context(cafile=cluster.authority)
    context.load_cert_chain(stem + ".pem", stem + ".key")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", 50051 + cluster.offset), timeout=60) as plain:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                if secure.recv(100) == b"":  # TLS 1.3: the refusal comes after our side of the handshake.
                    raise ConnectionResetError


def test_insecure_is_about_processes_not_clients():
    with Cluster("--insecure") as cluster:
        assert cluster.tls_client().ping()


def test_listening_everywhere_names_the_machine():
    with Cluster("--listen", "0.0.0.0") as cluster:
        try:
            hosts = ["127.0.0.1", socket.gethostbyname(socket.gethostname())]
        except OSError:
            hosts = ["127.0.0.1"]  # A machine that does not know its own name.
        for host in hosts:
            assert cluster.tls_client(host=host).ping()

"""The command line: up, status, stop and start, users, down; several clusters side by side."""

import json
import os
import pathlib
import socket
import stat
import subprocess

import pytest
import redis

from conftest import BIN, Cluster, wait_until


def test_status_names_every_process(cluster):
    status = cluster.status()
    assert status["ready"] is True
    roles = [row["role"] for row in status["processes"]]
    assert roles == ["coordinator", "storage-node", "resp-gw", "pg-gw"]
    for row in status["processes"]:
        assert os.path.exists(f"/proc/{row['pid']}") and row["id"].startswith(row["role"])
        assert row["addresses"]
    text = cluster.orbit("status").stdout
    assert "storage-node-1" in text and "ready" in text


def test_ready_soon(cluster):
    """A third of a second where nothing else runs; the bound is for a machine that is slow and busy."""
    print(f"ready in {cluster.up['milliseconds']} ms")
    assert cluster.up["milliseconds"] <= 60_000


def test_services_keep_freed_memory(cluster):
    """They have begun again with that setting, under the process ids that the supervisor knows."""
    services = {name: pid for name, pid in cluster.pids().items() if not name.startswith("supervisor")}
    assert len(services) >= 4
    for name, pid in services.items():
        assert b"glibc.malloc.tcache_count=" in pathlib.Path(f"/proc/{pid}/environ").read_bytes(), name


def test_private_files_are_private(cluster):
    for name in ["password", "tls/ca.key", "tls/storage-node-1.key"]:
        assert stat.S_IMODE(os.stat(os.path.join(cluster.data, name)).st_mode) == 0o600, name
    for name in ["run", "tls", "log"]:
        assert stat.S_IMODE(os.stat(os.path.join(cluster.data, name)).st_mode) == 0o700, name


def test_admin_port_answers(cluster):
    for row in cluster.status()["processes"]:
        path = row["admin"].removeprefix("unix:")
        for route, word in [("/livez", b"ok"), ("/readyz", b"ok"), ("/startupz", b"ok"), ("/metrics", b"# TYPE")]:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(f"GET {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
            assert answer.startswith(b"HTTP/1.1 200") and word in answer, (row["id"], route, answer)


def test_a_dead_process_is_started_again():
    with Cluster() as cluster:
        cluster.client().set("k", "v")
        before = cluster.process("storage-node-1")
        os.kill(before["pid"], 9)
        wait_until(lambda: cluster.process("storage-node-1")["pid"] not in (None, before["pid"]), what="a new pid")
        cluster.wait_ready()
        assert cluster.client().get("k") == b"v"


def test_stop_start_and_no_restart():
    with Cluster("--no-restart") as cluster:
        cluster.orbit("stop", "resp-gw-1")
        assert cluster.process("resp-gw-1")["state"] == "stopped"
        with pytest.raises(redis.ConnectionError):
            cluster.client().ping()
        assert cluster.orbit("stop", "resp-gw-1", check=False).returncode != 0
        cluster.orbit("start", "resp-gw-1")
        assert cluster.client().ping()
        os.kill(cluster.process("storage-node-1")["pid"], 9)
        wait_until(lambda: cluster.process("storage-node-1")["state"] == "stopped", what="the node's end")
        cluster.orbit("start", "storage-node-1")
        cluster.wait_ready()
        wrong = cluster.orbit("stop", "resp-gw-2", check=False)
        assert "did you mean resp-gw-1" in wrong.stderr


def test_data_outlives_down_and_up():
    with Cluster() as cluster:
        cluster.client().set("k", "v")
        cluster.down()
        assert not cluster.pids()
        cluster.start()
        assert cluster.client().get("k") == b"v"


def test_two_clusters_live_side_by_side():
    with Cluster() as one, Cluster() as two:
        one.client().set("k", "1")
        two.client().set("k", "2")
        assert (one.client().get("k"), two.client().get("k")) == (b"1", b"2")


def test_a_second_up_is_refused(cluster):
    again = cluster.orbit("up", "--detach", "--port-offset", str(cluster.offset), check=False)
    assert again.returncode != 0 and "up already" in again.stderr


def test_a_busy_port_names_its_owner_and_a_way_out(tmp_path):
    cluster = Cluster()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", cluster.port))
        holder.listen()
        result = cluster.orbit("up", "--detach", "--port-offset", str(cluster.offset), check=False)
    assert result.returncode != 0
    assert str(cluster.port) in result.stderr and f"(pid {os.getpid()})" in result.stderr
    assert "--port-offset" in result.stderr
    cluster.close()


def test_password_from_the_environment():
    with Cluster(password="correct horse") as cluster:
        assert cluster.client().ping()
        assert not pathlib.Path(cluster.data, "password").exists()
        for pid in cluster.pids().values():
            assert b"correct horse" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()


def test_users(cluster):
    def user(*words, password=None):
        environment = {**cluster.environment, **({"ORBIT_PASSWORD": password} if password else {})}
        command = [str(BIN / "orbit"), "user", *words, "--data", cluster.data]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    assert user("add", "ada", password="one").returncode == 0
    assert user("add", "ada", password="two").returncode != 0
    assert cluster.client(username="ada", password="one").ping()
    assert user("password", "ada", password="two").returncode == 0
    listed = user("list").stdout
    assert "ada" in listed and "orbit" in listed
    assert user("delete", "ada").returncode == 0
    assert user("delete", "ada").returncode != 0


def test_help_and_mistakes():
    def orbit(*words):
        return subprocess.run([str(BIN / "orbit"), *words], capture_output=True, text=True, timeout=60)

    assert "orbit: one database" in orbit("help").stdout
    assert "--port-offset K" in orbit("help", "up").stdout
    assert orbit("version").stdout.startswith("orbit ")
    wrong = orbit("up", "--port-ofset", "1")
    assert wrong.returncode == 64 and "did you mean --port-offset" in wrong.stderr
    assert "did you mean status" in orbit("statsu").stderr
    assert orbit("config", "check").returncode == 0


def test_config_check_checks_what_up_passes(tmp_path):
    with Cluster() as cluster:
        good = cluster.orbit("config", "check").stdout
        assert good.count("the configuration is good") == 4
        key = pathlib.Path(cluster.data, "tls", "resp-gw-1.clients.key")
        key.write_bytes(pathlib.Path(cluster.data, "tls", "storage-node-1.key").read_bytes())
        assert cluster.orbit("config", "check", check=False).returncode != 0
        assert cluster.orbit("config", "check", "storage-node").returncode == 0
        pathlib.Path(cluster.data, "tls", "storage-node-1.pem").unlink()
        assert "storage-node-1.pem" in cluster.orbit("config", "check", "storage-node", check=False).stderr


@pytest.mark.parametrize("words, complaint", [
    (["resp-gw"], "--coordinator is needed"),
    (["resp-gw", "--coordinator", "unix:/c", "--tls-listen", "127.0.0.1:1"], "--client-cert and --client-key"),
    (["resp-gw", "--coordinator", "127.0.0.1:1"], "--tls-ca"),
    (["pg-gw"], "--coordinator is needed"),
    (["pg-gw", "--coordinator", "unix:/c", "--client-cert", "/x"], "--client-key"),
    (["storage-node", "--listen", "nonsense"], "is not an address"),
    (["storage-node", "--listen", "127.0.0.1:1"], "--insecure"),
    (["storage-node", "--tls-ca", "/x"], "go together"),
    (["coordinator", "--insecure", "--lease", "1ms"], "--lease takes"),
])
def test_config_check_of_one_service(words, complaint):
    role, *flags = words
    result = subprocess.run([str(BIN / role), "config", "check", *flags], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and complaint in result.stderr


@pytest.mark.parametrize("role", ["coordinator", "storage-node", "resp-gw", "pg-gw"])
def test_settings_show_where_they_come_from(role, tmp_path):
    def run(*words, **more):
        environment = {**os.environ, **more}
        return subprocess.run(
            [str(BIN / role), *words], capture_output=True, text=True, timeout=60, env=environment)

    file = tmp_path / "settings.conf"
    file.write_text("log-level = debug\n")
    printed = run("config", "print", "--config", str(file), "--log-format", "json", ORBIT_DRAIN_TIMEOUT="3s").stdout
    lines = {line.split(" = ")[0]: line for line in printed.splitlines() if " = " in line}
    assert f"{file}:1" in lines["log-level"] and "flag" in lines["log-format"]
    assert "environment" in lines["drain-timeout"] and "default" in lines["admin"]
    file.write_text("log-levl = debug\n")
    wrong = run("config", "check", "--config", str(file))
    assert wrong.returncode != 0 and "log-level" in wrong.stderr

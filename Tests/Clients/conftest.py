"""The harness: clusters of real processes, made by `orbit up` in a temporary directory, one port offset each."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
# How long what must happen may take, in seconds. No test waits for its end, so it costs nothing to be generous: tests
# share their machine with other work, and it may be ten times slower than another.
PATIENCE = 300
BIN = pathlib.Path(os.environ.get("ORBIT_BIN", ROOT / ".build" / "release"))


def wait_until(condition, what="the condition"):
    """Polls `condition` until it returns something true, and returns that; fails when PATIENCE is over."""
    end = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what() if callable(what) else what} did not come true within {PATIENCE} s")
        time.sleep(0.01)  # Polling is bounded; nothing is assumed to be done after a while.


class Ports:
    """A port offset at which all ports of a small cluster are free. No other test run on this machine takes it before
    `release`: ports that are only looked at may be somebody's by the time they are used."""

    def __init__(self, start=1000):
        for self.offset in range(start, 15000, 100):
            self._lock = _locked(pathlib.Path(tempfile.gettempdir(), f"orbit-test-ports-{self.offset}"))
            if self._lock is None:
                continue
            if all(_is_free(port + self.offset) for port in (5432, 6379, 6380, *range(50048, 50054))):
                return
            self.release()
        raise RuntimeError("no free ports")

    def release(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(path):
    """The descriptor of a file that is locked as long as it is open, or None when somebody else has it."""
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except PermissionError:
        return None  # Another user's.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except BlockingIOError:
        os.close(lock)
        return None


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Cluster:
    """A local cluster under test. `options` are those of `orbit up`."""

    def __init__(self, *options, data=None, password=None):
        # A short path: Unix sockets live in it.
        self._holder = None if data else tempfile.TemporaryDirectory(prefix="orbit-", dir="/tmp")
        self.data = str(data) if data else self._holder.name
        self.options = options
        self._ports = Ports()
        self.offset = self._ports.offset
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ORBIT_")}
        if password:
            self.environment["ORBIT_PASSWORD"] = password
        self.given_password = password
        self.up = None

    def orbit(self, *words, check=True, timeout=PATIENCE):
        """Runs an orbit command; `--data` is added."""
        command = [str(BIN / "orbit"), *words, "--data", self.data]
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {result.returncode}\n{result.stdout}{result.stderr}{self.logs()}")
        return result

    def start(self):
        result = self.orbit("up", "--detach", "--json", "--port-offset", str(self.offset), *self.options)
        self.up = json.loads(result.stdout)
        return self

    def down(self):
        self.orbit("down")

    def close(self):
        """Stops everything, whatever state it is in."""
        self.orbit("down", check=False)
        for pid in self.pids().values():
            kill(pid, signal.SIGKILL)
        self._ports.release()
        if self._holder:
            self._holder.cleanup()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def status(self):
        result = self.orbit("status", "--json", check=False)
        return json.loads(result.stdout)

    def process(self, identifier):
        return next(row for row in self.status()["processes"] if row["id"] == identifier)

    def coordinator(self):
        """What the coordinator that leads says of the cluster."""

        def leading():
            rows = [row["details"] for row in self.status()["processes"] if row["role"] == "coordinator"]
            return next((details for details in rows if "shards" in details), None)

        return wait_until(leading, what="a coordinator that leads")

    def pids(self):
        """Pids by id, read from the pid files: they work without a supervisor too."""
        found = {}
        for path in pathlib.Path(self.data, "run").glob("*.pid"):
            try:
                text = path.read_text().strip()
            except FileNotFoundError:
                continue  # Its process has just died, and the supervisor has seen it.
            if text.isdigit():
                found[path.stem] = int(text)
        return found

    def wait_ready(self):
        wait_until(lambda: self.status()["ready"], f"readiness of {self.data}")

    def answers(self):
        """Whether all shards are served: the status may not have heard yet of a node that was killed."""
        try:
            with self.client() as client:
                return self.status()["ready"] and client.dbsize() >= 0
        except redis.RedisError:
            return False

    @property
    def port(self):
        return 6379 + self.offset

    @property
    def password(self):
        return self.given_password or pathlib.Path(self.data, "password").read_text().strip()

    def client(self, protocol=2, **more):
        options = {"username": "orbit", "password": self.password, "socket_timeout": 60, **more}
        return redis.Redis(protocol=protocol, **{"host": "127.0.0.1", "port": self.port, **options})

    @property
    def tls_port(self):
        return 6380 + self.offset

    @property
    def authority(self):
        """The certificate that clients trust."""
        return str(pathlib.Path(self.data, "tls", "ca.pem"))

    def tls_client(self, **more):
        return self.client(port=self.tls_port, ssl=True, ssl_ca_certs=self.authority, ssl_check_hostname=True, **more)

    def cli(self, *words, stdin=None, tls=False):
        """redis-cli as a person would use it."""
        where = ["-p", str(self.tls_port), "--tls", "--cacert", self.authority] if tls else ["-p", str(self.port)]
        command = ["redis-cli", *where, "--user", "orbit", "--pass", self.password, "--no-auth-warning"]
        result = subprocess.run([*command, *words], capture_output=True, text=True, timeout=PATIENCE, input=stdin)
        return result.stdout.strip()

    def logs(self, lines=15):
        """The ends of all logs, for a failure's message."""
        text = ""
        for path in sorted(pathlib.Path(self.data, "log").glob("*.log")):
            end = path.read_text(errors="replace").splitlines()[-lines:]
            text += f"\n--- {path.name}\n" + "\n".join(end)
        return text


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


@pytest.fixture(scope="session")
def cluster():
    """One cluster for all tests that only use it; each test keeps to keys of its own or flushes."""
    with Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def oracle(tmp_path_factory):
    """The port of a redis-server of its own: started by hand, never as a service."""
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    ports = Ports()
    port = 6379 + ports.offset
    directory = tmp_path_factory.mktemp("oracle")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(directory)],
        stdout=subprocess.PIPE, text=True,
    )
    for line in server.stdout:
        if "Ready to accept" in line:
            break
    yield port
    server.kill()
    server.wait()
    server.stdout.close()
    ports.release()


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(cluster, request):
    """A redis-py client, once per protocol version, on an empty database."""
    connection = cluster.client(protocol=request.param, decode_responses=False)
    connection.flushdb()
    yield connection
    connection.close()

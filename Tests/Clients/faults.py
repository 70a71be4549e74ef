"""Load that records what it was told, and what a faulted cluster is asked afterwards."""

import json
import pathlib
import random
import socket
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, OutOfMemoryError, TryAgainError
from redis.retry import Retry

from conftest import PATIENCE, wait_until
from linearizability import UNKNOWN, Operation, check

SLOTS = 16384
REFUSALS = ("BUSY", "MISCONF", "OOM", "CONFLICT", "DEADLOCK", "LOCKED", "TOOOLD")
KEYS = 60


def slot(key):
    """CRC16 (XMODEM) of the key, as Redis cluster has it; the keys here have no tags."""
    crc = 0
    for byte in key.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % SLOTS


def ask_admin(path, route):
    """A page of an admin socket, without a process in between; None if nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(f"GET {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return body if head.startswith(b"HTTP/1.1 200") else None
    except OSError:
        return None


def admin_status(path):
    """What a process says of itself."""
    body = ask_admin(path, "/status")
    return json.loads(body) if body else None


class View:
    """What coordinators and nodes say of shards and replicas. `nodes` are the names of storage nodes by number."""

    def __init__(self, data, nodes):
        self.run = pathlib.Path(data, "run")
        self.nodes = nodes
        self.newest = {}

    def map(self):
        """What the coordinator that leads says; while none does, what was said last."""
        for path in sorted(self.run.glob("c*.admin")):
            status = admin_status(path) or {}
            if "shards" in status:
                self.newest = status
        return self.newest

    def coordinator(self):
        """The coordinator that leads."""

        def leading():
            statuses = {path.name: admin_status(path) or {} for path in self.run.glob("c*.admin")}
            names = [name for name, status in statuses.items() if "shards" in status]
            return f"coordinator-{names[0][1]}" if len(names) == 1 else None

        return wait_until(leading, what="a leader of the coordinators")

    def replicas(self):
        """The fewest replicas of a shard."""
        return min((len(shard["replicas"]) for shard in self.map().get("shards", [])), default=0)

    def shards(self):
        return [shard["id"] for shard in self.map().get("shards", [])]

    def shard_of(self, key):
        map = self.map()
        bucket = slot(key) * map["buckets"] // SLOTS
        return next(s["id"] for s in map["shards"] if any(low <= bucket < high for low, high in s["buckets"]))

    def node(self, number):
        """Shards by id, as the node sees them."""
        status = admin_status(self.run / f"n{number}.admin") or {}
        return {shard["id"]: shard for shard in status.get("shards", [])}

    def leader(self, shard):
        """The number of the node that serves the shard, as it says itself; None if none does."""
        return next((n for n in range(1, self.nodes + 1) if self.node(n).get(shard, {}).get("leader")), None)

    def wait_led(self):
        wait_until(lambda: all(self.leader(shard) for shard in self.shards()), "a leader of every shard")

    def is_log_full(self, number):
        return b"\norbit_log_full 1" in (ask_admin(self.run / f"n{number}.admin", "/metrics") or b"")

    def describe(self):
        """What each node says of its shards, in one line."""

        def shard(id, row):
            return f"{id}{'*' if row['leader'] else ''}={row['committed']}"

        return "; ".join(
            f"n{number}{' (log full)' if self.is_log_full(number) else ''}: "
            + " ".join(shard(id, row) for id, row in self.node(number).items())
            for number in range(1, self.nodes + 1))

    def agree(self):
        """Whether the replicas of every shard have committed the same length of log, and one of them leads."""
        views = [self.node(number) for number in range(1, self.nodes + 1)]
        for shard in self.shards():
            rows = [view[shard] for view in views if shard in view]
            if len(rows) < self.replicas() or len({row["committed"] for row in rows}) != 1:
                return False
            if sum(row["leader"] for row in rows) != 1:
                return False
        return True


def classify(error):
    """`refused`: it certainly did not happen; `unknown`; `bug`: what no client should ever be told."""
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return "unknown"
    if isinstance(error, (ClusterDownError, TryAgainError, OutOfMemoryError)) or str(error).startswith(REFUSALS):
        return "refused"
    return "unknown" if "outcome is unknown" in str(error) else "bug"


class Client(threading.Thread):
    """One client: connects again after a lost connection, and goes on. Its history is its own until it has stopped."""

    serial = 0

    def __init__(self, load, number, connect):
        super().__init__(daemon=True)
        self.load, self.number, self.connect = load, number, connect
        self.source = random.Random(f"{load.seed}:{number}")
        self.history, self.bugs = [], []
        self.counts = {"done": 0, "refused": 0, "unknown": 0}
        self.writes = 0
        self.redis = None

    def run(self):
        while not self.load.stopping.is_set():
            if not self.redis and not self.open():
                self.load.stopping.wait(0.02)
                continue
            self.perform(*self.choose())
            self.load.stopping.wait(self.load.pause)
        self.close()

    def open(self):
        try:
            # No retries: redis-py would send a write twice and hide that its outcome was unknown.
            client = self.connect(retry=Retry(NoBackoff(), 0), single_connection_client=True)
            client.ping()
        except (redis.RedisError, OSError):
            return False
        self.redis = client
        return True

    def close(self):
        if self.redis:
            self.redis.close()
            self.redis = None

    def choose(self):
        key = self.source.choice(self.load.keys)
        kinds = ["APPEND", "GET", "GET"] if ":list:" in key else ["SET"] * 6 + ["GET"] * 9 + ["DEL"] + ["GETSET"] * 4
        return self.source.choice(kinds), key

    def perform(self, kind, key):
        """One operation, recorded; returns whether it was acknowledged."""
        argument = None
        if kind in ("SET", "GETSET", "APPEND"):
            self.writes += 1
            size = 0 if kind == "APPEND" else self.load.size
            argument = f"{self.number:03}.{self.writes:07};".ljust(size, ".").encode()
        words = [kind, key] if argument is None else [kind, key, argument]
        start, outcome = time.monotonic_ns(), "done"
        try:
            result = self.redis.execute_command(*words)
        except redis.RedisError as error:
            outcome, result = classify(error), UNKNOWN
            if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
                self.close()
            if outcome == "bug":
                self.bugs.append(f"{kind}: {type(error).__name__}: {error}")
                outcome = "unknown"
        end = time.monotonic_ns()
        self.counts[outcome] += 1
        if outcome == "done" or outcome == "unknown" and argument is not None or outcome == "unknown" and kind == "DEL":
            self.history.append(Operation(self.number, kind, key, argument, result, start, end))
        return outcome == "done"


class Prober(Client):
    """Writes one key as fast as it can: how long a shard takes no writes."""

    def __init__(self, load, number, connect, key):
        super().__init__(load, number, connect)
        self.key = key

    def choose(self):
        return "SET", self.key


class Load:
    """Threads of clients on the keys of a round. `connects` make connections (the clients take turns); values of
    registers have at least `size` bytes."""

    def __init__(self, name, connects, clients=10, pause=0.002, probed=(), size=0):
        self.seed = random.SystemRandom().randrange(1 << 32)
        self.name, self.pause, self.connects, self.size = name, pause, connects, size
        self.stopping = threading.Event()
        self.keys = [f"{name}:{'list' if number % 2 else 'register'}:{number}" for number in range(KEYS)]
        self.clients = [Client(self, number, connects[number % len(connects)]) for number in range(clients)]
        self.probers = {}
        for number, key in enumerate(probed):
            pair = [Prober(self, 100 + 2 * number + which, connects[0], key) for which in range(2)]
            self.probers[key] = pair
        for client in self.everybody:
            client.start()

    @property
    def everybody(self):
        return self.clients + [prober for pair in self.probers.values() for prober in pair]

    def done(self):
        return sum(client.counts["done"] for client in self.clients)

    def wait_for(self, operations):
        goal = self.done() + operations
        wait_until(lambda: self.done() >= goal, f"{self.name}: {operations} operations more")

    def gap(self, key, at):
        """Seconds from `at` to the first acknowledgement of a write of `key` that was begun after it."""
        ends = [row.end for prober in self.probers[key] for row in list(prober.history)
                if row.start >= at and row.result is not UNKNOWN]
        return (min(ends) - at) / 1e9 if ends else None

    def stop(self):
        self.stopping.set()
        for client in self.everybody:
            client.join(PATIENCE)
            assert not client.is_alive(), f"client {client.number} hangs"

    def finish(self):
        """Stops, reads every key once more, and checks the history; returns what the keys hold."""
        self.stop()
        bugs = [bug for client in self.everybody for bug in client.bugs]
        assert not bugs, (len(bugs), bugs[:5])
        reader = Client(self, 999, self.connects[0])
        values = {}
        for key in [*self.keys, *self.probers]:
            wait_until(lambda: (reader.redis or reader.open()) and reader.perform("GET", key), f"a read of {key}")
            values[key] = reader.history[-1].result
        reader.close()
        history = [row for client in [*self.everybody, reader] for row in client.history]
        assert check(history) > 0
        return values

    def summary(self):
        total = {name: sum(client.counts[name] for client in self.everybody) for name in ("done", "refused", "unknown")}
        return ", ".join(f"{count} {name}" for name, count in total.items())


def unchanged(connect, values):
    """What earlier rounds left is there still; a pipeline each thousand keys."""
    with connect() as client:
        keys = list(values)
        for start in range(0, len(keys), 1000):
            part = keys[start : start + 1000]
            with client.pipeline(transaction=False) as pipeline:
                for key in part:
                    pipeline.get(key)
                for key, value in zip(part, pipeline.execute()):
                    assert value == values[key], f"{key} was {values[key]!r} and is {value!r}"

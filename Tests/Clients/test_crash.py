"""kill -9 under load: every acknowledged write is there afterwards, whichever process died.

Each round loads the cluster with writers, kills one kind of process in the middle, waits for the supervisor to bring it
back, and reads back everything that was acknowledged. The last round kills everything at once, the supervisor included.
"""

import os
import pathlib
import random
import signal
import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, TryAgainError
from redis.retry import Retry

from conftest import Cluster, kill, wait_until

ROUNDS = int(os.environ.get("ORBIT_CRASH_ROUNDS", "20"))
VICTIMS = [["storage-node-1"], ["resp-gw-1"], ["coordinator-1"], ["storage-node-1", "resp-gw-1"]]
WRITERS = 4


class Writer(threading.Thread):
    """Writes keys of its own and counts a counter, remembering what was acknowledged."""

    def __init__(self, cluster, name):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.prefix = name
        self.acknowledged = {}
        self.counted = 0  # Acknowledged increments.
        self.unknown = 0  # Increments whose outcome the client never learnt.
        self.errors = []
        self.stopping = threading.Event()

    def connect(self):
        # No retries: redis-py would send a write twice and hide that its outcome was unknown.
        return self.cluster.client(retry=Retry(NoBackoff(), 0), socket_connect_timeout=2)

    def run(self):
        client, number = self.connect(), 0
        while not self.stopping.is_set():
            number += 1
            key, value = f"{self.prefix}:{number}", f"{number}:{random.random()}".ljust(64, ".")
            isCounting = False
            try:
                client.set(key, value)
                self.acknowledged[key] = value
                isCounting = True
                client.incr(f"{self.prefix}:count")
                self.counted += 1
            except (redis.ConnectionError, redis.TimeoutError):
                self.unknown += isCounting
                client.close()
                client = self.connect()
                self.stopping.wait(0.02)
            except (ClusterDownError, TryAgainError):
                self.stopping.wait(0.02)  # Refused: it must not have happened, so it does not count as unknown.
            except redis.ResponseError as error:
                if not str(error).startswith("BUSY"):
                    self.unknown += isCounting
                    if "outcome is unknown" not in str(error):
                        self.errors.append(str(error))  # Anything else is a bug.
                self.stopping.wait(0.02)
        client.close()

    def stop(self):
        self.stopping.set()
        self.join(30)
        assert not self.is_alive(), "a writer hangs"


def verify(cluster, writers):
    """Reads back everything acknowledged; counters lie between the acknowledged and the possible."""
    client = cluster.client()
    for writer in writers:
        keys = list(writer.acknowledged)
        for start in range(0, len(keys), 1000):
            part = keys[start : start + 1000]
            with client.pipeline(transaction=False) as pipeline:
                for key in part:
                    pipeline.get(key)
                for key, value in zip(part, pipeline.execute()):
                    assert value == writer.acknowledged[key].encode(), f"{key} is lost or wrong: {value!r}"
        count = int(client.get(f"{writer.prefix}:count") or 0)
        assert writer.counted <= count <= writer.counted + writer.unknown, (writer.counted, count, writer.unknown)
        assert not writer.errors, writer.errors[:3]
    client.close()


def acknowledged(writers):
    return sum(len(writer.acknowledged) for writer in writers)


def load(cluster, name):
    writers = [Writer(cluster, f"{name}:{i}") for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    return writers


@pytest.mark.crash
def test_acknowledged_writes_survive_sigkill():
    with Cluster() as cluster:
        everything = []
        for number in range(ROUNDS):
            victims = VICTIMS[number % len(VICTIMS)]
            writers = load(cluster, f"round{number}")
            everything += writers
            goal = 200 + random.randrange(800)
            wait_until(lambda: acknowledged(writers) >= goal, what=f"round {number}: {goal} writes")
            before = cluster.pids()
            for victim in victims:
                kill(before[victim], signal.SIGKILL)
            wait_until(
                lambda: all(cluster.pids().get(v, before[v]) != before[v] for v in victims),
                what=f"round {number}: the restart of {victims}",
            )
            cluster.wait_ready()
            reached = acknowledged(writers)
            wait_until(lambda: acknowledged(writers) >= reached + 200, what=f"round {number}: writes after the restart")
            for writer in writers:
                writer.stop()
            verify(cluster, writers)
            print(f"round {number}: killed {', '.join(victims)}; {acknowledged(writers)} writes are there")

        writers = load(cluster, "last")
        everything += writers
        wait_until(lambda: acknowledged(writers) >= 500, what="the last load")
        supervisor = cluster.status()["supervisor"]
        for pid in [supervisor, *cluster.pids().values()]:
            kill(pid, signal.SIGKILL)
        for writer in writers:
            writer.stop()
        wait_until(lambda: not pathlib.Path(f"/proc/{supervisor}").exists() or cluster.status()["supervisor"] is None)
        cluster.start()
        verify(cluster, everything)


@pytest.mark.crash
def test_a_node_killed_again_and_again_while_it_recovers():
    """Recovery itself is killed: what it had written so far must not harm the next one."""
    with Cluster() as cluster:
        writers = load(cluster, "recovery")
        wait_until(lambda: acknowledged(writers) >= 2000, what="the load")
        for _ in range(8):
            before = cluster.pids()["storage-node-1"]
            kill(before, signal.SIGKILL)
            wait_until(lambda: cluster.pids().get("storage-node-1", before) != before, what="a new process")
        cluster.wait_ready()
        for writer in writers:
            writer.stop()
        verify(cluster, writers)

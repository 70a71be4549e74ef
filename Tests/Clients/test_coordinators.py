"""Three coordinators: any of them may be lost while nodes renew their leases and gateways watch the shard map."""

import os
import pathlib
import signal

import redis

from conftest import Cluster, wait_until
from faults import admin_status

COORDINATORS = ["coordinator-1", "coordinator-2", "coordinator-3"]


def leader(cluster, without=None):
    """The row of the coordinator that leads; None while nobody does."""
    rows = [row for row in cluster.status()["processes"] if row["role"] == "coordinator" and row["id"] != without]
    leading = [row for row in rows if row["details"].get("raft") == "leads"]
    return leading[0] if len(leading) == 1 else None


def tokens(row):
    """Fencing tokens of the nodes that are up."""
    return {node["id"]: node["fencingToken"] for node in row["details"]["nodes"] if node["state"] == "up"}


def check(cluster, known, watchers, without=None):
    """A leader is there that knows every node's lease as it was, and whom everybody watches again."""

    def is_settled():
        row = leader(cluster, without)
        return row if row and row["details"]["watchers"] >= watchers else None

    row = wait_until(is_settled, what="a leader with watchers")
    assert tokens(row) == known, "no node has lost its lease"
    return row


def write(cluster, round):
    """Keys of every shard; nothing of it needs a coordinator."""
    connection = cluster.client()
    for number in range(50):
        assert connection.set(f"k{number}", round)
    assert {connection.get(f"k{number}") for number in range(50)} == {str(round).encode()}
    connection.close()


def test_each_coordinator_may_die():
    with Cluster("--nodes", "3") as cluster:
        ids = [row["id"] for row in cluster.status()["processes"]]
        assert [name for name in ids if name.startswith("coordinator")] == COORDINATORS
        write(cluster, 0)
        first = wait_until(lambda: leader(cluster), what="a leader")
        watchers = first["details"]["watchers"]
        assert watchers >= 4, "three nodes and a gateway"
        known = tokens(first)
        assert len(known) == 3

        # In turn, and then whoever leads.
        for round, name in enumerate([*COORDINATORS, "leader", "leader"], 1):
            victim = leader(cluster) if name == "leader" else cluster.process(name)
            os.kill(victim["pid"], signal.SIGKILL)
            wait_until(lambda: cluster.process(victim["id"])["pid"] not in (None, victim["pid"]), what="a new pid")
            write(cluster, round)
            check(cluster, known, watchers)
            wait_until(lambda: "raft" in cluster.process(victim["id"])["details"], what="its return")

        # Stopped for longer than an election, a leader finds that it leads no more.
        stopped = wait_until(lambda: leader(cluster), what="a leader")
        os.kill(stopped["pid"], signal.SIGSTOP)
        try:
            write(cluster, 10)
            run = pathlib.Path(cluster.data, "run")
            others = [run / f"c{name[-1]}.admin" for name in COORDINATORS if name != stopped["id"]]
            wait_until(
                lambda: any((admin_status(path) or {}).get("raft") == "leads" for path in others),
                what="another leader",
            )
        finally:
            os.kill(stopped["pid"], signal.SIGCONT)
        check(cluster, known, watchers, without=stopped["id"])

        # One that is asked to go hands over; two are enough for whatever changes the map.
        going = wait_until(lambda: leader(cluster), what="a leader")["id"]
        cluster.orbit("stop", going)
        check(cluster, known, watchers)
        cluster.orbit("stop", "storage-node-2")
        cluster.orbit("start", "storage-node-2")
        wait_until(lambda: len(tokens(leader(cluster) or first)) == 3, what="the node's return")
        wait_until(lambda: can_write(cluster), what="writes to the node that came back")
        moves = cluster.orbit("rebalance", "--dry-run", check=False)
        assert "cannot hand replicas over" in moves.stderr or moves.returncode == 0, "the leader was asked"
        cluster.orbit("start", going)
        cluster.wait_ready()

        # All of it comes back after a stop of everything.
        cluster.down()
        cluster.start()
        assert cluster.client().get("k7") is not None
        again = wait_until(lambda: leader(cluster), what="a leader")
        assert again["details"]["cluster"] == first["details"]["cluster"]
        assert again["details"]["epoch"] > first["details"]["epoch"]


def can_write(cluster):
    try:
        write(cluster, 11)
        return True
    except (redis.RedisError, AssertionError):
        return False

"""Shards on three nodes: any one may die or leave, and clients go on."""

import os
import pathlib
import signal
import threading
import time

import pytest
import redis

from conftest import Cluster, kill, wait_until

NODES = ("storage-node-1", "storage-node-2", "storage-node-3")


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", "3", "--zone", "a,b") as running:
        yield running


class Load:
    """Clients that count each of their keys up; what was acknowledged must never be read lower again."""

    def __init__(self, cluster, clients=4, keys=30):
        self.cluster, self.keys = cluster, keys
        self.acknowledged, self.errors, self.lost = {}, [], []
        self.longest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.acknowledged) > self.keys, what="the load")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        client = self.cluster.client()
        count, last = 0, time.monotonic()
        while not self._stop.is_set():
            key = f"load:{number}:{count % self.keys}"
            try:
                client.set(key, count)
                seen = int(client.get(key))
                if seen != count:
                    self.lost.append((key, count, seen))
                self.acknowledged[key] = count
                now = time.monotonic()
                self.longest, last = max(self.longest, now - last), now
            except redis.RedisError as error:
                self.errors.append(str(error))
            count += 1

    def count(self):
        return sum(self.acknowledged.values())

    def check(self):
        client = self.cluster.client()
        stored = {key: int(client.get(key)) for key in self.acknowledged}
        # A write whose outcome is unknown may have been done: the key is then ahead, never behind.
        behind = {key: (value, stored[key]) for key, value in self.acknowledged.items() if stored[key] < value}
        assert not behind and not self.lost

    def check_errors(self):
        """What was under way at a dead leader, and nothing else: calls that come later wait for the next one. On a
        machine so slow that an election takes longer than a gateway waits for it, they may be refused."""
        print(f"the longest wait: {self.longest:.3f} s")
        known = ("unknown", "lost") if self.longest < 3 else ("unknown", "lost", "leader", "unavailable")
        assert all(any(word in error for word in known) for error in self.errors), set(self.errors)


def shards(cluster, node):
    """What a node says of its shards, by their number."""
    return {row["id"]: row for row in cluster.process(node)["details"]["shards"]}


def has_three_voters(cluster):
    rows = cluster.coordinator()["shards"]
    return all(len(row["replicas"]) == 3 and not row["learners"] and row["settled"] for row in rows)


def zone_order(node):
    """Nodes by their number in the plan: which id each has depends on who registered first."""
    return next(address for address in node["addresses"] if address.startswith("unix:"))


def process_of(cluster, number):
    """The id of the process that the coordinator calls node `number`."""
    nodes = cluster.coordinator()["nodes"]
    addresses = next(node["addresses"] for node in nodes if node["id"] == number)
    rows = cluster.status()["processes"]
    return next(row["id"] for row in rows if set(addresses) & set(row["addresses"]))


def test_every_shard_has_three_replicas(three):
    held = [shards(three, node) for node in NODES]
    assert [len(rows) for rows in held] == [3, 3, 3]
    leaders = [sum(rows[number]["leader"] for rows in held) for number in range(3)]
    assert leaders == [1, 1, 1]


def test_nodes_have_zones_in_turn(three):
    assert [node["zone"] for node in sorted(three.coordinator()["nodes"], key=zone_order)] == ["a", "b", "a"]


def test_users_of_all_shards_are_listed(three):
    names = [f"user{number}" for number in range(12)]
    for name in names:
        three.orbit("user", "add", name, "--generate")
    listed = [line.split()[0] for line in three.orbit("user", "list").stdout.splitlines()]
    assert listed == ["NAME", *sorted(["orbit", *names])]


def test_status_shows_where_shards_are(three):
    three.client().set("status", 1)
    rows = lambda: {row["id"]: row for row in three.coordinator()["shards"]}
    wait_until(lambda: all("rate" in row for row in rows().values()), what="the reports of the nodes")
    text = three.orbit("status").stdout
    heads = [line.split() for line in text.splitlines() if line.startswith(("NODE ", "SHARD "))]
    assert heads == [
        ["NODE", "PROCESS", "STATE", "ZONE", "SHARDS", "LEADS"],
        ["SHARD", "BUCKETS", "LEADER", "REPLICAS", "SIZE", "RATE", "LAG", "UNDER", "WAY"],
    ]
    zones = {node["id"]: node["zone"] for node in three.coordinator()["nodes"]}
    for number, row in rows().items():
        line = next(line for line in text.splitlines() if line.startswith(f"{number}  ") and "/s" in line)
        assert " ".join(f"{node}@{zones[node]}" for node in row["replicas"]) in line


@pytest.mark.parametrize("victim", NODES)
def test_a_node_that_is_killed_costs_a_moment(three, victim):
    with Load(three) as load:
        pid = three.process(victim)["pid"]
        kill(pid, signal.SIGKILL)
        before = load.count()
        wait_until(lambda: load.count() > before + 2000, what="writes without the node")
        wait_until(lambda: three.process(victim).get("pid") not in (None, pid), what="the node's restart")
        three.wait_ready()
    load.check()
    load.check_errors()


def test_a_node_that_stops_hands_over(three):
    with Load(three) as load:
        for node in NODES:
            three.orbit("stop", node)
            before = load.count()
            wait_until(lambda: load.count() > before + 500, what="writes without the node")
            three.orbit("start", node)
            three.wait_ready()
    load.check()
    print(f"the longest wait: {load.longest:.3f} s")


def test_a_node_is_drained_and_comes_back(three):
    with Load(three) as load:
        three.orbit("node", "drain", "3")
        drained = shards(three, process_of(three, 3))
        assert not any(row["leader"] for row in drained.values())
        three.orbit("node", "activate", "3")
        before = load.count()
        wait_until(lambda: load.count() > before + 500, what="writes after the drain")
        # Until then some shards have two voters, and cannot do without either.
        wait_until(lambda: has_three_voters(three), what="the third replica of each shard")
    load.check()
    assert not load.errors, set(load.errors)


def stored(cluster, process):
    """Bytes that a node's store takes on its disk."""
    directory = pathlib.Path(cluster.process(process)["data"], "store")
    size = 0
    for path in directory.iterdir():
        try:
            size += path.stat().st_size
        except FileNotFoundError:  # The store tidies up.
            pass
    return size


def drain_to_nothing(cluster, number, process):
    cluster.orbit("node", "drain", str(number))
    wait_until(lambda: not shards(cluster, process), what="the drained node's replicas to go")
    wait_until(lambda: stored(cluster, process) < 8 << 20, what="the room to be given back")


def test_a_drained_node_keeps_nothing_and_gets_all_back(three):
    client, process = three.client(), process_of(three, 3)
    values = {f"moved:{number}": os.urandom(1 << 20) for number in range(40)}
    for key, value in values.items():
        until_done(lambda: client.set(key, value))
    # A node that stops writes everything to its store.
    three.orbit("stop", process)
    three.orbit("start", process)
    three.wait_ready()
    assert stored(three, process) > 32 << 20
    for is_killed in (False, True):
        drain_to_nothing(three, 3, process)
        pid = three.process(process)["pid"]
        if is_killed:
            kill(pid, signal.SIGKILL)
            wait_until(lambda: three.process(process).get("pid") not in (None, pid), what="the node's restart")
            three.wait_ready()
            assert not shards(three, process) and stored(three, process) < 8 << 20
        three.orbit("node", "activate", "3")
        wait_until(lambda: has_three_voters(three), what="the third replica of each shard")
        if not is_killed:
            assert three.process(process)["pid"] == pid
        wait_until(lambda: len(shards(three, process)) == 3, what="the node's replicas")
    # What came back is what the others have: it alone holds a majority with either of them.
    for other in (node for node in NODES if node != process):
        three.orbit("stop", other)
        for key, value in values.items():
            assert until_done(lambda: client.get(key)) == value
        three.orbit("start", other)
        three.wait_ready()


def until_done(call):
    """Repeats a call that may be repeated, while its outcome is unknown."""
    while True:
        try:
            return call()
        except redis.RedisError as error:
            assert "unknown" in str(error) or "lost" in str(error), error


def test_a_node_that_was_away_for_long_gets_a_snapshot(three):
    three.orbit("stop", "storage-node-3")
    client, values = three.client(), {}
    for number in range(420):  # More than the leaders keep of their logs for a node that is away.
        key = f"large:{number % 60}"
        values[key] = f"{number}:".encode() + b"x" * (1 << 20)
        until_done(lambda: client.set(key, values[key]))
    three.orbit("start", "storage-node-3")
    three.wait_ready()

    def has_caught_up():
        ahead, behind = shards(three, "storage-node-1"), shards(three, "storage-node-3")
        return all(behind[number]["committed"] >= row["committed"] for number, row in ahead.items())

    wait_until(has_caught_up, "catching up")
    sent = pathlib.Path(three.data, "log").glob("storage-node-*.log")
    assert any("a snapshot's transfer has ended" in path.read_text() for path in sent)
    # What it got is what it serves.
    three.orbit("stop", "storage-node-1")
    for key, value in values.items():
        assert until_done(lambda: client.get(key)) == value
    three.orbit("start", "storage-node-1")
    three.wait_ready()


def test_everything_is_there_after_all_processes_were_killed(three):
    with Load(three) as load:
        pass
    for pid in three.pids().values():
        kill(pid, signal.SIGKILL)
    three.wait_ready()
    wait_until(three.answers, what="the gateway")
    load.check()


def test_without_a_majority_writes_wait_and_then_fail_for_certain(three):
    for node in NODES[:2]:
        three.orbit("stop", node)
    with pytest.raises(redis.RedisError) as failure:
        three.client(socket_timeout=30).set("minority", 1)
    assert "leader" in str(failure.value) or "unknown" in str(failure.value)
    for node in NODES[:2]:
        three.orbit("start", node)
    three.wait_ready()
    assert three.client().set("minority", 2)

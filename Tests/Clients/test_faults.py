"""Real faults under load: processes killed and stopped, a network cut in two, a full disk, a clock that steps.

Every round records what ten clients asked and were told, and checks afterwards that one order explains it all, that
every process is up, that the replicas agree, and that what earlier rounds left is still there. ORBIT_FAULT_ROUNDS=20
is the long mode: it also holds the fail-over times to what is asked.
"""

import os
import pathlib
import random
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import threading
import time

import pytest
import redis

import namespaces
from conftest import Cluster, kill, wait_until
from faults import Load, View, unchanged

ROUNDS = int(os.environ.get("ORBIT_FAULT_ROUNDS", "3"))
IS_LONG = ROUNDS >= 20
NODES = 3
STOPPED = 3.0  # Seconds of a SIGSTOP: several leases and elections.
CUT = 15.0 if IS_LONG else 5.0  # Seconds of a cut; the long one outlasts a node's lease at the coordinator.
GATEWAY = "resp-gw-1"
COORDINATOR = "coordinator"  # The one that leads.

pytestmark = pytest.mark.faults


def skip_single(view):
    """There is nothing to fail over to while a shard has one replica."""
    if view.replicas() < 3:
        pytest.skip(f"the cluster keeps {view.replicas()} replica(s) of a shard")


class Faulted:
    """A cluster of processes that tests break, and what all rounds so far have left in it."""

    def __init__(self, cluster, nodes):
        self.cluster, self.view = cluster, View(cluster.data, nodes)
        self.values = {}

    def connect(self, **more):
        return self.cluster.client(**{"socket_timeout": 3, "socket_connect_timeout": 2, **more})

    def load(self, name, **more):
        return Load(name, [self.connect], **more)

    def key_on(self, shard, name):
        """A key of the shard, for a probe."""
        return next(key for key in (f"{name}:probe:{n}" for n in range(10_000)) if self.view.shard_of(key) == shard)

    def settle(self, load):
        """What every round ends with."""
        self.cluster.wait_ready()
        self.view.wait_led()
        load.wait_for(200)
        values = load.finish()
        wait_until(self.view.agree, lambda: f"{load.name}: agreement of the replicas, {self.view.describe()},")
        self.values |= values
        unchanged(self.connect, self.values)
        print(f"{load.name}: {load.summary()}")


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", str(NODES)) as cluster:
        faulted = Faulted(cluster, NODES)
        skip_single(faulted.view)
        yield faulted


def wait_restart(cluster, before, names):
    wait_until(lambda: all(cluster.pids().get(n, before[n]) != before[n] for n in names), f"the restart of {names}")


def report(what, times):
    if times:
        print(f"{what}: p50 {statistics.median(times):.3f} s, max {max(times):.3f} s over {len(times)}: "
              + " ".join(f"{value:.3f}" for value in times))


def lose_leader(faulted, number, fault):
    """A round in which the leader of a shard is lost while it is written; returns how long the shard took no write."""
    view, name = faulted.view, f"{fault}{number}"
    view.wait_led()
    shards = view.shards()
    shard = shards[number % len(shards)]
    key = faulted.key_on(shard, name)
    load = faulted.load(name, probed=[key])
    load.wait_for(500 + random.randrange(500))
    victim = wait_until(lambda: view.leader(shard), f"{name}: a leader of shard {shard}")
    before = faulted.cluster.pids()
    pid = before[f"storage-node-{victim}"]
    kill(pid, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    at = time.monotonic_ns()
    try:
        gap = wait_until(lambda: load.gap(key, at), f"{name}: a write of shard {shard} without node {victim}")
        if fault == "stop":
            wait_until(lambda: time.monotonic_ns() - at >= STOPPED * 1e9, what="the end of the stop")
            wait_until(lambda: view.leader(shard) not in (None, victim), f"{name}: another leader")
    finally:
        kill(pid, signal.SIGCONT)
    if fault == "kill":
        wait_restart(faulted.cluster, before, [f"storage-node-{victim}"])
    faulted.settle(load)
    print(f"{name}: node {victim} led shard {shard}; {gap:.3f} s without")
    return gap


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_the_leader_is_lost(three, fault):
    times = []
    try:
        for number in range(ROUNDS):
            times.append(lose_leader(three, number, fault))
    finally:
        report(f"{fault}: from the leader's loss to the next acknowledged write", times)
    # Seconds: p50 and the longest. A short run, perhaps on a busy machine, only notices that nothing fails over.
    median, longest = {"kill": (1, 3), "stop": (2, 5)}[fault]
    assert max(times) <= (longest if IS_LONG else 60)
    assert not IS_LONG or statistics.median(times) <= median


@pytest.mark.parametrize("victim", [GATEWAY, COORDINATOR])
def test_a_gateway_or_a_coordinator_is_killed(three, victim):
    for number in range(max(1, ROUNDS // 3)):
        load = three.load(f"{victim}:{number}")
        load.wait_for(500)
        before = three.cluster.pids()
        name = three.view.coordinator() if victim == COORDINATOR else victim
        kill(before[name], signal.SIGKILL)
        if victim == COORDINATOR:
            load.wait_for(500)  # Clients go on without it.
        wait_restart(three.cluster, before, [name])
        load.wait_for(500)
        three.settle(load)


def test_a_leader_and_the_coordinator_are_killed_together(three):
    view = three.view
    view.wait_led()
    load = three.load("both")
    load.wait_for(500)
    before = three.cluster.pids()
    victims = [f"storage-node-{view.leader(view.shards()[0])}", view.coordinator()]
    for victim in victims:
        kill(before[victim], signal.SIGKILL)
    wait_restart(three.cluster, before, victims)
    three.settle(load)


def test_every_node_is_killed_at_once(three):
    load = three.load("all")
    load.wait_for(1000)
    before = three.cluster.pids()
    victims = [f"storage-node-{number}" for number in range(1, NODES + 1)]
    for victim in victims:
        kill(before[victim], signal.SIGKILL)
    wait_restart(three.cluster, before, victims)
    three.settle(load)


def test_every_replica_holds_everything(three):
    """Leaders are killed until every replica of every shard has led, and answered for all that was written."""
    view, led = three.view, set()
    wanted = {(shard, node) for shard in view.shards() for node in range(1, NODES + 1)}
    load = three.load("rotation")
    load.wait_for(1000)
    three.settle(load)
    for _ in range(12 if not IS_LONG else 40):
        view.wait_led()
        unchanged(three.connect, three.values)
        led |= {(shard, view.leader(shard)) for shard in view.shards()}
        if led >= wanted:
            break
        before = three.cluster.pids()
        shard = min(wanted - led)[0]
        victim = f"storage-node-{wait_until(lambda: view.leader(shard), f'a leader of shard {shard}')}"
        kill(before[victim], signal.SIGKILL)
        wait_until(lambda: view.leader(shard), f"another leader of shard {shard}")
        wait_restart(three.cluster, before, [victim])
        three.cluster.wait_ready()
    print(f"{len(led & wanted)} of {len(wanted)} replicas have led and held everything")
    assert len(led & wanted) > len(view.shards())


def test_one_node_is_killed_under_load():
    """With one replica nothing fails over; what the restarted node serves must be explained all the same."""
    with Cluster() as cluster:
        faulted = Faulted(cluster, 1)
        times = []
        for number in range(min(ROUNDS, 5)):
            key = faulted.key_on(faulted.view.shards()[0], f"one{number}")
            load = faulted.load(f"one{number}", probed=[key])
            load.wait_for(1000)
            before = cluster.pids()
            kill(before["storage-node-1"], signal.SIGKILL)
            at = time.monotonic_ns()
            times.append(wait_until(lambda: load.gap(key, at), "a write after the restart"))
            faulted.settle(load)
        report("one node: from its end to the next acknowledged write", times)


@pytest.fixture(scope="module")
def split():
    if reason := namespaces.why_not():
        pytest.skip(reason)
    with namespaces.SplitCluster() as cluster:
        skip_single(cluster.view)
        yield cluster


def apart_with_a_gateway(split, leader, peers):
    split.split([leader, "g2"])


def apart_from_its_peers(split, leader, peers):
    split.cut(leader, peers)


def unheard_by_its_peers(split, leader, peers):
    split.mute(leader, peers)


def apart_from_one_peer_and_a_gateway(split, leader, peers):
    split.cut(leader, [peers[0], "g1"])


CUTS = [apart_with_a_gateway, apart_from_its_peers, unheard_by_its_peers, apart_from_one_peer_and_a_gateway]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_the_network_is_cut(split, cut):
    """The leader of a shard is cut off, with clients that still reach it: it must not answer them from the past."""
    view = split.view
    view.wait_led()
    shard = view.shards()[0]
    leader = wait_until(lambda: view.leader(shard), f"a leader of shard {shard}")
    peers = [number for number in range(1, NODES + 1) if number != leader]
    connects = [lambda gateway=gateway, **more: split.connect(gateway, **more) for gateway in ("g1", "g2")]
    load = Load(cut.__name__, connects)
    load.wait_for(500)
    began = time.monotonic()
    try:
        cut(split, f"n{leader}", [f"n{number}" for number in peers])
        if cut is not apart_from_one_peer_and_a_gateway:
            wait_until(
                lambda: any(view.node(number).get(shard, {}).get("leader") for number in peers),
                f"a leader of shard {shard} among nodes {peers}" + split.logs())
            print(f"{cut.__name__}: led by another after {time.monotonic() - began:.3f} s")
        load.wait_for(500)
        wait_until(lambda: time.monotonic() - began > CUT, what="the end of the cut")
    finally:
        split.heal()
    view.wait_led()
    load.wait_for(500)
    load.finish()
    wait_until(view.agree, "agreement of the replicas")
    assert not split.ended(), split.logs()
    print(f"{cut.__name__}: {load.summary()}")


def test_a_stopped_leader_wakes_up_with_questions(split):
    """Gateways leave it with questions that it has not read; what it does with them must not show."""
    view = split.view
    view.wait_led()
    shard = view.shards()[0]
    leader = wait_until(lambda: view.leader(shard), f"a leader of shard {shard}")
    connects = [lambda gateway=gateway, **more: split.connect(gateway, **more) for gateway in ("g1", "g2")]
    load = Load("stopped", connects)
    load.wait_for(500)
    split.signal(f"n{leader}", signal.SIGSTOP)
    try:
        wait_until(lambda: view.leader(shard) not in (None, leader), f"another leader of shard {shard}")
        split.signal("g2", signal.SIGKILL)
        split.start("g2")
        load.wait_for(500)
    finally:
        split.signal(f"n{leader}", signal.SIGCONT)
    load.wait_for(500)
    view.wait_led()
    load.finish()
    wait_until(view.agree, "agreement of the replicas")
    assert not split.ended(), split.logs()
    print(f"stopped: {load.summary()}")


def is_set(split, gateway, key, value):
    """Whether a write was acknowledged."""
    try:
        with split.connect(gateway) as client:
            return client.set(key, value)
    except (redis.RedisError, OSError):
        return False


def value_of(split, gateway, key):
    """What is read; None if nothing is."""
    try:
        with split.connect(gateway) as client:
            return client.get(key)
    except (redis.RedisError, OSError):
        return None


class Question:
    """A read whose answer is waited for later."""

    def __init__(self, client, key):
        self.client = client
        client.connection.send_command("GET", key)

    def is_answered(self):
        try:
            return self.client.connection.can_read()
        except (redis.RedisError, OSError):
            return True

    def answer(self):
        """What was answered, or what was said instead."""
        try:
            return self.client.connection.read_response()
        except (redis.RedisError, OSError) as error:
            return str(error)
        finally:
            self.client.close()


def ask_a_stopped_leader(split, key):
    """Returns what reads were answered that were put into the stopped leader's socket after its successor's write."""
    view = split.view
    view.wait_led()
    shard = view.shard_of(key)
    wait_until(lambda: is_set(split, "g1", key, "old"), f"a write of {key}")
    leader = wait_until(lambda: view.leader(shard), f"a leader of shard {shard}")
    name, peers = f"n{leader}", [number for number in range(1, NODES + 1) if number != leader]
    readers = [split.connect("g1", socket_timeout=60, single_connection_client=True) for _ in range(20)]
    split.signal(name, signal.SIGSTOP)
    try:
        # Nobody but this gateway reaches it, so that it hears of its fall from nobody; and the gateway knows no other.
        split.split([name, "g1"])
        wait_until(
            lambda: any(view.node(number).get(shard, {}).get("leader") for number in peers),
            f"a leader of shard {shard} among nodes {peers}" + split.logs())
        split.signal("g2", signal.SIGKILL)
        split.start("g2")
        wait_until(lambda: is_set(split, "g2", key, "new"), f"a write of {key} by another leader" + split.logs())
        before = split.unread(name, "g1")
        questions = [Question(reader, key) for reader in readers]

        def are_answered():
            return all(question.is_answered() for question in questions)

        wait_until(
            lambda: split.unread(name, "g1") > before or are_answered(), "reads in the socket of a stopped leader")
        split.signal(name, signal.SIGCONT)
        wait_until(
            lambda: not view.node(leader).get(shard, {}).get("leader") or are_answered(),
            "the end of a leadership that nobody follows")
    finally:
        split.signal(name, signal.SIGCONT)
        split.heal()
    answers = [question.answer() for question in questions]
    assert wait_until(lambda: value_of(split, "g2", key), f"a read of {key}") == b"new"
    return answers


def test_a_stopped_leader_does_not_answer_from_the_past(split):
    for number in range(ROUNDS):
        answers = ask_a_stopped_leader(split, f"woken:{number}")
        assert b"old" not in answers, f"{answers.count(b'old')} of {len(answers)} reads are older than they may be"
        print(f"woken:{number}: {answers.count(b'new')} of {len(answers)} reads answered")
    wait_until(split.view.agree, "agreement of the replicas")
    assert not split.ended(), split.logs()


class SmallDisk:
    """A file system in memory, mounted where one node keeps its data."""

    def __init__(self, path, size="160m"):
        self.path = pathlib.Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)], capture_output=True, text=True)
        if result.returncode != 0:
            pytest.skip(f"no file system can be mounted: {result.stderr.strip()}")

    def fill(self):
        """Takes all the room that is left, over and over, until `stop`."""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.hoard, daemon=True)
        self.thread.start()

    def hoard(self):
        with open(self.path / "filler", "ab", buffering=0) as file:
            while not self.stopping.wait(0.01):
                try:
                    while True:
                        file.write(bytes(1 << 16))
                except OSError:
                    pass

    def free(self):
        self.stopping.set()
        self.thread.join()
        (self.path / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_is_full():
    """The node refuses, or stops and is started again; the others go on, and it catches up when there is room."""
    with tempfile.TemporaryDirectory(prefix="orbit-", dir="/tmp") as data:
        disk = SmallDisk(pathlib.Path(data, "storage-node-2"))
        try:
            with Cluster("--nodes", str(NODES), data=data) as cluster:
                faulted = Faulted(cluster, NODES)
                skip_single(faulted.view)
                fill_up(faulted, disk, 2)
        finally:
            disk.close()


def fill_up(faulted, disk, node):
    faulted.view.wait_led()
    began_at = faulted.cluster.process(f"storage-node-{node}")["starts"]
    load = faulted.load("full disk", size=8192)
    load.wait_for(500)
    disk.fill()

    def is_felt():
        row = faulted.cluster.process(f"storage-node-{node}")
        return faulted.view.is_log_full(node) or row["starts"] > began_at or row["state"] != "ready"

    wait_until(is_felt, "a full log")
    before, began = load.done(), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3, what="three seconds without room")
    print(f"{load.done() - before} operations in three seconds without room; {load.summary()}")
    disk.free()
    faulted.settle(load)


def test_a_clock_steps(tmp_path):
    """Wall clocks of single nodes jump by minutes and by milliseconds, forwards and back, by a preloaded library."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler for the clock that steps")
    library, offsets = tmp_path / "stepping_clock.so", tmp_path / "offsets"
    offsets.mkdir()
    source = pathlib.Path(__file__).with_name("stepping_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    cluster = Cluster("--nodes", str(NODES))
    cluster.environment |= {"LD_PRELOAD": str(library), "TEST_CLOCK_DIRECTORY": str(offsets)}
    with cluster:
        faulted = Faulted(cluster, NODES)
        skip_single(faulted.view)
        load = faulted.load("clock")
        for step in (0.2, -0.2, 90, -90, 3600, 0):
            load.wait_for(300)
            faulted.view.wait_led()
            victim = faulted.view.leader(faulted.view.shards()[0])
            pid = cluster.pids()[f"storage-node-{victim}"]
            with open(offsets / str(pid), "r+b") as file:  # Not truncated: the process has it mapped.
                file.write(struct.pack("<q", int(step * 1e9)))
            load.wait_for(300)
        faulted.settle(load)

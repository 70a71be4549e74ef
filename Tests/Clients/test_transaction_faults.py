"""Transactions over several shards while leaders, gateways (the drivers of commits) and all nodes are lost.

Clients run transactions, plain commands and WATCH loops on the same few keys of all shards, and move money between
accounts of all shards. What they were told must be strictly serializable, no money may be made or lost, and nothing of
a transaction may be left: no intent, no lock. ORBIT_FAULT_ROUNDS=20 is the long mode.
"""

import random
import re
import signal
import time

import pytest

from conftest import Cluster, kill, wait_until
from faults import ask_admin
from histories import Bank, TransactionLoad, check_reply, execute
from test_faults import GATEWAY, IS_LONG, NODES, ROUNDS, STOPPED, Faulted, skip_single, wait_restart

SHARDS = 3
FEW = ROUNDS if IS_LONG else 2
LEFT = re.compile(rb"^(orbit_(?:transaction_(?:parts|intents|locks)|lock_waiters)) (\S+)$", re.MULTILINE)
COUNTED = re.compile(rb"^orbit_(transaction\w+_total)(\{.*\})? (\S+)$", re.MULTILINE)

pytestmark = pytest.mark.faults


class WideBank(Bank):
    """Moves money under WATCH, or without a look, so that an account may be in debt; adds up with MGET and EXEC."""

    def audit(self, session):
        if self.audits % 2:
            balances = check_reply(session.ask(["MGET", *self.accounts])[0])
        else:
            balances = execute(session, [["GET", account] for account in self.accounts])
        assert sum(map(int, balances)) == self.ACCOUNTS * self.EACH, (self.audits, balances)
        self.audits += 1

    def transfer(self, session, source, number):
        if source.random() < 0.5:
            super().transfer(session, source, number)
            return
        giver, taker = source.sample(self.accounts, 2)
        amount = source.randint(1, 60)
        execute(session, [["INCRBY", giver, -amount], ["INCRBY", taker, amount]])
        self.moved[number] += 1


class Wide:
    """Both loads on keys of all shards, and what is asked of the cluster when they have ended."""

    def __init__(self, faulted, name):
        self.faulted, self.name = faulted, name
        view = faulted.view
        view.wait_led()
        found = {shard: [] for shard in view.shards()}
        for number in range(40):
            found[view.shard_of(f"{name}{number}")].append(f"{name}{number}")
        # Two slots of each shard: what one shard does for two parts of the keys is one part all the same.
        self.tags = [tags[which] for which in range(2) for tags in found.values()]
        self.load = TransactionLoad(name, faulted.connect, clients=10, tags=self.tags)
        self.bank = WideBank(f"{name}-bank", faulted.connect, clients=6, tags=self.tags)

    def wait_for(self, transactions=100):
        """Until both have got on: that needs all shards."""
        self.bank.wait_for(transactions // 4)
        self.load.wait_for(transactions)

    def settle(self, directory):
        cluster, view = self.faulted.cluster, self.faulted.view
        cluster.wait_ready()
        view.wait_led()
        self.wait_for()
        self.bank.finish()
        outcomes = self.load.finish(directory)
        wait_until(lambda: not self.left(), lambda: f"{self.name}: the end of transactions, {self.left()},")
        wait_until(view.agree, lambda: f"{self.name}: agreement of the replicas, {view.describe()},")
        print(f"{self.name}: {outcomes}, {sum(self.bank.moved)} transfers, {self.bank.audits} audits; {self.counts()}")

    def pages(self):
        run = self.faulted.view.run
        return [ask_admin(run / f"n{number}.admin", "/metrics") for number in range(1, NODES + 1)]

    def left(self):
        """What nodes still have of transactions; a node that does not answer counts."""
        pages = [LEFT.findall(page or b"") for page in self.pages()]
        return [rows for rows in pages if not rows or any(float(value) for _, value in rows)]

    def counts(self):
        """Sums over the nodes, since each was started."""
        total = {}
        for page in self.pages():
            for name, labels, value in COUNTED.findall(page or b""):
                total[(name + labels).decode()] = total.get((name + labels).decode(), 0) + int(float(value))
        assert total["transaction_contradictions_total"] == 0, total
        return total


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", str(NODES), "--shards", str(SHARDS)) as cluster:
        faulted = Faulted(cluster, NODES)
        skip_single(faulted.view)
        yield faulted


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_leader_is_lost(three, tmp_path, fault):
    wide, view = Wide(three, fault), three.view
    for number in range(FEW):
        wide.wait_for()
        view.wait_led()
        shard = view.shards()[number % SHARDS]
        victim = wait_until(lambda: view.leader(shard), f"a leader of shard {shard}")
        name = f"storage-node-{victim}"
        before = three.cluster.pids()
        kill(before[name], signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
        began = time.monotonic()
        try:
            wide.wait_for()
            if fault == "stop":
                wait_until(lambda: time.monotonic() - began >= STOPPED, "the end of the stop")
                wait_until(lambda: view.leader(shard) not in (None, victim), f"another leader of shard {shard}")
        finally:
            kill(before[name], signal.SIGCONT)
        if fault == "kill":
            wait_restart(three.cluster, before, [name])
        three.cluster.wait_ready()
    wide.settle(tmp_path)


def test_the_driver_is_killed(three, tmp_path):
    """Commits that nobody drives any more are brought to an end by the shards."""
    wide = Wide(three, "driver")
    for _ in range(ROUNDS):
        wide.wait_for(20 + random.randrange(100))
        before = three.cluster.pids()
        kill(before[GATEWAY], signal.SIGKILL)
        wait_restart(three.cluster, before, [GATEWAY])
    wide.settle(tmp_path)


def test_every_node_is_killed_at_once(three, tmp_path):
    wide = Wide(three, "all")
    for _ in range(FEW // 2):
        wide.wait_for()
        before = three.cluster.pids()
        victims = [f"storage-node-{number}" for number in range(1, NODES + 1)]
        for victim in victims:
            kill(before[victim], signal.SIGKILL)
        wait_restart(three.cluster, before, victims)
    wide.settle(tmp_path)


def test_a_driver_and_a_leader_are_killed_together(three, tmp_path):
    """The shards have to end it with one of them only just restored."""
    wide, view = Wide(three, "both"), three.view
    for number in range(FEW // 2):
        wide.wait_for()
        view.wait_led()
        shard = view.shards()[number % SHARDS]
        victims = [f"storage-node-{wait_until(lambda: view.leader(shard), f'a leader of shard {shard}')}", GATEWAY]
        before = three.cluster.pids()
        for victim in victims:
            kill(before[victim], signal.SIGKILL)
        wait_restart(three.cluster, before, victims)
    wide.settle(tmp_path)

"""Clients that run transactions over a few hot keys and record what they saw; orbit-simulate checks the recording.

Keys with `list` in their name hold tokens of one width that are only appended (APPEND, GET); the others are registers
that are only overwritten (SET, GET). Every token is written once. docs/simulation.md says what a recording holds.
"""

import json
import os
import random
import subprocess
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from conftest import BIN, PATIENCE, wait_until
from faults import classify

LOST = (redis.ConnectionError, redis.TimeoutError, OSError)
WIDTH = 12
# Keys are left behind after so many transactions: their values would grow for ever.
GENERATION = 400


class Session:
    """A connection that sends what it is given, once: redis-py's own pipelines report a connection that is lost under
    EXEC as a watch that failed, although the outcome is unknown."""

    def __init__(self, connect):
        self.client = connect(retry=Retry(NoBackoff(), 0))
        self.connection = None
        try:
            self.connection = self.client.connection_pool.get_connection()
            if self.ask(["PING"]) != [b"PONG"]:
                raise redis.ConnectionError("it does not answer")
        except LOST:
            self.close()
            raise
        except redis.RedisError as error:  # Nothing was done yet, whatever it is.
            self.close()
            raise redis.ConnectionError(str(error)) from error

    def ask(self, *commands):
        """The replies, errors among them; raises one of LOST when not all came."""
        self.connection.send_packed_command(self.connection.pack_commands(commands))
        return [self._reply() for _ in commands]

    def _reply(self):
        try:
            return self.connection.read_response()
        except LOST:
            raise
        except redis.RedisError as error:
            return error

    def close(self):
        if self.connection:
            self.connection.disconnect()
        self.client.close()


class Refused(Exception):
    """Nothing was done, and never will be."""


class Unknown(Exception):
    """It may have been done."""


def check_reply(reply):
    """Raises what an error means for the transaction; returns any other reply."""
    if not isinstance(reply, redis.RedisError):
        return reply
    if isinstance(reply, ResponseError) and "EXECABORT" in f"{type(reply).__name__} {reply}".upper():
        raise Refused(str(reply))
    raise {"refused": Refused, "unknown": Unknown}.get(classify(reply), AssertionError)(str(reply))


def execute(session, commands):
    """MULTI, the commands, EXEC: their replies, or None where a watch has failed."""
    replies = session.ask(["MULTI"], *commands, ["EXEC"])
    for reply in replies[:-1]:
        if isinstance(reply, redis.RedisError):
            # What was not queued is not executed: whatever EXEC says, it must not be a success.
            assert isinstance(replies[-1], redis.RedisError), (commands, replies)
            check_reply(reply)
    results = check_reply(replies[-1])
    if results is not None:
        wrong = [result for result in results if isinstance(result, redis.RedisError)]
        assert not wrong, (commands, results)
    return results


class TransactionClient(threading.Thread):
    """One client, with a history of its own until it has stopped. A connection that is lost is made again."""

    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.number = load, number
        self.source = random.Random(f"{load.seed}:{number}")
        self.history, self.bugs = [], []
        self.counts = {"committed": 0, "aborted": 0, "unknown": 0}
        self.written = 0
        self.session = None

    def run(self):
        try:
            while not self.load.stopping.is_set():
                if self.open():
                    self.step()
                else:
                    self.load.stopping.wait(0.02)
        except Exception as error:  # Of a thread nobody would hear of it.
            self.bugs.append(f"client {self.number}: {type(error).__name__}: {error}")
        self.close()

    def open(self):
        if self.session is None:
            try:
                self.session = Session(self.load.connect)
            except LOST:
                return False
        return True

    def close(self):
        if self.session:
            self.session.close()
            self.session = None

    def step(self):
        self.source.choice([self.single, self.multi, self.multi, self.watch, self.watch])()

    # What clients do: lists of (kind, key, token or None).

    def choose(self, count, *, only=("read", "write")):
        rows = []
        for _ in range(count):
            key = self.source.choice(self.load.keys())
            if self.source.choice(only) == "read":
                rows.append(("list" if ":list:" in key else "read", key, None))
            else:
                self.written += 1
                token = f"{self.number:03}.{self.written:07};"
                rows.append(("append" if ":list:" in key else "write", key, token))
        return rows

    @staticmethod
    def command(row):
        kind, key, token = row
        return {"append": ["APPEND", key, token], "write": ["SET", key, token]}.get(kind, ["GET", key])

    @staticmethod
    def operation(row, reply):
        """As it is recorded."""
        kind, key, token = row
        if kind == "list":
            text = (reply or b"").decode()
            assert len(text) % WIDTH == 0, (key, text)
            return [kind, key, [text[start : start + WIDTH] for start in range(0, len(text), WIDTH)]]
        if kind == "read":
            return [kind, key, reply.decode() if reply is not None else None]
        return [kind, key, token]

    def single(self):
        """A command outside MULTI is a transaction of its own."""
        rows = self.choose(1)
        self.attempt([], rows, lambda: [check_reply(self.session.ask(self.command(rows[0]))[0])])

    def multi(self):
        rows = self.choose(self.source.randint(1, 4))
        self.attempt([], rows, lambda: self.execute(rows))

    def watch(self):
        """Reads under WATCH, then writes of keys that were read and others, as long as nobody changed what was read."""
        reads = self.choose(self.source.randint(1, 2), only=("read",))
        rows = self.choose(self.source.randint(0, 2))
        _, key, _ = reads[0]
        self.written += 1
        rows.append(("append" if ":list:" in key else "write", key, f"{self.number:03}.{self.written:07};"))
        begin, seen = time.monotonic_ns(), []
        try:
            self.guard([key for _, key, _ in reads])
            for row in reads:
                start = time.monotonic_ns()
                reply = check_reply(self.session.ask(self.command(row))[0])
                seen.append((start, time.monotonic_ns(), self.operation(row, reply)))
        except LOST:
            self.close()
        except (Refused, Unknown):
            self.forget()
        else:
            self.attempt(seen, rows, lambda: self.execute(rows), begin)
            return
        self.alone(seen)

    def guard(self, keys):
        check_reply(self.session.ask(["WATCH", *keys])[0])

    def execute(self, rows):
        return execute(self.session, [self.command(row) for row in rows])

    def forget(self):
        try:
            self.session.ask(["UNWATCH"])
        except LOST:
            self.close()

    def attempt(self, seen, rows, run, begin=None):
        """Runs a transaction and records it. `seen` was read under WATCH before: part of the transaction if that
        commits, reads by themselves in any case."""
        begin, replies = begin or time.monotonic_ns(), None
        try:
            replies = run()
            outcome = "aborted" if replies is None else "committed"
        except LOST:
            self.close()
            outcome = "unknown"
        except Refused:
            outcome = "aborted"
        except Unknown:
            outcome = "unknown"
        end = time.monotonic_ns()
        self.counts[outcome] += 1
        read = [operation for _, _, operation in seen]
        if outcome == "committed":
            operations = read + [self.operation(*pair) for pair in zip(rows, replies, strict=True)]
        else:
            operations = read + [self.operation(row, None) for row in rows if row[2] is not None]
            self.alone(seen)
        self.record(begin, end, outcome, operations)

    def alone(self, seen):
        for begin, end, operation in seen:
            self.record(begin, end, "committed", [operation])

    def record(self, begin, end, outcome, operations):
        row = {"client": self.number, "begin": begin, "outcome": outcome, "operations": operations}
        if outcome == "committed":
            row["end"] = end
        self.history.append(row)


class InteractiveClient(TransactionClient):
    """Every transaction is one of CLIENT TRANSACTION at LEVEL, its operations one after the other."""

    LEVEL = "SERIALIZABLE"

    def step(self):
        rows = self.choose(self.source.randint(1, 4))
        self.attempt([], rows, lambda: self.interact(rows))

    def interact(self, rows):
        check_reply(self.session.ask(["CLIENT", "TRANSACTION", "BEGIN", "ISOLATION", self.LEVEL])[0])
        replies = []
        for row in rows:
            reply = self.session.ask(self.command(row))[0]
            if isinstance(reply, redis.RedisError):
                self.session.ask(["CLIENT", "TRANSACTION", "ROLLBACK"])
                raise Refused(str(reply))
            replies.append(reply)
        check_reply(self.session.ask(["CLIENT", "TRANSACTION", "COMMIT"])[0])
        return replies


class TransactionLoad:
    """Clients on ten hot keys of one tag, which is the name, or of several. `connect` makes a redis-py client, of which
    only the pool is used."""

    def __init__(self, name, connect, clients=20, kind=TransactionClient, tags=None):
        self.name, self.connect, self.tags = name, connect, tags or [name]
        self.seed = os.environ.get("ORBIT_SEED", "1")
        self.stopping = threading.Event()
        self.clients = [kind(self, number) for number in range(clients)]
        for client in self.clients:
            client.start()

    def keys(self):
        generation = self.done() // GENERATION
        kinds = ["list"] * 6 + ["register"] * 4
        tags = [self.tags[number % len(self.tags)] for number in range(10)]
        return [f"{{{tag}}}:{self.name}:{generation}:{kind}:{n}" for n, (tag, kind) in enumerate(zip(tags, kinds))]

    def done(self):
        return sum(client.counts["committed"] for client in self.clients)

    def wait_for(self, transactions):
        goal = self.done() + transactions
        wait_until(lambda: self.bugs() or self.done() >= goal, f"{self.name}: {transactions} transactions more")

    def wait_for_race(self):
        """Until somebody has lost one."""
        wait_until(lambda: self.bugs() or any(client.counts["aborted"] for client in self.clients), "a lost race")

    def bugs(self):
        return [bug for client in self.clients for bug in client.bugs]

    def finish(self, directory, level="strict-serializable"):
        """Stops, reads every key once more, and has the history checked. Returns the counts of all outcomes."""
        self.stopping.set()
        for client in self.clients:
            client.join(PATIENCE)
            assert not client.is_alive(), f"client {client.number} hangs"
        assert not self.bugs(), self.bugs()[:5]
        history = [row for client in self.clients for row in client.history]
        reader = TransactionClient(self, len(self.clients))
        keys = {operation[1] for row in history for operation in row["operations"]}
        rows = [("list" if ":list:" in key else "read", key, None) for key in sorted(keys)]

        def read():
            if not reader.open():
                return False
            reader.attempt([], rows, lambda: reader.execute(rows))
            return reader.counts["committed"] > 0

        wait_until(read, f"{self.name}: a read of all keys")
        reader.close()
        check(history + reader.history, directory / f"{self.name}.jsonl", level)
        return {name: sum(client.counts[name] for client in self.clients) for name in self.clients[0].counts}


def check(history, path, level="strict-serializable"):
    """Fails with what the level forbids of a history."""
    path.write_text("".join(json.dumps(row) + "\n" for row in sorted(history, key=lambda row: row["begin"])))
    command = [str(BIN / "orbit-simulate"), "check", str(path), "--level", level]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, f"{result.returncode}: {result.stdout[-4000:]}{result.stderr}"
    print(result.stdout.strip())


class Bank:
    """Clients that move money between accounts of one tag, which is the name, or of several, and one that adds it up.
    Nothing is made or lost, whatever becomes of a transfer whose outcome nobody knows."""

    ACCOUNTS, EACH = 8, 100

    def __init__(self, name, connect, clients=10, tags=None):
        self.name, self.connect = name, connect
        tags = tags or [name]
        self.accounts = [f"{{{tags[n % len(tags)]}}}:{name}:account:{n}" for n in range(self.ACCOUNTS)]
        self.stopping = threading.Event()
        self.moved, self.failed, self.audits, self.bugs = [0] * clients, [0] * clients, 0, []
        with connect() as client:
            client.mset({account: self.EACH for account in self.accounts})
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        source, session = random.Random(f"{self.name}:{number}"), None
        try:
            while not self.stopping.is_set():
                try:
                    session = session or Session(self.connect)
                    if number == 0:
                        self.audit(session)
                    else:
                        self.transfer(session, source, number)
                except LOST:
                    if session:
                        session.close()
                    session = None
                    self.stopping.wait(0.02)
                except (Refused, Unknown):
                    self.failed[number] += 1
                    session.close()  # And with it what it watched.
                    session = None
                    self.stopping.wait(0.02)
        except Exception as error:
            self.bugs.append(f"{type(error).__name__}: {error}")
        if session:
            session.close()

    def audit(self, session):
        """The sum of all accounts at one time."""
        balances = [int(value) for value in execute(session, [["GET", account] for account in self.accounts])]
        assert sum(balances) == self.ACCOUNTS * self.EACH and min(balances) >= 0, balances
        self.audits += 1

    def transfer(self, session, source, number):
        giver, taker = source.sample(self.accounts, 2)
        check_reply(session.ask(["WATCH", giver, taker])[0])
        held = [int(check_reply(session.ask(["GET", account])[0])) for account in (giver, taker)]
        amount = source.randint(1, 60)
        if held[0] < amount:
            check_reply(session.ask(["UNWATCH"])[0])
            return
        after = execute(session, [["INCRBY", giver, -amount], ["INCRBY", taker, amount]])
        if after is None:
            self.failed[number] += 1
            return
        assert after == [held[0] - amount, held[1] + amount], (held, amount, after)
        self.moved[number] += 1

    def wait_for(self, transfers):
        goal = sum(self.moved) + transfers
        wait_until(lambda: self.bugs or sum(self.moved) >= goal, f"{self.name}: {transfers} transfers more")

    def wait_for_race(self):
        """Until somebody has lost one, and the money was counted meanwhile."""
        wait_until(lambda: self.bugs or any(self.failed) and self.audits, f"{self.name}: a lost race and an audit")

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client hangs"
        assert not self.bugs, self.bugs[:5]

        def audited():
            try:
                session = Session(self.connect)
            except LOST:
                return False
            try:
                self.audit(session)
                return True
            except (*LOST, Refused, Unknown):
                return False
            finally:
                session.close()

        wait_until(audited, f"{self.name}: a last audit")

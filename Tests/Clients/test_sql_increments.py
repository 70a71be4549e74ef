"""Increments by many sessions at once: none that was committed is lost, and none is counted twice, however the row is
found, locked and written. ORBIT_SEED names the order of statements."""

import collections
import os
import random
import threading
import time

import psycopg
import pytest

from conftest import Cluster, wait_until
from test_sql import connect

SESSIONS, ROWS, ROUNDS = 6, 5, int(os.environ.get("ORBIT_INCREMENTS", "25"))
SEED = os.environ.get("ORBIT_SEED", "1")

# Read under a lock, then write what was read, plus one: at every level.
LOCKED = [
    "SELECT n FROM counter WHERE id = %(id)s FOR UPDATE",
    "SELECT n FROM counter WHERE id = %(id)s FOR NO KEY UPDATE",
    "SELECT n FROM counter WHERE id IN (%(id)s, -1) FOR UPDATE",
    "SELECT n FROM counter WHERE id BETWEEN %(id)s AND %(id)s FOR UPDATE",
    "SELECT n FROM counter WHERE name = 'row ' || %(id)s FOR UPDATE",
    "SELECT n FROM counter WHERE kind = %(id)s %% 2 AND id = %(id)s FOR UPDATE",
    "SELECT n FROM counter WHERE kind + 0 = %(id)s %% 2 AND id + 0 = %(id)s FOR UPDATE",
    "SELECT n FROM (SELECT id, n FROM counter) c WHERE id = %(id)s FOR UPDATE",
    "WITH c AS (SELECT n FROM counter WHERE id = %(id)s FOR UPDATE) SELECT n FROM c",
    "SELECT c.n FROM counter c JOIN place p ON p.counter = c.id WHERE p.id = %(id)s FOR UPDATE OF c",
    "SELECT n FROM counter WHERE id = (SELECT counter FROM place WHERE id = %(id)s) FOR UPDATE",
    "SELECT n FROM counter ORDER BY id LIMIT 1 OFFSET %(id)s FOR UPDATE",
]
# Read without one: an increment that would be lost is refused from REPEATABLE READ on.
PLAIN = [
    "SELECT n FROM counter WHERE id = %(id)s",
    "SELECT n FROM counter WHERE name = 'row ' || %(id)s",
    "SELECT sum(n)::int FROM counter WHERE id = %(id)s",
    "SELECT max(n) FROM counter WHERE kind = %(id)s %% 2 AND id = %(id)s",
]
# What is written by what is read: `n` is a parameter.
SETTING = [
    "UPDATE counter SET n = %(n)s WHERE id = %(id)s",
    "UPDATE counter SET n = %(n)s WHERE name = 'row ' || %(id)s",
    "INSERT INTO counter VALUES (%(id)s, 'row ' || %(id)s, 0, 0) ON CONFLICT (id) DO UPDATE SET n = %(n)s",
    "WITH w AS (UPDATE counter SET n = %(n)s WHERE id = %(id)s RETURNING id) SELECT * FROM w",
]
# In one statement, at every level.
ADDING = [
    "UPDATE counter SET n = n + 1 WHERE id = %(id)s",
    "UPDATE counter SET n = n + 1 WHERE id = %(id)s RETURNING n",
    "UPDATE counter SET n = n + 1 WHERE name = 'row ' || %(id)s",
    "UPDATE counter SET n = n + 1 WHERE id BETWEEN %(id)s AND %(id)s",
    "UPDATE counter SET n = n + 1 WHERE kind = %(id)s %% 2 AND id = %(id)s",
    "UPDATE counter c SET n = c.n + 1 FROM place p WHERE p.counter = c.id AND p.id = %(id)s",
    "INSERT INTO counter VALUES (%(id)s, 'row ' || %(id)s, 0, 0) ON CONFLICT (id) DO UPDATE SET n = counter.n + 1",
    "INSERT INTO counter VALUES (99, 'row ' || %(id)s, 0, 0) ON CONFLICT (name) DO UPDATE SET n = counter.n + 1",
    "WITH w AS (UPDATE counter SET n = n + 1 WHERE id = %(id)s RETURNING id) SELECT * FROM w",
]


@pytest.fixture(scope="module", params=[1, 4], ids=["one shard", "four shards"])
def cluster(request):
    with Cluster("--shards", str(request.param)) as running:
        wait_until(lambda: connect(running), "a connection")
        yield running


class Session(threading.Thread):
    def __init__(self, cluster, number, level, end):
        super().__init__(daemon=True)
        self.connection = connect(cluster, prepare_threshold=random.Random(f"{SEED} {number}").choice([0, 3, None]))
        self.random = random.Random(f"{SEED} {level} {number}")
        self.level, self.end = level, end
        self.done, self.failure, self.refused = collections.Counter(), None, 0

    def run(self):
        try:
            for _ in range(ROUNDS):
                self.increment()
        except BaseException as failure:
            self.failure = failure
        finally:
            self.connection.close()

    def increment(self):
        """One increment, tried until it is committed."""
        row = {"id": self.random.randrange(ROWS)}
        is_alone = self.random.random() < 0.2
        adding = self.random.choice(ADDING)
        reading = self.random.choice(LOCKED + (PLAIN if self.level != "READ COMMITTED" else []))
        setting = self.random.choice(SETTING)
        adds = self.random.random() < 0.4
        while True:
            assert time.monotonic() < self.end, f"no progress: {reading if not adds else adding}"
            try:
                if is_alone:
                    self.connection.execute(adding, row)
                else:
                    self.connection.execute(f"BEGIN ISOLATION LEVEL {self.level}")
                    if adds:
                        self.connection.execute(adding, row)
                    else:
                        number, = self.connection.execute(reading, row).fetchone()
                        written = self.connection.execute(setting, row | {"n": number + 1}).rowcount
                        assert written == 1, setting
                    self.connection.execute("COMMIT")
                self.done[row["id"]] += 1
                return
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                self.refused += 1
                if not is_alone:
                    self.connection.execute("ROLLBACK")


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_no_increment_is_lost(cluster, level):
    with connect(cluster) as connection:
        connection.execute("DROP TABLE IF EXISTS counter, place")
        connection.execute("CREATE TABLE counter (id int PRIMARY KEY, name text UNIQUE, kind int, n int)")
        connection.execute("CREATE INDEX ON counter (kind)")
        connection.execute("CREATE TABLE place (id int PRIMARY KEY, counter int)")
        connection.execute(f"INSERT INTO counter SELECT g, 'row ' || g, g % 2, 0 FROM generate_series(0, {ROWS - 1}) g")
        connection.execute(f"INSERT INTO place SELECT g, g FROM generate_series(0, {ROWS - 1}) g")
        sessions = [Session(cluster, number, level, time.monotonic() + 120) for number in range(SESSIONS)]
        for session in sessions:
            session.start()
        for session in sessions:
            session.join()
        for session in sessions:
            if session.failure:
                raise AssertionError(f"seed {SEED}") from session.failure
        expected = sum((session.done for session in sessions), collections.Counter())
        found = dict(connection.execute("SELECT id, n FROM counter"))
        assert found == dict(expected), f"seed {SEED}, refused {sum(s.refused for s in sessions)}"

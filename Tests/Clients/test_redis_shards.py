"""A cluster of three shards answers as redis-server does, also where the keys of a command are on several of them."""

import os
import threading

import pytest
from redis.exceptions import ResponseError

from conftest import Cluster
from test_redis_oracle import COMMANDS, Commands, Wire, same

SEED = int(os.environ.get("ORBIT_ORACLE_SEED", "11"))


@pytest.fixture(scope="module")
def sharded():
    with Cluster("--shards", "3") as running:
        yield running


@pytest.fixture
def pair(oracle, sharded):
    """Connections to both, empty."""
    theirs, ours = Wire(oracle), Wire(sharded.port)
    assert ours.ask("AUTH", "orbit", sharded.password) == "+OK"
    for wire in (theirs, ours):
        assert wire.ask("FLUSHALL") == "+OK"
    yield theirs, ours
    for wire in (theirs, ours):
        wire.socket.close()


def test_random_commands(pair):
    theirs, ours = pair
    commands, history = Commands(SEED), []
    for number in range(COMMANDS):
        command = commands.next()
        history.append(command)
        expected, actual = theirs.ask(*command), ours.ask(*command)
        assert same(command, expected, actual), (
            f"ORBIT_ORACLE_SEED={SEED}, command {number}: {command}\nredis {expected!r}\norbit {actual!r}\n"
            f"before: {history[-6:-1]}"
        )


@pytest.mark.parametrize(
    "script",
    [
        "SET a 1; EXPIREAT a 9999999999; RENAME a b; EXPIRETIME b; GET b; EXISTS a; RENAME a b; RENAME b b; GET b",
        "SET a 1; SET b 2; SET c 3; RENAMENX a b; RENAMENX a d; RENAMENX d d; RENAMENX x b; MGET a b c d",
        "HSET a f v g w; APPEND s 12; COPY a b; COPY s c; COPY a c; COPY a c REPLACE; COPY a b DB 3; HLEN c; "
        "OBJECT ENCODING c; SELECT 3; HGET b f; SELECT 0; COPY x y",
        "SET a abc; SET b abd; SET c xyz; BITOP AND d a b c; GET d; BITOP OR d a b x; GET d; BITOP XOR d x y; "
        "EXISTS d; HSET h f v; BITOP OR d a h; BITOP NOT h a; GET h; LCS a b; "
        "LCS a b LEN; LCS a b IDX; LCS a x; HSET c f v; "
        "LCS a b c; HSET g f v; LCS a g",
        "SET a 1; SET b 2; MULTI; GET a; RENAME a c; RENAME x y; COPY b d; RENAMENX p q; EXEC; MGET a b c d",
        "SET a 1; MULTI; RENAMENX a b; GET b; SET b 2; MSETNX p 1 q 2 r 3; EXEC; MGET a b p q r",
        "MSET a 1 b 2; MULTI; MSETNX a 1 q 2 r 3; BITOP NOT n b; LCS b z LEN; EXEC; EXISTS q; GET n",
        "SET a 1; WATCH a; RENAME a b; MULTI; RENAME b c; EXEC; GET b",
        "SET a 1; WATCH a; MULTI; RENAME a c; EXEC; GET c",
        "MSET a 1 b 2 c 3; MULTI; SET a 5; FLUSHALL; SET b 6; DBSIZE; EXEC; MGET a b c; DBSIZE; KEYS *",
        "MSET a 1 b 2 c 3; SELECT 1; SET z 1; SELECT 0; MULTI; FLUSHDB; MSET x 1 y 2; EXEC; DBSIZE; SELECT 1; "
        "DBSIZE",
        "MSET a 1 b 2 c 3; WATCH a; MULTI; FLUSHALL; EXEC; WATCH a; SET a 1; MULTI; FLUSHALL; EXEC; DBSIZE",
    ],
)
def test_several_shards(pair, script):
    theirs, ours = pair
    for wire in pair:
        wire.ask("SELECT", "0")
    for line in script.split("; "):
        expected, actual = theirs.ask(*line.split(" ")), ours.ask(*line.split(" "))
        assert same(line.split(" "), expected, actual), (line, expected, actual)


def test_what_depends_on_the_transaction_is_refused(pair):
    """The value would have to be known before the transaction begins. Nothing of it is done."""
    ours = pair[1]
    for line in ("MULTI", "SET a 1", "RENAME a b", "RENAME b c", "RENAME c d"):
        ours.ask(*line.split(" "))
    refusal = ours.ask("EXEC")
    assert refusal.startswith("-CROSSSLOT") and "cannot follow" in refusal
    assert ours.ask("EXISTS", "a", "b", "c", "d") == ":0"


def test_large_values(sharded):
    with sharded.client() as client:
        text, fields = b"x" * (8 << 20), {f"field-{number}": "v" * 50 for number in range(20_000)}
        client.set("long", text)
        client.hset("wide", mapping=fields)
        for number in range(5):  # On whatever shards.
            client.rename("long" if number == 0 else f"long-{number - 1}", f"long-{number}")
            client.rename("wide" if number == 0 else f"wide-{number - 1}", f"wide-{number}")
        assert client.get("long-4") == text and client.hlen("wide-4") == len(fields)
        assert client.exists("long", "wide", *(f"{kind}-{n}" for kind in ("long", "wide") for n in range(4))) == 0


def test_no_update_is_lost(sharded):
    """Clients add to a counter that another one takes away, by renaming it to keys of other shards, again and again."""
    clients, times, taken, failures = 4, 200, [], []
    bins = [f"bin{number}" for number in range(6)]  # On all shards.

    def run(work):
        try:
            with sharded.client() as client:
                work(client)
        except Exception as error:
            failures.append(error)

    def add(client):
        for _ in range(times):
            client.incr("counter")

    def take(client):
        number = 0
        while True:
            is_last = not any(thread.is_alive() for thread in adders)
            number += 1
            try:
                client.rename("counter", bins[number % len(bins)])
                taken.append(int(client.getdel(bins[number % len(bins)])))
            except ResponseError as error:
                assert "BUSY" in str(error) or "no such key" in str(error)  # Nothing was done.
                if is_last and "no such key" in str(error):
                    return

    with sharded.client() as client:
        client.delete("counter", *bins)
    adders = [threading.Thread(target=run, args=(add,), daemon=True) for _ in range(clients)]
    taker = threading.Thread(target=run, args=(take,), daemon=True)
    for thread in (*adders, taker):
        thread.start()
    for thread in (*adders, taker):
        thread.join()
    assert not failures, failures[:3]
    assert sum(taken) == clients * times, taken

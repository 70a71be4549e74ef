"""Channels, and what is told on them of keys: compared with redis-server, and while leaders are killed.

No test waits for silence: what must not come would have come before something that must.
"""

import os
import random
import signal
import socket
import subprocess
import threading

import pytest
import redis

from conftest import Cluster, kill, wait_until
from test_redis_oracle import Wire, pair  # noqa: F401 (a fixture)

SEED = int(os.environ.get("ORBIT_SEED", "7"))
OPTION = "notify-keyspace-events"


@pytest.fixture(autouse=True)
def silence(cluster):
    yield
    cluster.client().config_set(OPTION, "")


def listener(cluster, *patterns, protocol=2, channels=(), **more):
    """A redis-py PubSub whose subscriptions are confirmed."""
    pubsub = cluster.client(protocol=protocol, **more).pubsub()
    if patterns:
        pubsub.psubscribe(*patterns)
    if channels:
        pubsub.subscribe(*channels)
    for _ in range(len(patterns) + len(channels)):
        message = pubsub.get_message(timeout=60)
        assert message["type"] in ("psubscribe", "subscribe"), message
    return pubsub


def messages(pubsub, end):
    """Everything up to the message that `end` is true of."""
    found = []
    while not found or not end(found[-1]):
        message = pubsub.get_message(timeout=60)
        assert message, f"nothing came any more after {found}"
        found.append(message)
    return found


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_listens(cluster, protocol):
    client = cluster.client()
    client.config_set(OPTION, "KEA")
    assert client.config_get(OPTION) == {OPTION: "AKE"}
    pubsub = listener(cluster, "__keyevent@0__:*", protocol=protocol, channels=["__keyspace@0__:user:1"])
    assert client.pubsub_numpat() == 1
    assert client.pubsub_numsub("__keyspace@0__:user:1") == [(b"__keyspace@0__:user:1", 1)]
    assert client.pubsub_channels("__keyspace*") == [b"__keyspace@0__:user:1"]
    client.set("user:1", "x")
    client.hset("user:2", "f", "v")
    client.delete("user:1", "user:2")
    client.set("end", "")
    told = messages(pubsub, lambda message: message["data"] == b"end")
    assert [(m["type"], m["channel"], m["data"]) for m in told] == [
        ("message", b"__keyspace@0__:user:1", b"set"),
        ("pmessage", b"__keyevent@0__:set", b"user:1"),
        ("pmessage", b"__keyevent@0__:hset", b"user:2"),
        ("message", b"__keyspace@0__:user:1", b"del"),
        ("pmessage", b"__keyevent@0__:del", b"user:1"),
        ("pmessage", b"__keyevent@0__:del", b"user:2"),
        ("pmessage", b"__keyevent@0__:set", b"end"),
    ]
    pubsub.punsubscribe()
    pubsub.unsubscribe()
    messages(pubsub, lambda message: message["type"] == "unsubscribe")
    wait_until(lambda: client.pubsub_numpat() == 0 and client.pubsub_channels() == [])
    pubsub.close()


def test_more_is_wanted_while_it_runs(cluster):
    """The gateway asks for what its clients listen to; a second client must not cost the first one anything."""
    client = cluster.client()
    client.config_set(OPTION, "KEA")
    first = listener(cluster, channels=["__keyspace@0__:a"])
    client.set("a", 1)
    second = listener(cluster, "__keyspace@*__:*")
    client.set("a", 2)
    client.execute_command("SELECT", 0)
    with cluster.client(db=3) as other:
        other.set("a", 3)
    client.set("b", 4)
    client.delete("a")
    told = messages(first, lambda message: message["data"] == b"del")
    assert [message["data"] for message in told] == [b"set", b"set", b"del"]
    told = messages(second, lambda message: message["data"] == b"del")
    assert [(message["channel"], message["data"]) for message in told] == [
        (b"__keyspace@0__:a", b"set"), (b"__keyspace@3__:a", b"set"), (b"__keyspace@0__:b", b"set"),
        (b"__keyspace@0__:a", b"del"),
    ]
    # And it stops where the setting says so.
    client.config_set(OPTION, "Kg")
    client.set("a", 5)
    client.delete("a")
    told = messages(second, lambda message: True)
    assert (told[0]["channel"], told[0]["data"]) == (b"__keyspace@0__:a", b"del")


def test_redis_cli_listens(cluster):
    cluster.client().config_set(OPTION, "Kg$")
    command = [
        "redis-cli", "-p", str(cluster.port), "--user", "orbit", "--pass", cluster.password, "--no-auth-warning",
        "--csv", "subscribe", "__keyspace@0__:cli",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("Reading messages")
        assert process.stdout.readline() == '"subscribe","__keyspace@0__:cli",1\n'
        cluster.client().set("cli", "x")
        assert process.stdout.readline() == '"message","__keyspace@0__:cli","set"\n'
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# One behind the other, on an empty database.
COMMANDS = """
SET a 1|SET a 2 NX|SET b 2 XX|SET a 2 XX|SET a 3 EX 1000|SET a 4 KEEPTTL|SET a 5 GET|SETNX a 1|SETNX c 1
SETEX d 1000 v|PSETEX d 1000000 v|GETSET a 7|MSET a 1 e 2 e 3|MSETNX a 1 f 2|MSETNX f 1 g 2
APPEND a x|APPEND h y|APPEND a ''|SETRANGE a 1 zz|SETRANGE a 1 ''|SETRANGE i 0 z|SETRANGE j 5 ''
INCR n|DECR n|INCRBY n 5|DECRBY n 2|INCRBYFLOAT n 1.5|INCR a|INCRBYFLOAT a 1|GETDEL a|GETDEL a|GETDEL none
GETEX d|GETEX d EX 100|GETEX d PERSIST|GETEX d PERSIST|GETEX d EXAT 1|GETEX d
SETBIT k 7 1|SETBIT k 7 1|SETBIT k 7 0|SETBIT k 100 0|BITFIELD k SET u8 0 255|BITFIELD k GET u8 0
BITFIELD k SET u8 0 255|BITFIELD k INCRBY u8 0 1 GET u4 0|BITFIELD new SET u8 0 0
BITOP NOT l k|BITOP AND l none|BITOP AND l none|BITOP OR m k h|SETBIT m 0 2|BITOP NOT k
HSET o f 1|HSET o f 1 g 2|HMSET o x 1|HSETNX o f 2|HSETNX o y 2|HINCRBY o f 3|HINCRBYFLOAT o f 1.5|HINCRBY p f 3
HDEL o none|HDEL o f none|HDEL o g x y|HDEL o g|HSET h f v|INCR p|HINCRBYFLOAT q f 2
EXPIRE p 1000|PEXPIRE p 1000000|EXPIREAT p 99999999999|EXPIRE p 10 NX|EXPIRE p 10 GT|PERSIST p|PERSIST p
EXPIRE none 10|EXPIRE p -1|PEXPIREAT q 1|SET a 1|SET b 2|DEL a none a b|UNLINK a|SET a 1|UNLINK a a
SET a 1|SET b 1|RENAME a c|RENAME c c|RENAMENX c b|RENAMENX c a|RENAME none a|COPY a z|COPY a z|COPY a z REPLACE
COPY a a DB 3|MOVE a 3|MOVE z 3|MOVE none 3|TOUCH a|GET a|EXISTS a|TYPE a
SET w 1 EX 100|RENAME w v|COPY v u|HSET big 1 2 3 4 5 6|RENAME big small|HDEL small 1 3 5
SELECT 3|SET a 1|DEL a|FLUSHDB|SET a 1|SELECT 0
MULTI|SET a 1|INCR a|DEL a|SET a x|INCR a|EXEC|MULTI|SET discarded 1|DISCARD
WATCH a|SET a 2|MULTI|SET a never|EXEC|UNWATCH
"""


def both(pair, oracle, cluster, flags):  # noqa: F811
    """Listeners to everything of both servers, at these classes."""
    wires = [Wire(oracle), Wire(cluster.port)]
    wires[1].ask("AUTH", "orbit", cluster.password)
    for wire, speaker in zip(wires, pair):
        assert speaker.ask("CONFIG", "SET", OPTION, flags) == "+OK"
        assert wire.ask("PSUBSCRIBE", "__key*__:*") == [b"psubscribe", b"__key*__:*", ":1"]
    return wires


def until_end(wire):
    """Channels and messages up to the key `end`, which is left out."""
    told = []
    while True:
        kind, _, channel, data = wire.reply()
        assert kind == b"pmessage"
        if channel == b"__keyevent@0__:set" and data == b"end":
            return [item for item in told if item[0] != b"__keyspace@0__:end" and item[1] != b"end"]
        told.append((channel, data))


def compare(pair, oracle, cluster, commands, flags):  # noqa: F811
    wires = both(pair, oracle, cluster, flags)
    for words in commands:
        answers = [speaker.ask(*words) for speaker in pair]
        assert answers[0] == answers[1], words
    for speaker in pair:
        speaker.ask("SET", "end", "")
    theirs, ours = [until_end(wire) for wire in wires]
    for wire in wires:
        wire.socket.close()
    pair[0].ask("CONFIG", "SET", OPTION, "")
    assert ours == theirs
    return ours


def test_the_sequence_is_that_of_redis(pair, oracle, cluster):  # noqa: F811
    commands = [
        [word if word != "''" else "" for word in command.split()]
        for line in COMMANDS.strip().splitlines() for command in line.split("|")
    ]
    told = compare(pair, oracle, cluster, commands, "KEAn")
    assert len(told) > 150


def test_random_sequences_are_those_of_redis(pair, oracle, cluster):  # noqa: F811
    source = random.Random(SEED)

    def command():
        key, other = source.choice("abcdef"), source.choice("abcdef")
        number = source.choice(["0", "1", "-1", "7"])
        return source.choice([
            ["SET", key, number], ["SET", key, "x", "EX", "1000"], ["SET", key, "", "NX"], ["DEL", key, other],
            ["INCRBY", key, number], ["APPEND", key, source.choice(["", "x"])], ["SETRANGE", key, "2", "y"],
            ["SETBIT", key, source.choice(["0", "9", "77"]), source.choice(["0", "1"])], ["GETDEL", key],
            ["BITFIELD", key, "SET", "u4", "3", number], ["BITOP", "XOR", key, other, source.choice("abcdef")],
            ["HSET", key, source.choice("xyz"), number], ["HDEL", key, "x", "y"], ["HINCRBY", key, "x", number],
            ["EXPIRE", key, source.choice(["1000", "-1"])], ["PERSIST", key], ["RENAME", key, other],
            ["RENAMENX", key, other], ["COPY", key, other, "REPLACE"], ["MOVE", key, "4"],
            ["MSET", key, "1", other, "2"], ["MSETNX", key, "1", other, "2"], ["GETEX", key, "PERSIST"],
            ["MULTI"], ["EXEC"], ["FLUSHALL"],
        ])

    # MULTI and EXEC as they come: what is in between is queued, and an EXEC without MULTI is an error for both.
    compare(pair, oracle, cluster, [command() for _ in range(600)] + [["DISCARD"]], "EAn")


def test_keys_expire(cluster, oracle, pair):  # noqa: F811
    """`expired` comes when the key is collected, once; and before what a write makes of the key."""
    wires = both(pair, oracle, cluster, "Exg$")
    for speaker, wire in zip(pair, wires):
        speaker.ask("PSETEX", "k", "1", "v")
        told = [wire.reply()[2:] for _ in range(3)]
        assert told == [
            [b"__keyevent@0__:set", b"k"], [b"__keyevent@0__:expire", b"k"], [b"__keyevent@0__:expired", b"k"],
        ]
        speaker.ask("SET", "k", "v")
        assert wire.reply()[2:] == [b"__keyevent@0__:set", b"k"]
        speaker.ask("CONFIG", "SET", OPTION, "")


def test_transactions_tell_what_is_committed(cluster):
    client = cluster.client()
    client.config_set(OPTION, "EA")
    wire = Wire(cluster.port)
    wire.ask("AUTH", "orbit", cluster.password)
    pubsub = listener(cluster, "__keyevent@0__:*")
    for end in ("ROLLBACK", "COMMIT"):
        assert wire.ask("CLIENT", "TRANSACTION", "BEGIN") == "+OK"
        wire.ask("SET", "in", end)
        wire.ask("CLIENT", "TRANSACTION", "SAVEPOINT", "s")
        wire.ask("SET", "undone", "x")
        wire.ask("CLIENT", "TRANSACTION", "ROLLBACK", "TO", "s")
        wire.ask("HSET", "hash", "f", "v")
        client.set("out", "x")
        assert wire.ask("CLIENT", "TRANSACTION", end) == "+OK"
    client.set("end", "")
    told = messages(pubsub, lambda message: message["data"] == b"end")
    assert [message["data"] for message in told] == [b"out", b"out", b"in", b"hash", b"end"]


def test_a_client_that_does_not_read_is_closed(cluster):
    client = cluster.client()
    client.config_set(OPTION, "KEA")
    client.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    try:
        pubsub = listener(cluster, "*")
        slow = socket.create_connection(("127.0.0.1", cluster.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"AUTH orbit {cluster.password}\r\nPSUBSCRIBE *\r\n".encode())
        wait_until(lambda: client.pubsub_numpat() == 1 and len(client.client_list(_type="pubsub")) == 2)
        key, number = b"k" * 30_000, 0
        while len(client.client_list(_type="pubsub")) == 2:
            number += 1
            client.set(key, number)
            told = messages(pubsub, lambda message: message["data"] == key)
            assert len(told) == 2
            assert number < 10_000
        slow.close()
    finally:
        client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")


def test_channels_are_rights(cluster):
    root = cluster.client()
    root.execute_command("ACL", "SETUSER", "ear", "on", ">pw", "+@all", "~*", "resetchannels", "&__keyspace@0__:e*")
    try:
        options = {"username": "ear", "password": "pw"}
        wait_until(lambda: "ear" in root.acl_users())
        pubsub = listener(cluster, channels=["__keyspace@0__:ear"], **options)
        other = cluster.client(**options).pubsub()
        other.subscribe("__keyspace@0__:x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            other.get_message(timeout=60)
        root.execute_command("ACL", "SETUSER", "ear", "resetchannels")
        # Closed; and redis-py, which then subscribes again, is refused.
        with pytest.raises(redis.exceptions.RedisError):
            while True:
                pubsub.parse_response(block=True)
    finally:
        root.acl_deluser("ear")


# MARK: several nodes


@pytest.fixture(scope="module")
def three():
    with Cluster("--nodes", "3", "--shards", "3") as running:
        running.client().config_set(OPTION, "KEAn")
        yield running


def test_keys_move_between_shards(three):
    """RENAME and COPY over shards tell what they tell on one."""
    client = three.client()
    pubsub = listener(three, "__keyevent@0__:*")
    for number in range(8):
        client.set(f"from{number}", "x")
        client.copy(f"from{number}", f"copy{number}")
        client.rename(f"from{number}", f"to{number}")
        client.hset(f"h{number}", mapping={"f": "v"})
        client.renamenx(f"h{number}", f"hh{number}")
        client.mset({f"m{number}": "1", f"n{number}": "2"})
    client.set("end", "")
    told = {}
    for message in messages(pubsub, lambda m: m["channel"] == b"__keyevent@0__:set" and m["data"] == b"end"):
        told.setdefault(message["data"].decode(), []).append(message["channel"].decode().split(":")[1])
    for number in range(8):
        assert told[f"from{number}"] == ["new", "set", "rename_from"]
        assert told[f"to{number}"] == ["new", "rename_to"]
        assert told[f"copy{number}"] == ["new", "copy_to"]
        assert told[f"h{number}"] == ["new", "hset", "rename_from"]
        assert told[f"hh{number}"] == ["new", "rename_to"]
        assert told[f"m{number}"] == told[f"n{number}"] == ["new", "set"]


class Speaker(threading.Thread):
    """Appends to keys of its own, each twice, and knows which answers it has."""

    def __init__(self, cluster, number):
        super().__init__(daemon=True)
        self.client = cluster.client()
        self.number, self.done, self.unknown, self.is_over = number, [], set(), False

    def run(self):
        count = 0
        while not self.is_over:
            count += 1
            key = f"{self.number}-{count}".encode()
            try:
                self.client.set(key, "x")
                self.done.append(key)
            except redis.RedisError:
                self.unknown.add(key)


@pytest.mark.faults
def test_nothing_is_missed_or_told_twice_when_leaders_die(three):
    """As long as the gateway lives and a listener has been there all the time (docs/changefeed.md)."""
    three.wait_ready()
    pubsub = listener(three, "__keyevent@0__:set", "__keyevent@0__:new")
    speakers = [Speaker(three, number) for number in range(3)]
    for speaker in speakers:
        speaker.start()

    def goes_on():
        counts = [len(speaker.done) for speaker in speakers]
        wait_until(lambda: all(len(s.done) > c + 40 for s, c in zip(speakers, counts)), what="writes")

    for number in (1, 2, 3):
        goes_on()
        kill(three.pids()[f"storage-node-{number}"], signal.SIGKILL)
        goes_on()
        three.wait_ready()
    goes_on()
    for speaker in speakers:
        speaker.is_over = True
    for speaker in speakers:
        speaker.join(300)
    client = three.client()

    def ended():
        try:
            return client.set("end", "")
        except redis.RedisError:
            return False

    wait_until(ended, what="a last write")
    told = messages(pubsub, lambda message: message["channel"].endswith(b":set") and message["data"] == b"end")
    for event in (b"set", b"new"):
        keys = [message["data"] for message in told if message["channel"].endswith(b":" + event)]
        keys = [key for key in keys if key != b"end"]
        assert len(keys) == len(set(keys)), "told twice"
        done = {key for speaker in speakers for key in speaker.done}
        unknown = set().union(*(speaker.unknown for speaker in speakers))
        assert done - set(keys) == set(), "missed"
        assert set(keys) - done - unknown == set(), "never written"

"""Redis 7.0 is the specification: the same seeded commands go to redis-server and to a cluster; answers are compared.

`ORBIT_ORACLE_SEED` and `ORBIT_ORACLE_COMMANDS` replay or lengthen a run.
"""

import os
import random
import socket
import time

import pytest

from conftest import wait_until

SEED = int(os.environ.get("ORBIT_ORACLE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
COMMANDS = int(os.environ.get("ORBIT_ORACLE_COMMANDS", "3000"))


class Wire:
    """A connection that shows replies as they are on the wire."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode("latin1") for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in (b"$", b"="):
            length = int(rest)
            return None if length < 0 else self.file.read(length + 2)[:-2]
        if kind in (b"*", b"~", b">"):
            return [self.reply() for _ in range(int(rest))] if int(rest) >= 0 else "no array"
        if kind == b"%":
            return {"map": [(self.reply(), self.reply()) for _ in range(int(rest))]}
        return line[:-2].decode("latin1") if line else "connection closed"


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def pair(oracle, cluster, request):
    """Connections to both, empty, speaking the same protocol."""
    theirs, ours = Wire(oracle), Wire(cluster.port)
    theirs.ask("HELLO", request.param)
    assert "map" in str(ours.ask("HELLO", request.param, "AUTH", "orbit", cluster.password)) or request.param == 2
    for wire in (theirs, ours):
        assert wire.ask("FLUSHALL") == "+OK"
    yield theirs, ours
    for wire in (theirs, ours):
        wire.socket.close()


class Commands:
    """Random commands over a few keys, so that they meet."""

    KEYS = ["s1", "s2", "s3", "n1", "h1", "h2", "x", "bm"]
    VALUES = [
        "", "a", "hello world", "12", "-7", "3.5", "99999999999999999999", "9223372036854775807", "abc" * 30,
        "\x00\xff\x10", "1e3", " 5", "ohmytext", "mynewtext",
    ]
    FIELDS = ["f1", "f2", "f3", "f4", "f5"]
    NUMBERS = ["0", "1", "-1", "5", "-5", "100", "x", "9223372036854775807", "-9223372036854775808", "3"]
    TIMES = ["100", "1000", "x", "0", "-1", "99999999999"]

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __getattr__(self, name):  # `self.key` is a random key, and so on.
        return self.random.choice(getattr(Commands, name.upper() + "S"))

    def maybe(self, *words):
        return [self.random.choice(words)] if self.random.random() < 0.5 else []

    def one(self, *choices):
        return list(self.random.choice(choices))

    def next(self):
        group = self.random.choice([self.string, self.part, self.counter, self.bitmap, self.hash, self.keyspace])
        return self.random.choice(group())

    def string(self):
        times = self.one([], ["EX", self.time], ["PX", "100000"], ["KEEPTTL"], ["EXAT", "9999999999"], ["FOO"])
        return [
            ["SET", self.key, self.value],
            ["SET", self.key, self.value, *self.maybe("NX", "XX"), *self.maybe("GET"), *times],
            ["GET", self.key], ["GETDEL", self.key], ["GETSET", self.key, self.value],
            ["GETEX", self.key, *self.one([], ["EX", "100"], ["PERSIST"])],
            ["SETNX", self.key, self.value], ["SETEX", self.key, self.time, self.value],
            ["MGET", self.key, self.key, "none"], ["MSET", self.key, self.value, self.key, self.value],
            ["MSETNX", self.key, self.value, f"new{self.random.randrange(50)}", self.value],
        ]

    def part(self):
        lcs = self.one([], ["LEN"], ["IDX"], ["IDX", "MINMATCHLEN", "2", "WITHMATCHLEN"])
        return [
            ["APPEND", self.key, self.value], ["STRLEN", self.key],
            ["GETRANGE", self.key, self.number, self.number], ["SUBSTR", self.key, self.number, self.number],
            ["SETRANGE", self.key, self.random.choice(["0", "3", "10", "-1", "x"]), self.value],
            ["LCS", self.key, self.key, *lcs],
        ]

    def counter(self):
        fraction = self.random.choice(["1.5", "-2", "3e2", "x", "0.1", "5.0e3", "inf", "nan", "1e308"])
        return [
            ["INCR", self.key], ["DECR", self.key], ["INCRBY", self.key, self.number],
            ["DECRBY", self.key, self.number], ["INCRBYFLOAT", self.key, fraction],
        ]

    def bitmap(self):
        fields = self.one(
            ["GET", "u8", "0"], ["SET", "i8", "#1", "200"], ["INCRBY", "u4", "3", "9"],
            ["OVERFLOW", "SAT", "INCRBY", "i8", "0", "100", "GET", "u16", "4"],
            ["OVERFLOW", "FAIL", "INCRBY", "u2", "0", "3", "INCRBY", "u2", "0", "3"],
            ["SET", "u63", "10", "9223372036854775807", "INCRBY", "i64", "0", "-5"],
        )
        position = self.one([], ["0"], ["2", "-1"], ["-3", "-1", "BIT"], ["1", "5", "BYTE"])
        return [
            ["SETBIT", self.key, self.random.choice(["0", "7", "100", "-1", "x"]), self.random.choice("012")],
            ["GETBIT", self.key, self.random.choice(["0", "7", "100", "1000"])], ["BITCOUNT", self.key],
            ["BITCOUNT", self.key, self.random.choice(["0", "-5"]), "-1", *self.maybe("BIT", "BYTE")],
            ["BITPOS", self.key, self.random.choice("01"), *position],
            ["BITOP", self.random.choice(["AND", "OR", "XOR"]), "bm", self.key, self.key],
            ["BITOP", "NOT", "bm", self.key], ["BITFIELD", self.key, *fields],
            ["BITFIELD_RO", self.key, "GET", "i5", "3"],
        ]

    def hash(self):
        fraction = self.random.choice(["1.5", "-2", "x", "0.1", "3.0"])
        return [
            ["HSET", self.key, self.field, self.value, self.field, self.value],
            ["HSET", self.key, self.field, self.value], ["HMSET", self.key, self.field, self.value],
            ["HSETNX", self.key, self.field, self.value], ["HGET", self.key, self.field],
            ["HMGET", self.key, self.field, self.field, "none"], ["HGETALL", self.key], ["HKEYS", self.key],
            ["HVALS", self.key], ["HLEN", self.key], ["HEXISTS", self.key, self.field],
            ["HDEL", self.key, self.field, self.field], ["HSTRLEN", self.key, self.field],
            ["HINCRBY", self.key, self.field, self.number], ["HINCRBYFLOAT", self.key, self.field, fraction],
            ["HRANDFIELD", "none"], ["HLEN"],
        ]

    def keyspace(self):
        condition = self.one([], [], ["NX"], ["XX"], ["GT"], ["LT"], ["NX", "XX"], ["foo"])
        return [
            ["DEL", self.key, self.key], ["UNLINK", self.key], ["EXISTS", self.key, self.key, self.key],
            ["TOUCH", self.key, self.key], ["TYPE", self.key], ["EXPIRE", self.key, self.time, *condition],
            ["PEXPIRE", self.key, "100000"], ["TTL", self.key], ["PERSIST", self.key], ["EXPIRETIME", self.key],
            ["EXPIREAT", self.key, self.random.choice(["9999999999", "1", "x"]), *self.maybe("GT", "LT")],
            ["RENAME", self.key, self.key], ["RENAMENX", self.key, self.key], ["DBSIZE"], ["KEYS", "[sh]1*"],
            ["COPY", self.key, self.key, *self.maybe("REPLACE")], ["COPY", self.key, self.key, "DB", "1"],
            ["MOVE", self.key, "1"], ["KEYS", "*"], ["SELECT", self.random.choice("0001")], ["RANDOMKEY", "x"],
        ]


UNORDERED = {"HGETALL", "HKEYS", "HVALS", "KEYS"}


def comparable(command, reply):
    """Replies whose order means nothing are sorted; TTLs may differ by the second that passes."""
    if command[0] in UNORDERED and isinstance(reply, list):
        pairs = zip(reply[::2], reply[1::2]) if command[0] == "HGETALL" else reply
        return sorted(map(repr, pairs))
    if isinstance(reply, dict):
        return sorted(map(repr, reply["map"]))
    return reply


def same(command, theirs, ours):
    if command[0] in ("TTL", "EXPIRETIME") and theirs != ours:
        return abs(int(theirs[1:]) - int(ours[1:])) <= 1
    return comparable(command, theirs) == comparable(command, ours)


def test_pause(pair, oracle, cluster):
    """Writes wait for the end of the pause, reads do not; what is refused anyway is refused at once."""
    for wire, other in zip(pair, (Wire(oracle), Wire(cluster.port))):
        if "NOAUTH" in str(other.ask("PING")):
            other.ask("AUTH", "orbit", cluster.password)
        # Where a machine is so slow that the pause is over before all was seen, a longer one.
        assert any(is_paused(wire, other, seconds) for seconds in (3, 40))
        other.socket.close()


def is_paused(wire, other, seconds):
    """Whether all of this fitted into the pause; fails where it did and something was wrong."""
    began = time.monotonic()
    assert wire.ask("CLIENT", "PAUSE", str(1000 * seconds), "WRITE") == "+OK"
    seen = [other.ask("GET", "k") is None, other.ask("SET", "k").startswith("-ERR wrong number")]
    other.socket.sendall(b'SET k "a b"\r\nGET k\r\n')

    def is_over():
        return time.monotonic() - began > seconds - 0.2

    wait_until(
        lambda: is_over() or b"blocked_clients:1" in wire.ask("INFO", "clients"), what="the client that is held back")
    seen.append(b" flags=b " in wire.ask("CLIENT", "LIST"))
    seen.append(wire.ask("GET", "k") in (None, "_"))
    # Stricter, and the end of the first, which is later, stays.
    assert wire.ask("CLIENT", "PAUSE", "1", "ALL") == "+OK"
    is_late = is_over()
    assert wire.ask("PING") == "+PONG"
    assert time.monotonic() - began >= seconds - 0.01
    assert (other.reply(), other.reply()) == ("+OK", b"a b")
    if not is_late:
        assert all(seen), seen
        return True
    assert wire.ask("DEL", "k") == ":1"
    return False


def test_pause_ends(pair):
    for wire in pair:
        began = time.monotonic()
        assert wire.ask("CLIENT", "PAUSE", "300") == "+OK"
        assert wire.ask("SET", "k", "v") == "+OK"
        assert time.monotonic() - began > 0.29
        assert wire.ask("CLIENT", "PAUSE", "60000", "WRITE") == "+OK"
        wire.socket.sendall(b"CLIENT UNPAUSE\r\nSET k w\r\n")
        assert (wire.reply(), wire.reply()) == ("+OK", "+OK")


def test_random_commands(pair):
    theirs, ours = pair
    commands = Commands(SEED)
    history = []
    for number in range(COMMANDS):
        command = commands.next()
        history.append(command)
        expected, actual = theirs.ask(*command), ours.ask(*command)
        assert same(command, expected, actual), (
            f"ORBIT_ORACLE_SEED={SEED}, command {number}: {command}\nredis {expected!r}\norbit {actual!r}\n"
            f"before: {history[-6:-1]}"
        )


UNDECIDED = {"SETBIT", "APPEND", "BITFIELD"}


def test_random_transactions(pair, oracle, cluster):
    """Transactions of random commands, with watched keys, while another client meddles now and then."""
    others = [Wire(oracle), Wire(cluster.port)]
    others[1].ask("AUTH", "orbit", cluster.password)
    seed = int(os.environ.get("ORBIT_ORACLE_SEED", "7"))
    commands, source, history, isWatching = Commands(seed), random.Random(seed), [], False

    def ask(wires, *command):
        history.append((command, wires is others))
        replies = [wire.ask(*command) for wire in wires]
        if command[0] == "EXEC" and all(isinstance(reply, list) for reply in replies):
            assert len(replies[0]) == len(replies[1]) == len(queued)
            pairs = list(zip(queued, *replies))
        else:
            pairs = [(command, *replies)]
        for asked, expected, actual in pairs:
            assert same(asked, expected, actual), (
                f"ORBIT_ORACLE_SEED={seed}, {asked} of {command}\nredis {expected!r}\norbit {actual!r}\n"
                f"before: {history[-20:]}"
            )
        return replies[0]

    def meddling():
        """Not what may leave a value as it is: whether that is a change of a watched key is told differently."""
        return next(c for c in iter(commands.next, None) if not isWatching or c[0] not in UNDECIDED)

    for _ in range(COMMANDS // 8):
        while source.random() < 0.4:
            ask(pair, *source.choice([["WATCH", commands.key], ["WATCH", commands.key, commands.key]]))
            isWatching = True
        if source.random() < 0.5:
            ask(pair, *meddling())
        if source.random() < 0.2:
            ask(others, *meddling())
        if source.random() < 0.1:
            ask(pair, "UNWATCH")
        queued = []
        # What is not queued is done at once, and may meddle too.
        draw = commands.next if ask(pair, *source.choice([["MULTI"]] * 9 + [["EXEC"]])) == "+OK" else meddling
        for _ in range(source.randrange(8)):
            command = source.choice([draw(), draw(), draw(), draw(), ["PING"]])
            if source.random() < 0.02:
                command = source.choice([["NOSUCH"], ["GET"], ["WATCH", "x"], ["MULTI"], ["UNWATCH"], ["EXEC", "x"]])
            if ask(pair, *command) == "+QUEUED":
                queued.append(command)
            if source.random() < 0.1:
                ask(others, *meddling())
        ask(pair, *source.choice([["EXEC"]] * 9 + [["DISCARD"]]))
        isWatching = False
    for other in others:
        other.socket.close()


@pytest.mark.parametrize(
    "script",
    [
        "MULTI; MULTI; WATCH a; PING; EXEC; EXEC", "EXEC x; MULTI; EXEC x; EXEC", "DISCARD; MULTI; DISCARD x; EXEC",
        "MULTI; foo; PING; EXEC", "MULTI; CLIENT nosuch; CLIENT SETNAME; EXEC", "MULTI; WATCH; EXEC",
        "MULTI; SELECT 3; SET a b; SELECT 99; EXEC; GET a; FLUSHALL; SELECT 0", "WATCH a; SET a 1; MULTI; EXEC; EXEC",
        "WATCH a; SET a 1; UNWATCH; MULTI; GET a; EXEC", "MULTI; SET a 1; RESET; EXEC", "WATCH a; DISCARD; EXEC x",
        "WATCH none; DEL none; MULTI; EXEC", "SET a 1; WATCH a; EXPIRE a 100; MULTI; EXEC",
        "SET a 1; WATCH a; GET a; TTL a; MULTI; EXEC", "SET a 1; WATCH a; SET a 1; MULTI; EXEC",
        "SET a 1; WATCH a; FLUSHDB; MULTI; EXEC", "WATCH a; FLUSHDB; MULTI; EXEC", "SET a 1; WATCH a; DEL a; SET a 1; "
        "MULTI; EXEC", "MULTI; SET a 1 EX foo; INCR a; EXEC; GET a", "MULTI; CLIENT GETNAME; CLIENT SETNAME x; "
        "CLIENT GETNAME; COMMAND GETKEYS GET k; CONFIG GET save; ECHO a; UNWATCH; EXEC", "SET a 1; WATCH a; SELECT 1; "
        "SET a 1; SELECT 0; MULTI; EXEC", "SELECT 1; WATCH a; SET a 1; SELECT 0; MULTI; EXEC", "WATCH a; MULTI; foo; "
        "EXEC; SET a 1; MULTI; EXEC", "SET a 1; WATCH a; RENAME a b; MULTI; EXEC", "SET a 1; WATCH b; COPY a b; MULTI; "
        "EXEC", "SET a 1; WATCH a; MOVE a 1; MULTI; EXEC",
        "SET a 1; WATCH a; PERSIST a; SETRANGE a 0 \"\"; MULTI; EXEC",
        "HSET h f v; WATCH h; HDEL h g; MULTI; EXEC", "HSET h f v; WATCH h; HSET h f v; MULTI; EXEC",
    ],
)
def test_transactions(pair, cluster, script):
    theirs, ours = pair
    for line in script.split("; "):
        words = [word.strip('"') for word in line.split(" ")]
        expected, actual = theirs.ask(*words), ours.ask(*words)
        assert expected == actual, line
        if words == ["RESET"]:
            ours.ask("AUTH", "orbit", cluster.password)


# Our answer to wrong arguments does not depend on whether the key exists; Redis looks at some keys first.
REFUSED_FIRST = [
    ["GETEX", "none", "EX", "0"], ["BITCOUNT", "none", "1"], ["BITCOUNT", "none", "1", "2", "foo"],
    ["BITPOS", "none", "1", "2", "3", "foo"], ["HSCAN", "none", "0", "TYPE", "x"],
]


@pytest.mark.parametrize("command", REFUSED_FIRST, ids=" ".join)
def test_difference_arguments_are_checked_first(pair, command):
    theirs, ours = pair
    assert not str(theirs.ask(*command)).startswith("-")
    assert str(ours.ask(*command)).startswith("-ERR ")


# Subcommands that Redis has not.
OURS = {b"client|asof", b"client|transaction"}


def test_descriptions_of_commands(pair):
    """Every command of ours is described as Redis describes it (subcommands: those that we have)."""
    theirs, ours = pair

    def described(rows):
        return {row[0]: row for row in rows}

    def plain(row):
        return [sorted(map(str, part)) if isinstance(part, list) else part for part in row[:-1]]

    def subcommands(row):
        return row[-1]["map"] if isinstance(row[-1], dict) else row[-1]

    mine = described(ours.ask("COMMAND"))
    assert len(mine) > 80
    original = described(theirs.ask("COMMAND"))
    for name, row in mine.items():
        assert plain(row) == plain(original[name])
        known = described(subcommands(original[name]))
        for subcommand in subcommands(row):
            if subcommand[0] not in OURS:
                assert plain(subcommand) == plain(known[subcommand[0]])


@pytest.mark.parametrize(
    "command",
    [
        ["nosuch"], ["nosuch", "a", "b"], ["GET"], ["CLIENT", "nosuch"], ["CONFIG"], ["OBJECT", "nosuch", "k"],
        ["CLIENT", "SETNAME"], ["SELECT", "99"], ["SELECT", "x"], ["HELLO", "9"], ["HELLO", "x"], ["PING", "a", "b"],
        ["AUTH", "a", "b", "c"], ["AUTH", "nobody", "wrong"], ["CLIENT", "KILL", "ID", "x"], ["ACL", "CAT", "nosuch"],
        ["ACL", "SETUSER", "u", "+nosuch"], ["ACL", "SETUSER", "u", "nosuch"], ["ACL", "GENPASS", "0"],
        ["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"], ["COMMAND", "GETKEYS", "nosuch", "a"],
        ["COMMAND", "GETKEYS", "PING"], ["COMMAND", "GETKEYSANDFLAGS", "SET", "a", "b", "GET"],
        ["CONFIG", "SET", "nosuch", "1"], ["CONFIG", "GET", "save"], ["SLOWLOG", "GET", "x"], ["OBJECT", "HELP"],
        ["MEMORY", "USAGE", "none", "SAMPLES", "-1"], ["SCAN", "x"], ["SCAN", "0", "COUNT", "0"],
        ["RENAME", "none", "k"], ["CLIENT", "PAUSE"], ["CLIENT", "PAUSE", "x"], ["CLIENT", "PAUSE", "-1"],
        ["CLIENT", "PAUSE", "x", "foo"], ["CLIENT", "PAUSE", "0"], ["CLIENT", "PAUSE", "1", "write", "x"],
        ["CLIENT", "UNPAUSE"], ["CLIENT", "UNBLOCK", "x"], ["CLIENT", "UNBLOCK", "1", "foo"],
        ["CLIENT", "UNBLOCK", "99999"], ["CLIENT", "UNBLOCK", "1", "error", "x"], ["CLIENT", "CACHING", "foo"],
        ["CLIENT", "TRACKING", "off"], ["CLIENT", "TRACKING", "foo"], ["CLIENT", "TRACKING", "on", "redirect"],
        ["CLIENT", "TRACKING", "on", "redirect", "99999"], ["CLIENT", "TRACKING", "on", "prefix", "a"],
        ["CLIENT", "TRACKING", "on", "bcast", "prefix", "ab", "prefix", "a"], ["CLIENT", "TRACKINGINFO"],
        ["CLIENT", "TRACKING", "on", "optin", "optout"], ["CLIENT", "TRACKING", "on", "bcast", "optout"],
        ["CLIENT", "HELP"], ["CLIENT", "NO-TOUCH", "on"], ["CLIENT", "SETINFO", "lib-name", "x"],
    ],
    ids=" ".join,
)
def test_words_of_refusals(pair, command):
    theirs, ours = pair
    assert ours.ask(*command) == theirs.ask(*command)

"""A durable key from redis-py and redis-cli through the whole system and back."""

import pytest
import redis


def test_ping(client):
    assert client.ping() is True


def test_set_and_get(client):
    assert client.set("greeting", "hello") is True
    assert client.get("greeting") == b"hello"
    assert client.get("nothing") is None


def test_bytes_are_kept_as_they_are(client):
    everything = bytes(range(256)) * 3
    client.set(everything, everything)
    assert client.get(everything) == everything


def test_set_options(client):
    assert client.set("k", "1", nx=True) is True
    assert client.set("k", "2", nx=True) is None
    assert client.set("k", "3", xx=True, get=True) == b"1"
    assert client.set("k", "4", px=100_000) is True
    assert 0 < client.pttl("k") <= 100_000
    assert client.set("k", "5", keepttl=True) and client.pttl("k") > 0


def test_counters(client):
    assert [client.incr("n"), client.incrby("n", 41), client.decr("n")] == [1, 42, 41]
    client.set("n", "text")
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.incr("n")


def test_hashes(client):
    assert client.hset("h", mapping={"a": "1", "b": "2"}) == 2
    assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert client.hdel("h", "a") == 1
    assert client.hlen("h") == 1
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("h")


def test_delete_exists_type_expire(client):
    client.set("s", "v")
    client.hset("h", "f", "v")
    assert client.type("s") == b"string" and client.type("h") == b"hash" and client.type("none") == b"none"
    assert client.exists("s", "h", "none") == 2
    assert client.delete("s", "h", "none") == 2
    assert client.dbsize() == 0
    client.set("s", "v")
    assert client.expire("s", 100) is True and 0 < client.ttl("s") <= 100
    assert client.persist("s") is True and client.ttl("s") == -1


def test_scan_sees_every_key_once_it_rests(client):
    names = {f"key:{i}".encode() for i in range(500)}
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.set(name, "x")
        pipeline.execute()
    assert set(client.scan_iter(match="key:*", count=50)) == names


def test_pipeline_keeps_order(client):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(2000):
            pipeline.incr("n")
        assert pipeline.execute() == list(range(1, 2001))


def test_a_large_value(client):
    value = bytes(i * 31 % 251 for i in range(3_000_000))
    client.set("big", value)
    assert client.get("big") == value
    assert client.strlen("big") == len(value)


def test_databases_are_apart(cluster):
    with cluster.client(db=0) as zero, cluster.client(db=7) as seven:
        zero.set("where", "0")
        seven.set("where", "7")
        assert (zero.get("where"), seven.get("where")) == (b"0", b"7")
        seven.flushdb()
        assert (zero.get("where"), seven.get("where")) == (b"0", None)


@pytest.mark.parametrize("protocol", [2, 3])
def test_nobody_gets_in_without_the_password(cluster, protocol):
    with cluster.client(protocol=protocol, password="wrong") as client:
        with pytest.raises(redis.AuthenticationError):
            client.ping()
    with cluster.client(protocol=2, username=None, password=None) as client:
        with pytest.raises(redis.AuthenticationError, match="Authentication required"):
            client.get("k")


def test_redis_cli(cluster):
    assert cluster.cli("PING") == "PONG"
    assert cluster.cli("SET", "from:cli", "value") == "OK"
    assert cluster.cli("GET", "from:cli") == "value"
    assert "unknown command" in cluster.cli("NOSUCHCOMMAND")
    assert cluster.cli(stdin="SET a 1\nINCR a\nGET a\n").split() == ["OK", "2", "2"]
    assert cluster.cli("-3", "HELLO").split()[:2] == ["server", "redis"]

"""Backups of running clusters, and what is restored from them."""

import json
import pathlib
import random
import signal
import subprocess
import threading

import pytest
import redis

from conftest import BIN, Cluster, kill, wait_until

ACCOUNTS = [f"account:{number}" for number in range(40)]
START = 1000
PASSWORD = "the-same-for-all"


@pytest.fixture(scope="module")
def source():
    with Cluster("--nodes", "2", "--shards", "4", password=PASSWORD) as running:
        yield running


@pytest.fixture
def filled(source):
    """A client of the source, with some of everything."""
    client = source.client()
    client.flushall()
    for account in ACCOUNTS:
        client.set(account, START)
    pipeline = client.pipeline(transaction=False)
    for number in range(3000):
        pipeline.set(f"key:{number}", f"value {number} " * 20)
    pipeline.execute()
    client.set("large", b"0123456789" * 300_000)
    client.hset("hash", mapping={f"field {number}": number for number in range(3000)})
    client.set("forever", 1)
    client.set("soon", 1, px=1)
    client.set("later", 1, ex=100_000)
    yield client
    client.close()


def back_up(cluster, directory, *options):
    return json.loads(cluster.orbit("backup", str(directory), "--json", *options).stdout)


def verify(cluster, directory):
    result = cluster.orbit_alone("backup", "verify", str(directory), "--json", check=False)
    return result.returncode, json.loads(result.stdout)["problems"]


def orbit_alone(self, *words, check=True):
    """A command that needs no cluster."""
    result = subprocess.run([str(BIN / "orbit"), *words], capture_output=True, text=True, env=self.environment)
    assert not check or result.returncode == 0, result.stderr
    return result


Cluster.orbit_alone = orbit_alone


class Transfers(threading.Thread):
    """Moves money between accounts of all shards, and counts what it does in two keys of different shards."""

    def __init__(self, cluster, seed):
        super().__init__(daemon=True)
        self.client = cluster.client()
        self.random = random.Random(seed)
        self.done = 0
        self.failure = None
        self.over = threading.Event()

    def run(self):
        try:
            while not self.over.is_set():
                source, target = self.random.sample(ACCOUNTS, 2)
                amount = self.random.randint(1, 50)
                pipeline = self.client.pipeline(transaction=True)
                pipeline.decrby(source, amount)
                pipeline.incrby(target, amount)
                pipeline.incr("count:one")
                pipeline.incr("count:another")
                try:
                    pipeline.execute()
                    self.done += 1
                except redis.ResponseError as error:
                    if "TRYAGAIN" not in str(error) and "again" not in str(error):
                        raise
        except Exception as error:  # Told where the test ends.
            self.failure = error

    def stop(self):
        self.over.set()
        self.join()
        self.client.close()
        if self.failure:
            raise self.failure


def test_a_backup_under_load_shows_one_moment_in_any_other_cluster(source, filled, tmp_path):
    directory = tmp_path / "backups"
    source.orbit("user", "add", "reader", "--generate", "--rules", "~key:* +get", "--if-missing")
    writers = [Transfers(source, seed) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: all(w.done > 20 or w.failure for w in writers), "transfers")
        before = int(filled.get("count:one"))
        first = back_up(source, directory)
        wait_until(lambda: int(filled.get("count:one")) > before + 50, "more transfers")
        second = back_up(source, directory)
    finally:
        for writer in writers:
            writer.stop()
    assert first["backup"]["base"] == 0 and second["backup"]["base"] == 1
    assert verify(source, directory) == (0, [])
    counts = []
    for number, options in [(1, ("--nodes", "1", "--shards", "1")), (2, ("--nodes", "3", "--shards", "8"))]:
        with Cluster(*options, password=PASSWORD) as target:
            restored = json.loads(target.orbit("restore", str(directory), "--number", str(number), "--json").stdout)
            assert restored["backup"]["number"] == number and not restored["wasRestored"]
            client = target.client()
            assert sum(int(value) for value in client.mget(ACCOUNTS)) == START * len(ACCOUNTS)
            one, another = int(client.get("count:one")), int(client.get("count:another"))
            assert one == another
            counts.append(one)
            assert client.get("large") == b"0123456789" * 300_000
            assert client.hlen("hash") == 3000 and client.hget("hash", "field 77") == b"77"
            assert client.get("soon") is None and client.ttl("forever") == -1
            assert 90_000 < client.ttl("later") <= 100_000
            keys = list(client.scan_iter(count=1000))
            assert len(keys) == len(set(keys))
            # What expired before the restore is counted until it is collected.
            wait_until(lambda: client.dbsize() == len(keys), "the collection of what has expired")
            assert client.set("key:1", "new") and client.get("key:1") == b"new"
            assert "reader" in target.orbit("user", "list").stdout
            again = json.loads(target.orbit("restore", str(directory), "--number", str(number), "--json").stdout)
            assert again["wasRestored"]
            client.close()
    assert before <= counts[0] < counts[1]


def test_an_incremental_backup_moves_what_has_changed(source, filled, tmp_path):
    first = back_up(source, tmp_path)
    assert first["kept"] == 0 and first["moved"] > 3_000_000
    idle = back_up(source, tmp_path)
    filled.set("key:17", "changed")
    second = back_up(source, tmp_path)
    # One key changes one piece; what shards write for themselves is small.
    assert idle["moved"] < first["moved"] / 20 and second["moved"] < first["moved"] / 5
    assert second["kept"] > first["moved"] / 2
    full = back_up(source, tmp_path, "--full")
    assert full["kept"] == 0 and full["backup"]["base"] == 0
    listed = json.loads(source.orbit_alone("backup", "list", str(tmp_path), "--json").stdout)
    assert [backup["number"] for backup in listed] == [1, 2, 3, 4]
    assert verify(source, tmp_path) == (0, [])


def test_damage_is_found_and_not_restored(source, filled, tmp_path):
    back_up(source, tmp_path)
    path = max(pathlib.Path(tmp_path, "000001").glob("data-*"), key=lambda file: file.stat().st_size)
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:])
    code, problems = verify(source, tmp_path)
    assert code == 1 and path.name in problems[0]
    with Cluster(password=PASSWORD) as target:
        refused = target.orbit("restore", str(tmp_path), check=False)
        assert refused.returncode == 1 and path.name in refused.stderr
        with pytest.raises(redis.RedisError):
            target.client().get("key:1")
        # Half restored: it says so, and goes on when the file is mended.
        assert "half restored" in target.orbit("status").stdout
        path.write_bytes(whole)
        target.orbit("restore", str(tmp_path))
        assert target.client().get("key:1") == filled.get("key:1")
    path.unlink()
    assert verify(source, tmp_path)[0] == 1
    with Cluster(password=PASSWORD) as target:
        refused = target.orbit("restore", str(tmp_path), check=False)
        assert refused.returncode == 1 and "missing" in refused.stderr
        assert target.client().set("a", 1)


def test_a_restore_goes_on_after_everything_was_killed(source, filled, tmp_path):
    back_up(source, tmp_path)
    with Cluster("--nodes", "2", "--shards", "3", "--no-restart", password=PASSWORD) as target:
        command = [str(BIN / "orbit"), "restore", str(tmp_path), "--data", target.data]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=target.environment)

        def has_begun():
            return run.poll() is not None or "half restored" in target.orbit("status").stdout

        wait_until(has_begun, "a restore under way")
        run.send_signal(signal.SIGKILL)
        run.wait()
        for name, pid in target.pids().items():
            if name.startswith("storage-node"):
                kill(pid, signal.SIGKILL)
        target.down()
        target.start()
        target.orbit("restore", str(tmp_path))
        client = target.client()
        assert sum(int(value) for value in client.mget(ACCOUNTS)) == START * len(ACCOUNTS)
        keys = len(list(client.scan_iter(count=1000)))
        wait_until(lambda: client.dbsize() == keys, "the collection of what has expired")


def test_a_cluster_with_keys_takes_no_backup(source, filled, tmp_path):
    back_up(source, tmp_path)
    with Cluster("--shards", "2", password=PASSWORD) as target:
        client = target.client()
        client.set("mine", 1)
        refused = target.orbit("restore", str(tmp_path), check=False)
        assert refused.returncode == 1 and "not empty" in refused.stderr
        assert client.get("mine") == b"1" and client.get("key:1") is None and client.set("more", 1)

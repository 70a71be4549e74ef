"""Random statements on PostgreSQL 15 and on a cluster, which must answer alike, but for what
Tests/Differential/accepted.yaml lists and justifies. ORBIT_QUERIES of them (300), the same ones for each ORBIT_SEED
(1 unless given)."""

import os
import pathlib
import pwd
import random
import shutil
import subprocess
import sys
import tempfile

import pytest

from conftest import ROOT, Cluster

sys.path.insert(0, str(ROOT / "Tests" / "Differential"))
import accepted  # noqa: E402
from differential import Run  # noqa: E402

QUERIES = int(os.environ.get("ORBIT_QUERIES", "300"))
SEED = os.environ.get("ORBIT_SEED", "1")
BINARIES = pathlib.Path("/usr/lib/postgresql/15/bin")


class Postgres:
    """A server of its own that listens on a socket only. It compares text by bytes, as Orbit does."""

    def __enter__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="orbit-pg-", dir="/tmp"))
        self.prefix = []
        if os.geteuid() == 0:  # It refuses to be run by root.
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
            self.prefix = ["runuser", "-u", "postgres", "--"]
        self.data = self.home / "data"
        locale = ["--lc-collate=C", "--lc-ctype=C.UTF-8"]
        self.run("initdb", "-D", self.data, "-U", "orbit", "-A", "trust", "-E", "UTF8", "--no-sync", *locale)
        options = f"-k {self.home} -c listen_addresses= -c fsync=off"
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.home / "log", "-o", options, "start")
        self.where = f"host={self.home} user=orbit dbname=postgres"
        return self

    def __exit__(self, *_):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        shutil.rmtree(self.home, ignore_errors=True)

    def run(self, program, *words):
        command = [*self.prefix, str(BINARIES / program), *map(str, words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def test_the_document_lists_what_is_accepted():
    assert accepted.document() == accepted.DOCUMENT.read_text(), "run Tests/Differential/accepted.py --write"


@pytest.mark.skipif(not (BINARIES / "initdb").exists(), reason="no postgresql-15")
def test_answers_are_alike():
    seed = random.randrange(1 << 32) if SEED == "new" else int(SEED)
    print(f"ORBIT_SEED={seed} ORBIT_QUERIES={QUERIES}")
    with Postgres() as postgres, Cluster("--shards", "4") as cluster:
        orbit = f"host=127.0.0.1 port={5432 + cluster.offset} user=orbit password={cluster.password} dbname=orbit"
        run = Run(postgres.where, orbit, seed)
        found = run.run(QUERIES)
        print(run.summary())
    assert not found, f"seed {seed}: {len(found)} differences, above"

"""The JDBC driver of PostgreSQL (Debian's libpostgresql-jdbc-java): jdbc/Jdbc.java, compiled here."""

import pathlib
import shutil
import subprocess

import pytest

from conftest import PATIENCE, Cluster

DRIVER = pathlib.Path("/usr/share/java/postgresql.jar")
SOURCE = pathlib.Path(__file__).parent / "jdbc" / "Jdbc.java"
PARTS = ["connect", "prepared", "batch", "transactions", "types", "fetch size", "generated keys", "metadata", "words"]
PARTS += ["row metadata", "updatable rows", "copy", "cancel"]
pytestmark = pytest.mark.skipif(
    not DRIVER.exists() or not shutil.which("javac"), reason="the driver or the JDK is not there: scripts/setup --test"
)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    classes = tmp_path_factory.mktemp("jdbc")
    subprocess.run(["javac", "-d", classes, "-cp", DRIVER, SOURCE], check=True, timeout=PATIENCE * 2)
    with Cluster("--shards", "2") as cluster:
        url = f"jdbc:postgresql://127.0.0.1:{5432 + cluster.offset}/orbit"
        command = ["java", "-cp", f"{classes}:{DRIVER}", "Jdbc", url, cluster.password]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("part", PARTS)
def test_part(lines, part):
    assert [line for line in lines if line == f"ok {part}" or line.startswith(f"failed {part}:")] == [f"ok {part}"]

"""Orbit against redis-server: the same client, the same machine, interleaved rounds; writes docs/benchmarks.md.

Every round runs each line once on both servers, in alternating order, so that noise meets both. Shown are medians and
ranges, the median of the per-round ratios, and CPU microseconds per operation from /proc/PID/stat.
"""

import argparse
import dataclasses
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "Clients"))
from conftest import Cluster, Ports, wait_until  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
PASSWORD = "benchmark"
KEYS = 100_000
SIZE = 64


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table: what redis-benchmark is told, and the ratio that is asked for."""

    command: str
    clients: int
    pipeline: int
    requests: int
    target: float
    aim: float

    @property
    def title(self):
        text = f"{self.command.upper()}, {self.clients} client{'s' * (self.clients > 1)}"
        return text + (f", pipeline {self.pipeline}" if self.pipeline > 1 else "")


POLICIES = {
    "everysec": [
        Line("set", 50, 1, 100_000, 0.8, 1.0),
        Line("get", 50, 1, 100_000, 0.8, 1.0),
        Line("set", 50, 16, 800_000, 0.6, 0.9),
        Line("get", 50, 16, 800_000, 0.6, 0.9),
        Line("get", 1, 1, 20_000, 0.4, 0.6),
    ],
    "always": [
        Line("set", 50, 1, 50_000, 1.0, 1.4),
        Line("set", 50, 16, 200_000, 1.0, 1.3),
    ],
}


def cpu_seconds(pid):
    """User and system time of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Redis:
    """redis-server with an append-only file under the given fsync policy."""

    name = "Redis"

    def __init__(self, policy):
        self.directory = tempfile.mkdtemp(prefix="orbit-bench-redis-", dir="/tmp")
        self.ports = Ports(9000)
        self.port = 6379 + self.ports.offset
        options = {
            "port": self.port, "bind": "127.0.0.1", "dir": self.directory, "appendonly": "yes", "appendfsync": policy,
            "save": "", "daemonize": "no", "user": f"orbit on >{PASSWORD} ~* &* +@all",
        }  # fmt: skip
        configuration = pathlib.Path(self.directory, "redis.conf")
        lines = [f"{key} {value or chr(34) * 2}" for key, value in options.items()]
        configuration.write_text("\n".join(lines) + "\n")
        log = open(pathlib.Path(self.directory, "log"), "w")
        self.process = subprocess.Popen(["redis-server", str(configuration)], stdout=log, stderr=log)
        wait_until(lambda: cli(self.port, "PING") == "PONG", what="redis-server")

    def cpu(self):
        return {"redis": cpu_seconds(self.process.pid)}

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.ports.release()


class Orbit:
    """A one-node cluster under the given fsync policy."""

    name = "Orbit"

    def __init__(self, policy, *more):
        self.cluster = Cluster("--fsync", policy, *more, password=PASSWORD).start()
        self.port = self.cluster.port

    def cpu(self):
        pids = self.cluster.pids()
        return {"gateway": cpu_seconds(pids["resp-gw-1"]), "node": cpu_seconds(pids["storage-node-1"])}

    def close(self):
        self.cluster.close()


def cli(port, *words):
    command = ["redis-cli", "-p", str(port), "--user", "orbit", "--pass", PASSWORD, "--no-auth-warning", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


def measure(server, line):
    """One run; returns operations per second and CPU microseconds per operation by process."""
    before = server.cpu()
    command = [
        "redis-benchmark", "-p", str(server.port), "--user", "orbit", "-a", PASSWORD, "-t", line.command, "-c",
        str(line.clients), "-P", str(line.pipeline), "-n", str(line.requests), "-r", str(KEYS), "-d", str(SIZE),
        "--csv",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    rows = [row for row in result.stdout.splitlines() if row.lower().startswith(f'"{line.command}"')]
    if not rows:
        raise SystemExit(f"redis-benchmark said nothing about {line.command}:\n{result.stdout}{result.stderr}")
    after = server.cpu()
    rate = float(rows[0].split(",")[1].strip('"'))
    return rate, {name: (after[name] - before[name]) * 1e6 / line.requests for name in after}


def middle(values):
    return statistics.median(values)


def compare(policy, rounds):
    """All lines of one policy; returns a row of results per line."""
    servers = [Redis(policy), Orbit(policy)]
    try:
        fill = Line("set", 50, 16, KEYS * 8, 0, 0)
        for server in servers:
            measure(server, fill)
        results = {line: {server.name: [] for server in servers} for line in POLICIES[policy]}
        for number in range(rounds):
            for line in POLICIES[policy]:
                order = servers if number % 2 == 0 else servers[::-1]
                for server in order:
                    results[line][server.name].append(measure(server, line))
                redis, orbit = (results[line][server.name][-1][0] for server in servers)
                ratio = f"{orbit:9.0f} / {redis:9.0f} = {orbit / redis:.2f}"
                print(f"{policy} {number + 1}/{rounds} {line.title:32} {ratio}", flush=True)
        return results
    finally:
        for server in servers:
            server.close()


def span(values, form="{:.0f}"):
    return f"{form.format(min(values))}–{form.format(max(values))}"


def thousands(value):
    return f"{value / 1000:.1f} k"


def table(results):
    yield (
        "| line | Redis op/s (range) | Orbit op/s (range) | ratio (range) | asked, aim "
        "| CPU µs/op Redis | gateway + node | CPU ratio |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for line, runs in results.items():
        redis, orbit = [r[0] for r in runs["Redis"]], [r[0] for r in runs["Orbit"]]
        ratios = [o / r for o, r in zip(orbit, redis)]
        redis_cpu = middle([r[1]["redis"] for r in runs["Redis"]])
        gateway = middle([r[1]["gateway"] for r in runs["Orbit"]])
        node = middle([r[1]["node"] for r in runs["Orbit"]])
        verdict = "met" if middle(ratios) >= line.target else "**missed**"
        yield (
            f"| {line.title} | {thousands(middle(redis))} ({thousands(min(redis))}–{thousands(max(redis))}) "
            f"| {thousands(middle(orbit))} ({thousands(min(orbit))}–{thousands(max(orbit))}) "
            f"| **{middle(ratios):.2f}** ({span(ratios, '{:.2f}')}) | ≥ {line.target}, {line.aim}: {verdict} "
            f"| {redis_cpu:.2f} | {gateway:.2f} + {node:.2f} = {gateway + node:.2f} "
            f"| {(gateway + node) / max(redis_cpu, 1e-9):.2f} |"
        )


def machine():
    models = [row.split(":")[1].strip() for row in open("/proc/cpuinfo") if row.startswith("model name")]
    model = models[0] if models else "unknown CPU"
    version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout.split()[2]
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Redis {version.removeprefix('v=')}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--policy", choices=[*POLICIES], action="append")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    text = [
        "# Benchmarks", "",
        "Written by `scripts/bench resp`; do not edit. One redis-server and one Orbit cluster (coordinator, one node,",
        "one gateway), the same `redis-benchmark` client on the same machine, rounds interleaved. The ratio is the",
        "median of the per-round ratios, Orbit to Redis. CPU is user and system time of the servers, without the",
        "client.",
        "", f"{machine()}; {arguments.rounds} rounds; {KEYS} random keys, values of {SIZE} bytes.",
    ]  # fmt: skip
    for policy in arguments.policy or POLICIES:
        rows = compare(policy, arguments.rounds)
        text += ["", f"## Orbit `--fsync {policy}`, Redis `appendfsync {policy}`", "", *table(rows)]
    arguments.output.write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()

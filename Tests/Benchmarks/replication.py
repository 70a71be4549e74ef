"""Three replicas against one: same client, same machine, interleaved rounds; writes docs/benchmarks-replication.md.

Every round runs each line once on both clusters, in alternating order, so that noise meets both. Both sync every write
before they answer; with three replicas two of them have.
"""

import argparse
import csv
import dataclasses
import os
import pathlib
import subprocess

from resp import KEYS, PASSWORD, ROOT, SIZE, cpu_seconds, machine, middle, span, thousands
from conftest import Cluster


@dataclasses.dataclass(frozen=True)
class Line:
    command: str
    clients: int
    requests: int

    @property
    def title(self):
        return f"{self.command.upper()}, {self.clients} client{'s' * (self.clients > 1)}"


MANY, ONE = Line("set", 50, 40_000), Line("set", 1, 3_000)
LINES = [MANY, ONE, Line("get", 50, 60_000), Line("get", 1, 5_000)]
ASKED_RATIO = 0.35  # Durable SET of 50 clients, of the single replica's rate.
ASKED_MILLISECONDS = 2.0  # Median of a single client's SET.


@dataclasses.dataclass
class Run:
    rate: float
    median: float  # Milliseconds.
    tail: float  # The 99th percentile.
    cpu: float  # Microseconds of all processes for an operation.


class Replicated:
    """A cluster of some nodes, each shard on as many of them as it can."""

    def __init__(self, nodes):
        self.name = f"{nodes} node{'s' * (nodes > 1)}"
        self.cluster = Cluster("--nodes", str(nodes), "--fsync", "always", password=PASSWORD).start()
        self.replicas = min(len(shard["replicas"]) for shard in self.cluster.coordinator()["shards"])

    def cpu(self):
        return sum(map(cpu_seconds, self.cluster.pids().values()))

    def measure(self, line):
        before = self.cpu()
        command = [
            "redis-benchmark", "-p", str(self.cluster.port), "--user", "orbit", "-a", PASSWORD, "-t", line.command,
            "-c", str(line.clients), "-n", str(line.requests), "-r", str(KEYS), "-d", str(SIZE), "--csv",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        rows = [row for row in csv.DictReader(result.stdout.splitlines()) if row["test"].lower() == line.command]
        if not rows or "rror" in result.stderr:
            raise SystemExit(f"redis-benchmark failed at {line.command}:\n{result.stdout}{result.stderr}")
        took = (self.cpu() - before) * 1e6 / line.requests
        row = rows[0]
        return Run(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]), took)


def compare(rounds, nodes):
    """Runs of every line, by line and cluster."""
    clusters = []
    try:
        clusters += [Replicated(1)]
        clusters += [Replicated(nodes)]
        if clusters[1].replicas < 3:
            print(f"the shards of {clusters[1].name} have {clusters[1].replicas} replica(s): nothing is compared")
        for cluster in clusters:
            cluster.measure(Line("set", 50, KEYS))
        runs = {line: [[], []] for line in LINES}
        for number in range(rounds):
            for line in LINES:
                for which in (0, 1) if number % 2 == 0 else (1, 0):
                    runs[line][which].append(clusters[which].measure(line))
                one, three = (kept[-1] for kept in runs[line])
                print(f"{number + 1}/{rounds} {line.title:16} {three.rate:9.0f} / {one.rate:9.0f} = "
                      f"{three.rate / one.rate:.2f}, p50 {three.median:.2f} / {one.median:.2f} ms", flush=True)
        return runs, clusters[1].replicas
    finally:
        for cluster in clusters:
            cluster.cluster.close()


def table(runs):
    yield (
        "| line | one replica op/s (range) | three op/s (range) | ratio (range) | asked | p50, p99 ms one "
        "| p50, p99 ms three | CPU µs/op one | three |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for line, (one, three) in runs.items():
        ratios = [t.rate / o.rate for o, t in zip(one, three)]
        asked = ""
        if line is MANY:
            asked = f"≥ {ASKED_RATIO}: " + ("met" if middle(ratios) >= ASKED_RATIO else "**missed**")
        elif line is ONE:
            is_met = middle([run.median for run in three]) <= ASKED_MILLISECONDS
            asked = f"p50 ≤ {ASKED_MILLISECONDS:.0f} ms: " + ("met" if is_met else "**missed**")
        cells = [line.title]
        for kept in (one, three):
            rates = [run.rate for run in kept]
            cells.append(f"{thousands(middle(rates))} ({thousands(min(rates))}–{thousands(max(rates))})")
        cells += [f"**{middle(ratios):.2f}** ({span(ratios, '{:.2f}')})", asked]
        for kept in (one, three):
            cells.append(f"{middle([run.median for run in kept]):.2f}, {middle([run.tail for run in kept]):.2f}")
        cells += [f"{middle([run.cpu for run in kept]):.1f}" for kept in (one, three)]
        yield "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "benchmarks-replication.md")
    arguments = parser.parse_args()
    busy = os.getloadavg()[0]
    runs, replicas = compare(arguments.rounds, arguments.nodes)
    text = [
        "# Benchmarks of replication", "",
        "Written by `scripts/bench replication`; do not edit. A cluster of one node and one of three, each with its",
        "own coordinator and gateway, the same `redis-benchmark` client on the same machine, rounds interleaved;",
        "`--fsync always`. The ratio is the median of the per-round ratios, three replicas to one. CPU is user and",
        "system time of all processes of the cluster.",
        "", f"{machine()}; {arguments.rounds} rounds; {KEYS} random keys, values of {SIZE} bytes; {replicas} replicas;",
        f"load average before the run {busy:.1f} (near 0 on a quiet machine: above 1, the figures are not worth much).",
        "", *table(runs),
    ]  # fmt: skip
    print("\n".join(text))
    if replicas < 3:
        raise SystemExit("not written: the shards have fewer than three replicas")
    arguments.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()

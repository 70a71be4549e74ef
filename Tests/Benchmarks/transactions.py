"""Transactions: MULTI/EXEC against redis-server, hot keys and several shards; writes docs/benchmarks-transactions.md.

redis-benchmark knows no MULTI, so the clients are here: sockets that send a prepared request, wait for the last line
of its answer, and send the next. They take processor time from the servers, from both alike. Rounds are interleaved.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import select
import socket
import time

from resp import KEYS, PASSWORD, ROOT, SIZE, Orbit, Redis, machine, middle, span, thousands

COMMANDS = 10  # SETs of a transaction.
COUNTED = 50  # Counters that share the load where it is not one.
SHARED = 4  # SETs of a transaction over two shards.


def encode(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@dataclasses.dataclass(frozen=True)
class Line:
    """What clients ask over and over: makes a request for a client, whose answer has so many lines."""

    title: str
    clients: int
    requests: int
    answer_lines: int
    request: object

    def requests_of(self, client, random):
        return [self.request(client, random) for _ in range(64)]


def transaction(keys):
    sets = [encode("SET", key, b"x" * SIZE) for key in keys]
    return encode("MULTI") + b"".join(sets) + encode("EXEC")


def answer_lines(commands):
    return 1 + commands + 1 + commands


def ten(client, random):
    return transaction([f"key:{random.randrange(KEYS):012}" for _ in range(COMMANDS)])


# The slots of these tags lie in the lower and in the upper half: on the first and on the second of two shards.
LOWER, UPPER = "b", "a"


def over(tags):
    def request(client, random):
        return transaction([f"{{{tags[n % len(tags)]}}}:{random.randrange(KEYS):012}" for n in range(SHARED)])

    return request


MANY = Line(f"MULTI, {COMMANDS} SETs, EXEC, 50 clients", 50, 60_000, answer_lines(COMMANDS), ten)
ONE = Line(f"MULTI, {COMMANDS} SETs, EXEC, 1 client", 1, 8_000, answer_lines(COMMANDS), ten)
ONE_SHARD = Line(f"MULTI, {SHARED} SETs, EXEC on one shard, 1 client", 1, 4_000, answer_lines(SHARED), over([LOWER]))
TWO_SHARDS = Line(
    f"MULTI, {SHARED} SETs, EXEC on two shards, 1 client", 1, 4_000, answer_lines(SHARED), over([LOWER, UPPER]))
TWO_SHARDS_MANY = Line(
    f"MULTI, {SHARED} SETs, EXEC on two shards, 50 clients", 50, 20_000, answer_lines(SHARED), over([LOWER, UPPER]))
HOT = Line("INCR of one counter, 50 clients", 50, 150_000, 1, lambda client, random: encode("INCR", "counter"))
COLD = Line(
    f"INCR of {COUNTED} counters, 50 clients", 50, 150_000, 1,
    lambda client, random: encode("INCR", f"counter:{client % COUNTED}"))  # fmt: skip
ASKED_RATIO, ASKED_HOT = 0.5, 0.3
ASKED_MILLISECONDS, ASKED_SLOWER = 2.0, 2.5  # A transaction over two shards, and to one on one shard.


class Client:
    def __init__(self, port, line, number):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = line.requests_of(number, random.Random(number))
        self.next, self.missing = 0, 0
        self.socket.sendall(encode("AUTH", "orbit", PASSWORD))
        answer = self.socket.recv(4096)
        if not answer.startswith(b"+OK"):
            raise SystemExit(f"login: {answer!r}")

    def send(self, line):
        self.socket.sendall(self.requests[self.next])
        self.next = (self.next + 1) % len(self.requests)
        self.missing, self.began = line.answer_lines, time.perf_counter()


def run(server, line):
    """One run; returns requests per second, the median in milliseconds, and CPU microseconds a request."""
    clients = [Client(server.port, line, number) for number in range(line.clients)]
    poll, by_number, times = select.epoll(), {}, []
    for client in clients:
        poll.register(client.socket, select.EPOLLIN)
        by_number[client.socket.fileno()] = client
    before, began, sent, done = sum(server.cpu().values()), time.perf_counter(), 0, 0
    for client in clients:
        client.send(line)
        sent += 1
    while done < line.requests:
        for number, _ in poll.poll():
            client = by_number[number]
            answer = client.socket.recv(65536)
            if not answer or b"-" in answer:
                raise SystemExit(f"{line.title}: {answer[:200]!r}")
            client.missing -= answer.count(b"\n")
            if client.missing > 0:
                continue
            done += 1
            times.append(time.perf_counter() - client.began)
            if sent < line.requests:
                sent += 1
                client.send(line)
    elapsed = time.perf_counter() - began
    cpu = (sum(server.cpu().values()) - before) * 1e6 / line.requests
    for client in clients:
        client.socket.close()
    return line.requests / elapsed, middle(times) * 1e3, cpu


def compare(rounds):
    """Runs of each line by the server's name."""
    servers = [Redis("always"), Orbit("always")]
    try:
        runs = {line: {server.name: [] for server in servers} for line in (MANY, ONE, HOT, COLD)}
        for number in range(rounds + 1):  # The first one warms up.
            for line in runs:
                for server in servers if number % 2 == 0 else servers[::-1]:
                    result = run(server, line)
                    if number > 0:
                        runs[line][server.name].append(result)
                if number > 0:
                    redis, orbit = (runs[line][server.name][-1][0] for server in servers)
                    ratio = f"{orbit:8.0f} / {redis:8.0f} = {orbit / redis:.2f}"
                    print(f"{number}/{rounds} {line.title:36} {ratio}", flush=True)
        return runs
    finally:
        for server in servers:
            server.close()


def compare_shards(rounds):
    """Runs of each line on a cluster of one node with two shards."""
    server = Orbit("always", "--shards", "2")
    try:
        lines = (ONE_SHARD, TWO_SHARDS, TWO_SHARDS_MANY)
        runs = {line: [] for line in lines}
        for number in range(rounds + 1):
            for line in lines if number % 2 == 0 else lines[::-1]:
                result = run(server, line)
                if number > 0:
                    runs[line].append(result)
                    print(f"{number}/{rounds} {line.title:46} {result[0]:8.0f}/s {result[1]:.2f} ms", flush=True)
        return runs
    finally:
        server.close()


def table_of_shards(runs):
    yield "| line | requests/s (range) | p50 (range) | CPU µs |"
    yield "|---|---|---|---|"
    for line, results in runs.items():
        rates, medians = [result[0] for result in results], [result[1] for result in results]
        yield (
            f"| {line.title} | {thousands(middle(rates))} ({thousands(min(rates))}–{thousands(max(rates))}) "
            f"| **{middle(medians):.2f} ms** ({span(medians, '{:.2f}')}) "
            f"| {middle([result[2] for result in results]):.1f} |"
        )


def table(runs):
    yield (
        "| line | Redis requests/s (range) | Orbit requests/s (range) | ratio (range) | p50 Redis, Orbit "
        "| CPU µs Redis, Orbit |"
    )
    yield "|---|---|---|---|---|---|"
    for line, by_server in runs.items():
        redis, orbit = by_server["Redis"], by_server["Orbit"]
        ratios = [o[0] / r[0] for o, r in zip(orbit, redis)]
        cells = [line.title]
        for results in (redis, orbit):
            rates = [result[0] for result in results]
            cells.append(f"{thousands(middle(rates))} ({thousands(min(rates))}–{thousands(max(rates))})")
        cells.append(f"**{middle(ratios):.2f}** ({span(ratios, '{:.2f}')})")
        cells.append(", ".join(f"{middle([result[1] for result in results]):.2f} ms" for results in (redis, orbit)))
        cells.append(", ".join(f"{middle([result[2] for result in results]):.1f}" for results in (redis, orbit)))
        yield "| " + " | ".join(cells) + " |"


def verdicts_of_shards(runs):
    one, two = (middle([result[1] for result in runs[line]]) for line in (ONE_SHARD, TWO_SHARDS))
    for what, value, asked in (("two shards, p50 in milliseconds", two, ASKED_MILLISECONDS),
                               ("two shards, to one", two / one, ASKED_SLOWER)):
        yield f"- {what}: **{value:.2f}** (asked {asked}: {'met' if value <= asked else '**missed**'})"


def verdicts(runs):
    many = middle([o[0] / r[0] for o, r in zip(runs[MANY]["Orbit"], runs[MANY]["Redis"])])
    hot = middle([h[0] / c[0] for h, c in zip(runs[HOT]["Orbit"], runs[COLD]["Orbit"])])
    for what, value, asked in (("transactions of 50 clients, to Redis", many, ASKED_RATIO),
                               ("one counter, to fifty", hot, ASKED_HOT)):
        yield f"- {what}: **{value:.2f}** (asked {asked}: {'met' if value >= asked else '**missed**'})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "benchmarks-transactions.md")
    arguments = parser.parse_args()
    busy = os.getloadavg()[0]
    runs, shards = compare(arguments.rounds), compare_shards(arguments.rounds)
    text = [
        "# Benchmarks of transactions", "",
        "Written by `scripts/bench transactions`; do not edit. One redis-server (`appendfsync always`) and one Orbit",
        "cluster (coordinator, one node, one gateway; `--fsync always`), the same clients on the same machine, rounds",
        "interleaved. CPU is user and system time of the servers, without the clients.",
        "", f"{machine()}; {arguments.rounds} rounds; values of {SIZE} bytes; load average before the run {busy:.1f}.",
        "", *table(runs), "", *verdicts(runs),
        "", "## Two shards on one node", "", *table_of_shards(shards), "", *verdicts_of_shards(shards),
    ]  # fmt: skip
    print("\n".join(text))
    arguments.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()

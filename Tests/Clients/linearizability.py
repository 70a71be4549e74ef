"""Checks recorded histories for linearizability, key by key: registers (SET GET DEL GETSET), append-lists (APPEND GET).

Every key starts out missing. Times are from one monotonic clock. An operation that was surely refused is not recorded;
one whose outcome is unknown has the result UNKNOWN and may take effect at any time after its start, or never.

For single commands; transactions are checked by IsolationChecker in Shared/TestKit, which says how the checkers differ
(histories.py records them).

Values are unique: no two writes of a history carry the same one, and no write carries an empty one.
"""

import dataclasses
import math

UNKNOWN = type("Unknown", (), {"__repr__": lambda _: "unknown"})()
REGISTER_KINDS = ("SET", "GET", "DEL", "GETSET")
LIST_KINDS = ("APPEND", "GET")


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """What a client asked, what it was told, and when. Results: of SET True, of DEL 0 or 1, of APPEND the new length,
    of GET and GETSET bytes or None."""

    client: object
    kind: str
    key: object
    argument: bytes | None
    result: object
    start: float
    end: float

    @property
    def is_unknown(self):
        return self.result is UNKNOWN

    def __str__(self):
        words = " ".join(str(word) for word in (self.kind, self.key, self.argument) if word is not None)
        return f"client {self.client}: {words} -> {self.result!r} [{self.start} {self.end}]"


class Violation(AssertionError):
    """A history that no order explains; says why, with the operations concerned."""

    def __init__(self, reason, operations=()):
        super().__init__("\n  ".join([reason, *map(str, operations)]))


class Undecided(AssertionError):
    """The search was given up at its bound: neither good nor bad."""


def check(operations, bound=1_000_000):
    """Checks a whole history; a key with an APPEND is a list. `bound` limits the configurations tried per key."""
    keys = {}
    for operation in operations:
        keys.setdefault(operation.key, []).append(operation)
    for history in keys.values():
        if any(operation.kind == "APPEND" for operation in history):
            check_list(history)
        else:
            check_register(history, bound)
    return len(keys)


def check_register(history, bound=1_000_000):
    _expect_kinds(history, REGISTER_KINDS)
    search = _RegisterSearch(history)
    search.run(bound)


def _expect_kinds(history, kinds):
    for operation in history:
        if operation.kind not in kinds:
            raise ValueError(f"{operation.kind} among {', '.join(kinds)}: {operation}")


class _RegisterSearch:
    """The search of Wing and Gong with the memory of Lowe, made small by what unique values allow:

    - A read that fits is taken at once: it changes nothing, and later it fits less.
    - A value with readers still to come is not overwritten: it does not come back.
    - An unknown write that was read has happened before its first reader ended. All other unknown writes look alike,
      and are used (the earliest first) only where an operation needs one just before it: some value for a DEL that
      found one, a missing key for a read that found none.
    """

    def __init__(self, history):
        written = {}
        for operation in history:
            if operation.kind in ("SET", "GETSET"):
                if operation.argument in written:
                    raise ValueError(f"two writes of {operation.argument!r}")
                written[operation.argument] = operation
        self.readers = {}  # How many read a value; those that must come before the next write.
        deadlines = {}
        for operation in history:
            if operation.kind in ("GET", "GETSET") and not operation.is_unknown and operation.result is not None:
                writer = written.get(operation.result)
                if writer is None:
                    raise Violation("a value that nobody wrote, or whose write was refused", [operation])
                if operation.end < writer.start:
                    raise Violation("read before it was written", [operation, writer])
                self.readers[operation.result] = self.readers.get(operation.result, 0) + 1
                deadlines[operation.result] = min(deadlines.get(operation.result, math.inf), operation.end)
        required, self.spare_writes, self.spare_deletes = [], [], []
        for operation in history:
            if not operation.is_unknown:
                required.append((operation.start, operation.end, operation))
            elif operation.kind == "DEL":
                self.spare_deletes.append(operation.start)
            elif operation.kind != "GET":
                if operation.argument in deadlines:
                    required.append((operation.start, deadlines[operation.argument], operation))
                else:
                    self.spare_writes.append(operation.start)
        required.sort(key=lambda row: row[:2])
        self.required = required
        self.spare_writes.sort()
        self.spare_deletes.sort()

    def run(self, bound):
        """A configuration: (first index not done, bits of those done from there on, value, spares used, readers)."""
        start = self._absorb((0, 0, None, 0, 0, 0))
        stack, seen, deepest = [start], {start}, start
        while stack:
            configuration = stack.pop()
            if configuration[0] == len(self.required):
                return
            if configuration[0] > deepest[0]:
                deepest = configuration
            for following in self._successors(configuration):
                if following not in seen:
                    if len(seen) >= bound:
                        raise Undecided(f"more than {bound} configurations of {self.required[0][2].key}")
                    seen.add(following)
                    stack.append(following)
        raise Violation(f"nothing explains these after the value {deepest[2]!r}", self._window(deepest))

    def _window(self, configuration):
        return [self.required[index][2] for index in self._candidates(configuration)[0]]

    def _candidates(self, configuration):
        """Who may be next (nobody else had ended before it began), and the time until which that holds."""
        base, bits = configuration[:2]
        found, limit = [], math.inf
        for index in range(base, len(self.required)):
            if bits >> (index - base) & 1:
                continue
            start, end, _ = self.required[index]
            if start > limit:
                break
            found.append(index)
            limit = min(limit, end)
        return found, limit

    def _absorb(self, configuration):
        """Takes all reads that fit, again and again: each may let others in."""
        while True:
            base, bits, value, writes, deletes, left = configuration
            before = configuration
            for index in self._candidates(configuration)[0]:
                operation = self.required[index][2]
                if self._is_read_of(operation, value):
                    bits |= 1 << (index - base)
                    left -= value is not None
            while bits & 1:
                bits >>= 1
                base += 1
            configuration = (base, bits, value, writes, deletes, left)
            if configuration == before:
                return configuration

    @staticmethod
    def _is_read_of(operation, value):
        if operation.kind == "GET":
            return operation.result == value
        return operation.kind == "DEL" and operation.result == 0 and value is None

    def _successors(self, configuration):
        candidates, limit = self._candidates(configuration)
        for index in candidates:
            operation = self.required[index][2]
            prepared = self._prepare(operation, configuration, limit)
            if prepared is None:
                continue
            base, bits, value, writes, deletes, left = prepared
            if operation.kind in ("SET", "GETSET"):
                left -= operation.kind == "GETSET" and not operation.is_unknown and value is not None
                if left:
                    continue  # Somebody has still to read what this would overwrite.
                value = operation.argument
                left = self.readers.get(value, 0)
            elif operation.kind == "DEL":
                if left:
                    continue
                value = None
            yield self._absorb((base, bits | 1 << (index - base), value, writes, deletes, left))

    def _prepare(self, operation, configuration, limit):
        """The configuration in which `operation` answers as it did, with a spare write or delete before it if need be;
        None if there is none."""
        base, bits, value, writes, deletes, left = configuration
        if operation.is_unknown or operation.kind == "SET":
            return configuration
        if operation.kind == "DEL" and operation.result == 1:
            if value is not None:
                return configuration
            if writes < len(self.spare_writes) and self.spare_writes[writes] <= limit:
                return (base, bits, UNKNOWN, writes + 1, deletes, 0)
            return None
        wanted = None if operation.kind == "DEL" else operation.result
        if value == wanted:
            return configuration
        if wanted is None and left == 0 and deletes < len(self.spare_deletes):
            if self.spare_deletes[deletes] <= limit:
                return (base, bits, None, writes, deletes + 1, 0)
        return None


def check_list(history):
    """Values are appended tokens of one length, so positions order everything: the append that ends at length n comes
    before the reads of length n, and those before the append that begins there. What is left is the order in time."""
    _expect_kinds(history, LIST_KINDS)
    appends = {operation.argument: operation for operation in history if operation.kind == "APPEND"}
    if len(appends) != sum(operation.kind == "APPEND" for operation in history):
        raise ValueError("a token was appended by two operations")
    width = len(next(iter(appends), b"x"))
    if any(len(token) != width for token in appends):
        raise ValueError("tokens of different lengths")
    longest = max((operation for operation in history if _content(operation)), key=_length, default=None)
    tokens = _tokens(longest, width, appends)
    places = []  # (position, 0 for an append and 1 for a read, start, end, operation)
    for position, token in enumerate(tokens, 1):
        operation = appends[token]
        if not operation.is_unknown and operation.result != position * width:
            raise Violation(f"its token ends at {position * width} in the longest value", [operation, longest])
        places.append((position, 0, operation.start, math.inf if operation.is_unknown else operation.end, operation))
    content, seen, spares = _content(longest) if longest else b"", set(tokens), []
    for operation in history:
        if operation.kind == "GET" and not operation.is_unknown:
            value = operation.result or b""
            if not content.startswith(value) or len(value) % width:
                raise Violation("two values, neither the beginning of the other", [operation, longest])
            places.append((len(value) // width, 1, operation.start, operation.end, operation))
        elif operation.kind == "APPEND" and operation.argument not in seen:
            if operation.is_unknown:
                spares.append(operation.start)
                continue
            if operation.result <= len(content) or operation.result % width:
                raise Violation("an acknowledged append is lost", [operation, longest] if longest else [operation])
            places.append((operation.result // width, 0, operation.start, operation.end, operation))
    _check_order(places)
    _check_gaps(places, sorted(spares))


def _content(operation):
    return operation.result if operation.kind == "GET" and not operation.is_unknown else None


def _length(operation):
    return len(operation.result)


def _tokens(read, width, appends):
    """The tokens of a value, each of them appended by somebody, once, and not after it was read."""
    value = read.result if read else b""
    tokens = [value[start : start + width] for start in range(0, len(value), width)]
    seen = set()
    for token in tokens:
        if token not in appends:
            raise Violation(f"{token!r} was appended by nobody, or its append was refused", [read])
        if token in seen:
            raise Violation(f"{token!r} was appended twice", [read, appends[token]])
        seen.add(token)
    return tokens


def _check_order(places):
    """Nobody had ended before somebody began who comes earlier in the list."""
    places.sort(key=lambda place: place[:2], reverse=True)
    earliest, culprit, group = math.inf, None, []
    for number, place in enumerate(places):
        _, kind, start, end, operation = place
        if start > earliest:
            raise Violation("an operation shows less than one that had ended before it began", [culprit, operation])
        group.append((end, operation))
        following = places[number + 1] if number + 1 < len(places) else None
        if following and following[:2] == place[:2]:
            if kind == 0:
                raise Violation("two appends ended at the same length", [operation, following[4]])
            continue
        end, operation = min(group, key=lambda row: row[0])
        if end < earliest:
            earliest, culprit = end, operation
        group = []


def _check_gaps(places, spares):
    """Lengths that no known append reached need unknown ones, begun before what comes after them had ended.

    `places` come from the last to the first."""
    filled = {place[0] for place in places if place[1] == 0}
    needed, deadline, index = [], math.inf, 0
    for position in range(max(filled, default=0), 0, -1):
        while index < len(places) and places[index][0] >= position:
            deadline = min(deadline, places[index][3])
            index += 1
        if position not in filled:
            needed.append((deadline, position))
    for number, (deadline, position) in enumerate(reversed(needed)):
        if number >= len(spares) or spares[number] > deadline:
            raise Violation(f"nobody can have appended token {position} of {places[0][4].key}")

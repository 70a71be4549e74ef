"""Conversations of PostgreSQL's clients, as files: what the client sent, byte for byte, and what it heard, field by
field.

`python conversations.py FILE PORT -- COMMAND …` records one: the command is to connect to port 7999 of this machine,
from where everything goes to PORT; connections follow one another. `replay` says the client's part to a server, and
compares what comes.

    # A remark.
    ! CREATE TABLE t (a int)      done before, by another connection
    = {"user": "orbit"}           a connection: the parameters of the start-up message
    > Q 'select 1\\x00'            the client's message
    < D 1 | NULL                  the server's; * stands for anything

Logging in is left out: its messages are other ones each time. `{oid:t}` is the number of table t, `{oid2:t}` the same
in two bytes, as psycopg sends small numbers."""

import ast
import base64
import hashlib
import hmac
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading

FIELDS = {"S": "severity", "C": "state", "M": "message", "D": "detail", "H": "hint", "P": "position"}


class Reader:
    """The fields of a message, one after the other."""

    def __init__(self, body):
        self.body = body

    def number(self, form):
        (value,) = struct.unpack_from(form, self.body)
        self.body = self.body[struct.calcsize(form) :]
        return value

    def string(self):
        text, _, self.body = self.body.partition(b"\0")
        return text.decode()

    def value(self):
        length = self.number(">i")
        if length < 0:
            return "NULL"
        value, self.body = self.body[:length], self.body[length:]
        return ascii(value.decode("latin-1"))[1:-1]


def column(reader):
    name, table, number = reader.string(), reader.number(">I"), reader.number(">h")
    kind, length, modifier, form = (reader.number(form) for form in (">I", ">h", ">i", ">h"))
    return f"{name} {table} {number} {kind} {length} {modifier} {form}"


def shown(kind, body):
    """A message of the server, its fields with " | " between."""
    reader = Reader(body)
    if kind == "T":
        fields = [column(reader) for _ in range(reader.number(">h"))]
    elif kind == "D":
        fields = [reader.value() for _ in range(reader.number(">h"))]
    elif kind == "t":
        fields = [str(reader.number(">I")) for _ in range(reader.number(">h"))]
    elif kind in "EN":
        pairs = re.findall(rb"([^\0])([^\0]*)\0", body)
        fields = [f"{FIELDS[key.decode()]}={value.decode()}" for key, value in pairs if key.decode() in FIELDS]
    elif kind == "S":
        fields = [f"{reader.string()}={reader.string()}"]
    elif kind == "C":
        fields = [reader.string()]
    elif kind == "Z":
        fields = [body.decode()]
    else:
        fields = ["*"] if kind == "K" else [body.hex()] if body else []
    return f"< {kind} {' | '.join(fields)}".rstrip()


class Messages:
    """Messages that come over a socket."""

    def __init__(self, connection):
        self.connection, self.rest = connection, b""

    def bytes(self, count):
        while len(self.rest) < count:
            more = self.connection.recv(65536)
            if not more:
                raise EOFError
            self.rest += more
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def next(self):
        kind = self.bytes(1).decode()
        (length,) = struct.unpack(">I", self.bytes(4))
        return kind, self.bytes(length - 4)

    def startup(self):
        """The parameters of the start-up message; None: encryption is asked for, or a statement is to be cancelled."""
        (length,) = struct.unpack(">I", self.bytes(4))
        body = self.bytes(length - 4)
        if struct.unpack(">I", body[:4])[0] != 196608:
            return None, body
        words = body[4:].split(b"\0")
        return {words[i].decode(): words[i + 1].decode() for i in range(0, len(words) - 2, 2)}, body


def message(kind, body):
    return kind.encode() + struct.pack(">I", len(body) + 4) + body


# Recording


def record(target, lines, listener):
    """One connection of a client, up to its end."""
    client = Messages(listener.accept()[0])
    while True:
        parameters, body = client.startup()
        if parameters is not None:
            break
        client.connection.sendall(b"N")
    server = Messages(socket.create_connection(("127.0.0.1", target)))
    server.connection.sendall(struct.pack(">I", len(body) + 4) + body)
    lines.append(f"= {json.dumps(parameters)}")
    is_in = threading.Event()

    def answers():
        try:
            while True:
                kind, body = server.next()
                if is_in.is_set():
                    lines.append(shown(kind, body))
                client.connection.sendall(message(kind, body))
                if kind == "R" and body == b"\0\0\0\0":
                    is_in.set()
        except (EOFError, OSError):
            pass

    thread = threading.Thread(target=answers)
    thread.start()
    try:
        while True:
            kind, body = client.next()
            if is_in.is_set():
                lines.append(f"> {kind} {ascii(body.decode('latin-1'))}")
            server.connection.sendall(message(kind, body))
    except (EOFError, OSError):
        pass
    server.connection.shutdown(socket.SHUT_RDWR)
    thread.join()


def main(path, target, command):
    listener = socket.create_server(("127.0.0.1", 7999))
    lines = []

    def serve():
        while True:
            record(int(target), lines, listener)

    threading.Thread(target=serve, daemon=True).start()
    subprocess.run(command, check=True)
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    os._exit(0)


# Replaying


def scram(messages, password):
    """Logs in by SCRAM-SHA-256."""
    first = b"n=,r=" + base64.b64encode(os.urandom(18))
    initial = b"n,," + first
    messages.connection.sendall(message("p", b"SCRAM-SHA-256\0" + struct.pack(">i", len(initial)) + initial))
    challenge = messages.next()[1][4:]
    fields = dict(field.split(b"=", 1) for field in challenge.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    final = b"c=biws,r=" + fields[b"r"]
    proof = hmac.digest(hashlib.sha256(key).digest(), b",".join([first, challenge, final]), "sha256")
    proof = bytes(a ^ b for a, b in zip(key, proof))
    messages.connection.sendall(message("p", final + b",p=" + base64.b64encode(proof)))
    kind, body = messages.next()
    assert kind == "R" and body[:4] == b"\0\0\0\x0c", shown(kind, body)


def connect(port, parameters, password):
    messages = Messages(socket.create_connection(("127.0.0.1", port), timeout=60))
    body = struct.pack(">I", 196608)
    body += b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    messages.connection.sendall(struct.pack(">I", len(body) + 4) + body)
    while True:
        kind, body = messages.next()
        if kind != "R":
            raise AssertionError(shown(kind, body))
        (code,) = struct.unpack(">I", body[:4])
        if code == 0:
            return messages
        scram(messages, password)


def matches(expected, found):
    """Whether each field is what it must be; a column's are its own fields."""
    pattern = re.escape(expected).replace(r"\*", ".*")
    return re.fullmatch(pattern, found) is not None


def replay(path, port, password, execute):
    """What was heard and should not have been. `execute` is for another connection: it gives a statement's rows."""

    def oid(match):
        number = execute(f"SELECT '{match[2].decode()}'::regclass::oid::int")[0][0]
        return struct.pack(">H", number) if match[1] else str(number).encode()

    def filled(text):
        return re.sub(rb"\{oid(2?):(\w+)\}", oid, text)

    differences, messages = [], None
    with open(path) as file:
        lines = [line.rstrip("\n") for line in file]
    for number, line in enumerate(lines, 1):
        if line.startswith("! "):
            execute(line[2:])
        elif line.startswith("= "):
            if messages:
                messages.connection.close()
            messages = connect(port, json.loads(line[2:]), password)
        elif line.startswith("> "):
            kind, body = line[2], ast.literal_eval(line[4:]).encode("latin-1")
            messages.connection.sendall(message(kind, filled(body)))
        elif line.startswith("< "):
            line, found = filled(line.encode()).decode(), shown(*messages.next())
            if not matches(line, found):
                differences.append(f"{number}: expected {line}\n   found {found}")
                if line[:3] != found[:3]:
                    break
    if messages:
        messages.connection.close()
    return differences


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[4:])

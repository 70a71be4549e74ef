"""Clusters whose processes live in network namespaces of the test's own, so that any pair of them can be cut apart.

Every process has a namespace with one interface on a common bridge; the bridge has a namespace too, and the machine's
own network is not touched. A pair is cut by giving each the wrong link address of the other: packets are lost silently,
on connections that stand as well, as by a broken switch. Clients reach gateways over Unix sockets, which know no
namespaces.
"""

import os
import pathlib
import signal
import subprocess
import tempfile

import redis

from conftest import BIN, kill, wait_until
from faults import View

NAMES = {"c1": 1, "n1": 11, "n2": 12, "n3": 13, "g1": 21, "g2": 22}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not():
    """Why namespaces cannot be had here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"orbit-{os.getpid()}-probe"
    try:
        ip("netns", "add", probe)
        try:
            ip("-n", probe, "link", "add", "b0", "type", "bridge")
            ip("-n", probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        finally:
            ip("netns", "delete", probe)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces: {getattr(error, 'stderr', None) or error}"
    return None


class SplitCluster:
    """One coordinator, three nodes and two gateways, each in a namespace; no supervisor, TCP between them."""

    def __init__(self):
        self.holder = tempfile.TemporaryDirectory(prefix="orbit-", dir="/tmp")
        self.data = self.holder.name
        self.prefix = f"orbit-{os.getpid()}"
        self.processes, self.hub = {}, f"{self.prefix}-hub"
        self.view = View(self.data, 3)

    def namespace(self, name):
        return f"{self.prefix}-{name}"

    @staticmethod
    def address(name):
        return f"10.213.0.{NAMES[name]}"

    def __enter__(self):
        try:
            for folder in ("run", "log"):
                pathlib.Path(self.data, folder).mkdir(mode=0o700)
            self.make_network()
            for name in NAMES:
                self.start(name)
            wait_until(self.is_served, "a cluster in namespaces" + self.logs())
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def close(self):
        for process in self.processes.values():
            kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()
        for name in [*map(self.namespace, NAMES), self.hub]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        self.holder.cleanup()

    def make_network(self):
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "add", "br0", "type", "bridge")
        ip("-n", self.hub, "link", "set", "br0", "up")
        for name, number in NAMES.items():
            own = self.namespace(name)
            ip("netns", "add", own)
            ip("-n", self.hub, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", own)
            ip("-n", self.hub, "link", "set", name, "master", "br0", "up")
            ip("-n", own, "link", "set", "eth0", "address", self.link_address(number))
            ip("-n", own, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", own, "link", "set", device, "up")

    @staticmethod
    def link_address(number, is_right=True):
        return f"02:00:00:00:{'01' if is_right else 'ff'}:{number:02x}"

    def start(self, name):
        role = {"c": "coordinator", "n": "storage-node", "g": "resp-gw"}[name[0]]
        words = ["--insecure", "--admin", f"unix:{self.data}/run/{name}.admin"]
        if role == "resp-gw":
            words += ["--listen", f"unix:{self.data}/run/{name}", "--authentication=no"]
        else:
            port = 50050 if role == "coordinator" else 50051
            words += ["--data", f"{self.data}/{name}", "--listen", f"{self.address(name)}:{port}"]
        if role == "coordinator":
            words += ["--nodes", "3", "--shards", "3"]
        else:
            words += ["--coordinator", f"{self.address('c1')}:50050"]
        with open(f"{self.data}/log/{name}.log", "ab") as log:
            command = ["ip", "netns", "exec", self.namespace(name), str(BIN / role), *words]
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def is_served(self):
        assert not self.ended(), self.logs()
        for gateway in ("g1", "g2"):
            try:
                with self.connect(gateway) as client:
                    for number in range(20):
                        client.set(f"first:{number}", gateway)
            except (redis.RedisError, OSError):
                return False
        return all(self.view.leader(shard) for shard in self.view.shards())

    def connect(self, gateway, **more):
        path = f"{self.data}/run/{gateway}"
        return redis.Redis(unix_socket_path=path, **{"socket_timeout": 3, **more})

    def signal(self, name, number):
        """Stops, continues or ends a process; one that is killed is gone when this returns."""
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait()

    def unread(self, here, there):
        """Bytes that `there` has sent to `here`, and that wait there for the process to read them."""
        address = "".join(f"{int(part):02X}" for part in reversed(self.address(there).split(".")))
        table = pathlib.Path(f"/proc/{self.processes[here].pid}/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in table]
        return sum(int(row[4].split(":")[1], 16) for row in rows if row[2].startswith(address))

    def ended(self):
        """Processes that have died."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def direct(self, here, there, is_right):
        """Whether what `here` sends to `there` arrives."""
        ip("-n", self.namespace(here), "neighbour", "replace", self.address(there), "lladdr",
           self.link_address(NAMES[there], is_right), "dev", "eth0", "nud", "permanent")  # fmt: skip

    def mute(self, one, others):
        """Loses what one sends to the others; what they send arrives."""
        for other in others:
            self.direct(one, other, is_right=False)

    def cut(self, one, others):
        """Separates one from the others."""
        self.mute(one, others)
        for other in others:
            self.direct(other, one, is_right=False)

    def split(self, side):
        """Separates the processes of `side` from all others."""
        for one in side:
            self.cut(one, set(NAMES) - set(side))

    def heal(self):
        for one in NAMES:
            for other in set(NAMES) - {one}:
                self.direct(one, other, is_right=True)

    def logs(self):
        paths = sorted(pathlib.Path(self.data, "log").glob("*.log"))
        return "".join(f"\n--- {path.name}\n" + path.read_text(errors="replace")[-1500:] for path in paths)



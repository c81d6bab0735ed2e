#!/usr/bin/env python3
"""Measures svtree beside daemontools, runit and s6, where they are installed, and beside a bare spawn.

Standard library only. README.md says how to run it and how to read what it prints.
"""
import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RECORD = struct.Struct("=QQ")  # of first.c: nanoseconds, pid
YOUNG = 1.2  # seconds; all of them pace a service that is younger than one


class Starts:
    """The FIFO to which every instance of every service writes the time of its first instruction."""

    def __init__(self, path):
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, count, seconds):
        """The next `count` starts as (ns, pid), oldest first; fewer if the time is over."""
        found, deadline = [], time.monotonic() + seconds
        while len(found) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                break
            data = os.read(self.fd, RECORD.size * min(count - len(found), 4096))
            found.extend(RECORD.iter_unpack(data))
        return sorted(found)


def spawn(*argv, env=None, out="/dev/null"):
    """Starts a program with its output in a file; whoever is left at the end is found by its parent."""
    files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    files += [(os.POSIX_SPAWN_OPEN, fd, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for fd in (1, 2)]
    return os.posix_spawnp(argv[0], argv, env or os.environ, file_actions=files)


def run(*argv):
    os.waitpid(spawn(*argv), 0)


def poke(fifo, letters):
    with open(fifo, "wb", buffering=0) as file:
        file.write(letters)


class Peer:
    """One supervisor on a directory of services; `scan` is that directory, `root` its scratch place."""

    flags = []  # for first.c
    polls = False  # whether it looks for new services from time to time only

    def __init__(self, root, first):
        self.root, self.first = root, first
        self.scan, self.out = os.path.join(root, "scan"), os.path.join(root, "out")
        os.mkdir(self.scan)
        self.pid = None

    @classmethod
    def found(cls):
        return all(shutil.which(tool) for tool in cls.tools)

    def write(self, name, where=None):
        service = os.path.join(where or self.scan, name)
        os.makedirs(service)
        os.link(self.first, os.path.join(service, "run"))
        return service

    def drop(self, service):
        os.rename(service, os.path.join(self.scan, os.path.basename(service)))


class Svtree(Peer):
    name, tools = "svtree", []
    binary = os.environ.get("SVTREE", os.path.join(HERE, "../target/release/svtree"))

    @classmethod
    def found(cls):
        return os.access(cls.binary, os.X_OK)

    def start(self):
        roots = ["--status", os.path.join(self.root, "status"), "--logs", os.path.join(self.root, "logs")]
        self.pid = spawn(self.binary, "run", self.scan, *roots, "--log", "none", out=self.out)

    def stop(self, names):
        os.kill(self.pid, signal.SIGTERM)


class Daemontools(Peer):
    name, tools, polls = "daemontools", ["svscan", "supervise", "svc"], True

    def start(self):
        self.pid = spawn("svscan", self.scan, out=self.out)

    def stop(self, names):
        os.kill(self.pid, signal.SIGTERM)  # else it would start their supervise again
        spawn("svc", "-dx", *(os.path.join(self.scan, name) for name in names))


class Runit(Peer):
    name, tools, polls = "runit", ["runsvdir", "runsv"], True

    def start(self):
        self.pid = spawn("runsvdir", "-P", self.scan, out=self.out)

    def stop(self, names):
        os.kill(self.pid, signal.SIGHUP)


class S6(Peer):
    name, tools, flags = "s6", ["s6-svscan", "s6-supervise", "s6-svscanctl"], ["-DREADY=3"]

    def write(self, name, where=None):
        service = super().write(name, where)
        with open(os.path.join(service, "notification-fd"), "w") as file:
            file.write("3\n")  # a service that is never ready is restarted a second late
        return service

    def start(self):
        self.pid = spawn("s6-svscan", "-c", "4000", self.scan, out=self.out)

    def drop(self, service):
        super().drop(service)
        poke(os.path.join(self.scan, ".s6-svscan/control"), b"a")

    def stop(self, names):
        run("s6-svscanctl", "-t", self.scan)


PEERS = [Svtree, Daemontools, Runit, S6]


class Tree:
    """The processes that stem from us: each is found by its parents, and told by its executable."""

    def __init__(self, first):
        file = os.stat(first)
        self.service = file.st_dev, file.st_ino

    def supervisors(self):
        children = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
        found, look = [], [os.getpid()]
        while look:
            for pid in children.get(look.pop(), ()):
                look.append(pid)
                with contextlib.suppress(OSError):
                    file = os.stat(f"/proc/{pid}/exe")
                    if (file.st_dev, file.st_ino) != self.service:
                        found.append(pid)
        return found

    def pss_kib(self):
        total = 0
        for pid in self.supervisors():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        return total

    def work(self):
        """Threads, context switches and nanoseconds on a processor, of all supervisors so far."""
        threads = switches = busy = 0
        for pid in self.supervisors():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    threads += 1
                    with open(f"/proc/{pid}/task/{task}/status") as file:
                        switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
                    with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                        busy += int(file.read().split()[0])
        return threads, switches, busy


def gone(seconds):
    """Waits until nothing that stems from us is left; false if the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
        except ChildProcessError:
            return True
    return False


def end_all():
    """Ends what is left, by pid, child by child: whoever loses its parent becomes our child."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                for pid in map(int, file.read().split()):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


@contextlib.contextmanager
def running(kind, count):
    """A supervisor with `count` services, all of them up; nothing of it is left afterwards."""
    root = tempfile.mkdtemp(prefix="svtree-bench.", dir=os.environ.get("BENCH_TMP", "/dev/shm"))
    try:
        fifo, first = os.path.join(root, "fifo"), os.path.join(root, "first")
        build_first(first, fifo, *kind.flags)
        starts = Starts(fifo)
        peer = kind(root, first)
        names = [f"{number:04}" for number in range(count)]
        for name in names:
            peer.write(name)
        time.sleep(YOUNG)  # runsvdir passes over a directory that was changed in the current second
        begin = time.monotonic_ns()
        peer.start()
        up = starts.wait(count, 60)
        if len(up) < count:
            raise SystemExit(f"{kind.name}: {len(up)} of {count} services started; it said:\n{said(peer.out)}")
        yield peer, starts, names, up, (up[-1][0] - begin) / 1e6
    finally:
        end_all()
        shutil.rmtree(root, ignore_errors=True)


def said(path):
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.read()[-2000:]
    return ""


def build(source, to, *flags):
    subprocess.run([os.environ.get("CC", "cc"), "-O2", *flags, "-o", to, os.path.join(HERE, source)], check=True)


def build_first(to, fifo, *flags):
    build("first.c", to, "-static", "-nostartfiles", f'-DFIFO="{fifo}"', *flags)


def bare(count):
    """The floor: what a spawn and a restart take with no supervisor."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_TMP", "/dev/shm")) as root:
        fifo, first = os.path.join(root, "fifo"), os.path.join(root, "first")
        build_first(first, fifo)
        build("bare.c", os.path.join(root, "bare"))
        os.mkfifo(fifo)
        lines = subprocess.run([os.path.join(root, "bare"), first, fifo, str(count)], check=True, stdout=subprocess.PIPE)
        samples = {"spawn": [], "restart": []}
        for line in lines.stdout.decode().splitlines():
            what, ns = line.split()
            samples[what].append(int(ns) / 1e6)
    return samples


def restart(kind, count):
    """KILL to the next instance's first instruction, for services that have run for a while."""
    samples = []
    with running(kind, count) as (_, starts, _, up, _):
        time.sleep(YOUNG)
        for _, pid in random.sample(up, count):
            begin = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            for ns, _ in starts.wait(1, 10):
                samples.append((ns - begin) / 1e6)
            time.sleep(random.uniform(0.01, 0.05))  # out of step with any loop of the peer
    return samples


def drop_in(kind, count):
    """A service directory renamed into place, to its first instruction."""
    samples = []
    with running(kind, 3) as (peer, starts, _, _, _):
        for number in range(8 if kind.polls else count):
            service = peer.write(f"new{number}", os.path.join(peer.root, "aside"))
            # One that polls is met at any phase of its five seconds.
            time.sleep(random.uniform(0, 5) if kind.polls else random.uniform(0.02, 0.06))
            begin = time.monotonic_ns()
            peer.drop(service)
            for ns, _ in starts.wait(1, 15):
                samples.append((ns - begin) / 1e6)
    return samples


def idle(kind, count, seconds):
    """Many services at once: start, the cost of doing nothing, all of them killed at once, stop."""
    with running(kind, count) as (peer, starts, names, up, start):
        time.sleep(3)
        tree = Tree(peer.first)
        pss = tree.pss_kib()
        threads, switches, busy = tree.work()
        time.sleep(seconds)
        _, more_switches, more_busy = tree.work()
        begin = time.monotonic_ns()
        for _, pid in up:
            os.kill(pid, signal.SIGKILL)
        back = starts.wait(count, 60)
        storm = (back[-1][0] - begin) / 1e6 if len(back) == count else None
        time.sleep(YOUNG)
        begin = time.monotonic_ns()
        peer.stop(names)
        stop = (time.monotonic_ns() - begin) / 1e6 if gone(60) else None
    return {
        "start ms": start, "PSS KiB": pss, "threads": threads, "switches": more_switches - switches,
        "CPU ms": (more_busy - busy) / 1e6, "storm ms": storm, "stop ms": stop,
    }


def row(*cells):
    print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True)


def head(title, *cells):
    print(f"\n{title}\n")
    row(*cells)
    row(*("---" for _ in cells))


def table(title, results, floor):
    head(title, "", "median ms", "worst ms", "x bare", "samples")
    base = statistics.median(floor)
    for name, samples in [("bare", floor), *results.items()]:
        if samples:
            median = statistics.median(samples)
            row(name, median, max(samples), median / base, len(samples))
        else:
            row(name, "never", "", "", 0)


def main():
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(names), help="default: %(default)s")
    parser.add_argument("--count", type=int, default=30, help="samples of each latency (default: %(default)s)")
    parser.add_argument("--modules", type=int, default=1000, help="in the idle measure (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="of doing nothing (default: %(default)s)")
    parser.add_argument("--json", help="a file for every sample")
    options = parser.parse_args()
    os.environ["PATH"] += ":" + os.path.join(HERE, "../target/peers/runit/usr/bin")  # where .ci/run unpacks it
    wanted = options.peers.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    peers = [peer for peer in PEERS if peer.name in wanted and peer.found()]
    for name in set(wanted) - {peer.name for peer in peers}:
        print(f"{name}: not found, passed over", file=sys.stderr)

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: no process can get away from us
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    floor = bare(options.count)
    results = {
        "restart": {peer.name: restart(peer, options.count) for peer in peers},
        "drop-in": {peer.name: drop_in(peer, options.count) for peer in peers},
    }
    table("KILL to the next instance's first instruction", results["restart"], floor["restart"])
    table("Directory renamed into place to first instruction", results["drop-in"], floor["spawn"])
    results["idle"] = {peer.name: idle(peer, options.modules, options.seconds) for peer in peers}
    columns = next(iter(results["idle"].values()), {})
    head(f"{options.modules} services; switches and CPU in {options.seconds} s of doing nothing", "", *columns)
    for name, values in results["idle"].items():
        row(name, *values.values())
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"bare": floor, **results}, file, indent=1)


if __name__ == "__main__":
    main()

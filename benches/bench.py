#!/usr/bin/env python3
"""Measures svtree beside daemontools, runit and s6, where they are installed, and beside a bare spawn.

Standard library only. README.md says how to run it and how to read what it prints.
"""
import argparse
import contextlib
import ctypes
import json
import os
import platform
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

sys.dont_write_bytecode = True  # nothing is left beside the sources
from peers import HERE, PEERS, run, spawn  # noqa: E402

RECORD = struct.Struct("=QQ")  # of first.c: nanoseconds, pid
YOUNG = 1.2  # seconds; all of them pace a service that is younger than one
FEW = 8  # samples of who has to be waited for up to five seconds


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
            if count > 1:
                time.sleep(0.005)  # the times are in the records: we need not be woken, and get in the way, by each
            data = os.read(self.fd, RECORD.size * min(count - len(found), 4096))
            found.extend(RECORD.iter_unpack(data))
        return sorted(found)


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

    def held(self):
        """What all supervisors hold: KiB of PSS, threads, descriptors."""
        pss = threads = descriptors = 0
        for pid in self.supervisors():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
                pss += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
                threads += len(os.listdir(f"/proc/{pid}/task"))
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return pss, threads, descriptors

    def work(self):
        """Context switches and nanoseconds on a processor, of all supervisors so far."""
        switches = busy = 0
        for pid in self.supervisors():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/status") as file:
                        switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
                    with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                        busy += int(file.read().split()[0])
        return switches, busy


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


class Failed(Exception):
    """One measure of one supervisor; the others are still worth having."""


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
            raise Failed(f"{kind.name}: {len(up)} of {count} services started; it said:\n{said(peer.out)}")
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
    """The floor: what is left with no supervisor. The samples of each line that bare.c prints."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_TMP", "/dev/shm")) as root:
        fifo, first = os.path.join(root, "fifo"), os.path.join(root, "first")
        build_first(first, fifo)
        build("bare.c", os.path.join(root, "bare"))
        os.mkfifo(fifo)
        run_it = [os.path.join(root, "bare"), first, fifo, str(count)]
        samples = {}
        for line in subprocess.run(run_it, check=True, stdout=subprocess.PIPE).stdout.decode().splitlines():
            what, ns = line.split()
            samples.setdefault(what, []).append(int(ns) / 1e6)
    return samples


def service_of(pid):
    return os.path.basename(os.readlink(f"/proc/{pid}/cwd"))


def next_start(kind, count, act):
    """From `act` on services that have run for a while to the next instance's first instruction."""
    samples = []
    with running(kind, count) as (peer, starts, _, up, _):
        time.sleep(YOUNG)
        for _, pid in random.sample(up, count):
            name = service_of(pid)
            begin = time.monotonic_ns()
            act(peer, name, pid)
            for ns, _ in starts.wait(1, 10):
                samples.append((ns - begin) / 1e6)
            time.sleep(random.uniform(0.01, 0.05))  # out of step with any loop of the peer
    return samples


def restart(kind, count):
    return next_start(kind, count, lambda peer, name, pid: os.kill(pid, signal.SIGKILL))


def letter(kind, count):
    return next_start(kind, count, lambda peer, name, pid: peer.letter(name))


def phase(polls):
    """Waits, so that one who polls is met at any phase of its five seconds, and others out of step with anything."""
    time.sleep(random.uniform(0, 5) if polls else random.uniform(0.02, 0.06))


def drop_in(kind, count):
    """A service directory renamed into place, to its first instruction."""
    samples, polls = [], "drop-in" in kind.polls
    with running(kind, 3) as (peer, starts, _, _, _):
        for number in range(min(count, FEW) if polls else count):
            peer.write(f"new{number}", peer.aside)
            phase(polls)
            begin = time.monotonic_ns()
            peer.drop(f"new{number}")
            for ns, _ in starts.wait(1, 15):
                samples.append((ns - begin) / 1e6)
    return samples


def removal(kind, count):
    """A service directory renamed away, to the death of its process; our being woken by that is in it."""
    samples, polls = [], "removal" in kind.polls
    count = min(count, FEW) if polls else count
    with running(kind, count) as (peer, _, _, up, _):
        time.sleep(YOUNG)
        for _, pid in random.sample(up, count):
            name, process = service_of(pid), os.pidfd_open(pid)
            phase(polls)
            begin = time.monotonic_ns()
            peer.remove(name)
            if select.select([process], [], [], 15)[0]:
                samples.append((time.monotonic_ns() - begin) / 1e6)
            os.close(process)
    return samples


def status(peer, names):
    """The peer's own client, asked for all names at once; the median of five."""
    said_all, samples = os.path.join(peer.root, "said"), []
    argv = peer.status(names)
    os.waitpid(spawn(*argv, out=said_all), 0)
    with open(said_all) as file:
        if file.read().count("(pid ") != len(names):
            raise Failed(f"{peer.name}: {argv[0]} does not say of each that it is up:\n{said(said_all)}")
    for _ in range(5):
        begin = time.monotonic_ns()
        run(*argv)
        samples.append((time.monotonic_ns() - begin) / 1e6)
    return statistics.median(samples)


def many(kind, count, seconds):
    """Many services at once: start, the cost of doing nothing, their status, all of them killed at once, stop."""
    with running(kind, count) as (peer, starts, names, up, start):
        time.sleep(3)  # until all that follows from the start is done
        tree = Tree(peer.first)
        switches, busy = tree.work()
        time.sleep(seconds)
        more_switches, more_busy = tree.work()
        pss, threads, descriptors = tree.held()
        answer = status(peer, names)
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
        "start ms": start, "storm ms": storm, "stop ms": stop, "status ms": answer, "PSS KiB each": pss / count,
        "descriptors each": descriptors / count, "threads": threads, "switches": more_switches - switches,
        "CPU ms": (more_busy - busy) / 1e6,
    }


LATENCIES = {  # the measure, the line of bare.c that stands beside it, what it is
    "drop-in": (drop_in, "spawn", "a directory renamed into place → first instruction"),
    "removal": (removal, "end", "a directory renamed away → its process is dead"),
    "restart": (restart, "restart", "death after more than a second → the next first instruction"),
    "letter": (letter, "letter", "a letter in the FIFO → the next first instruction"),
}

MANY = {  # the column of `many`, as a line of the page
    "start ms": "cold start: all up, ms",
    "storm ms": "all killed at once: all back, ms",
    "stop ms": "all stopped, ms",
    "status ms": "status of all names by the peer's own client, ms",
    "PSS KiB each": "memory (PSS) a module, KiB",
    "descriptors each": "descriptors a module",
    "threads": "threads",
    "switches": "context switches at rest",
}


def figure(value):
    if not isinstance(value, float):
        return str("never" if value is None else value)
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def row(*cells):
    print("| " + " | ".join(map(figure, cells)) + " |", flush=True)


def head(title, *cells):
    print(f"\n{title}\n")
    row(*cells)
    row(*("---" for _ in cells))


def print_all(latencies, crowds):
    """Every measure with its extremes."""
    for what, results in latencies.items():
        head(f"{what}: {LATENCIES[what][2]}", "", "median ms", "best ms", "worst ms", "x bare", "samples")
        base = statistics.median(results["bare"])
        for name, samples in results.items():
            if samples:
                median = statistics.median(samples)
                row(name, median, min(samples), max(samples), median / base, len(samples))
            else:
                row(name, None, "", "", "", 0)
    for title, results in crowds.items():
        head(title, "", *next(iter(results.values())))
        for name, values in results.items():
            row(name, *values.values())


def print_page(latencies, crowds):
    """The same in short, as the tables of docs/performance.md: in terms of the floor, or of who stands first."""
    names = list(next(iter(latencies.values())))
    head("Medians, as multiples of the bare one:", "", "bare, ms", *names[1:])
    for what, results in latencies.items():
        base, *others = (statistics.median(samples) if samples else None for samples in results.values())
        row(LATENCIES[what][2], base, *(other and f"{figure(other / base)} ×" for other in others))
    for title, results in crowds.items():
        first, *others = results.values()
        head(title, "", *results)
        for column, what in MANY.items():
            # Of what may be none there is no multiple.
            cells = [other[column] for other in others]
            if first[column] and isinstance(first[column], float):
                cells = [cell and f"{figure(cell / first[column])} ×" for cell in cells]
            row(what, first[column], *cells)


def machine():
    """On what, and how quiet it was before."""
    load = f"load {os.getloadavg()[0]:.1f} before"
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, Linux {platform.release()}, {load}"


def tried(measure, *arguments):
    try:
        return measure(*arguments)
    except Failed as why:
        print(why, file=sys.stderr)
        return None


def main():
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(names), help="default: %(default)s")
    parser.add_argument("--count", type=int, default=30, help="samples of each latency (default: %(default)s)")
    parser.add_argument("--modules", type=int, default=1000, help="at once, of each (default: %(default)s)")
    parser.add_argument("--most", type=int, default=3000, help="the same of the first alone (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="of doing nothing (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md instead")
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

    print(machine(), flush=True)
    # The floor is taken anew beside each measure: the machine is never quite the same.
    latencies = {}
    for what, (measure, line, _) in LATENCIES.items():
        latencies[what] = {"bare": bare(options.count)[line]}
        latencies[what] |= {peer.name: tried(measure, peer, options.count) for peer in peers}
    crowds = {}
    for count, kinds in [(options.modules, peers), (options.most, peers[:1])]:
        results = {peer.name: tried(many, peer, count, options.seconds) for peer in kinds if count}
        if results := {name: values for name, values in results.items() if values}:
            crowds[f"{count:,} modules, {options.seconds} s at rest"] = results
    (print_page if options.markdown else print_all)(latencies, crowds)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"latencies": latencies, "crowds": crowds}, file, indent=1)


if __name__ == "__main__":
    main()

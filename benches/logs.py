#!/usr/bin/env python3
"""What logging costs with svtree beside multilog, svlogd and s6-log.

See README.md. Must never end a process that it did not start."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SVTREE = os.environ.get("SVTREE", os.path.join(HERE, "..", "target", "release", "svtree"))
RUNIT = os.environ.get("SVTREE_RUNIT_BIN", os.path.join(HERE, "..", "target", "peers", "runit", "usr", "bin"))
SCRATCH = os.environ.get("BENCH_TMP", "/dev/shm")


def find(program):
    own = os.path.join(RUNIT, program)
    return own if os.access(own, os.X_OK) else shutil.which(program)


def loggers(line):
    """Name and command line of each logger that is there: stamps, files of 1 MB, ten of them."""
    yield "only read", lambda log: [line, "read", "-"]
    yield "svtree log", lambda log: [SVTREE, "log", "--max-size", "1MB", "--keep", "10", "--timestamps", "tai64n", log]
    if find("multilog"):
        yield "multilog", lambda log: [find("multilog"), "t", "s1000000", "n10", log]
    if find("svlogd"):
        yield "svlogd", lambda log: [find("svlogd"), "-t", log]
    if find("s6-log"):
        yield "s6-log", lambda log: [find("s6-log"), "t", "n10", "s1000000", log]


def throughput(line, argv, log, megabytes, block):
    """MB/s from the first byte until the logger has ended, and its processor seconds for each GB."""
    shutil.rmtree(log, ignore_errors=True)
    os.makedirs(log)
    with open(os.path.join(log, "config"), "w") as config:
        config.write("s1000000\nn10\n")
    reader, writer = os.pipe()
    logger = subprocess.Popen(argv(log), stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(reader)
    begun = time.monotonic()
    program = subprocess.Popen([line, str(megabytes * 1_000_000), str(block)], stdout=writer)
    os.close(writer)
    program.wait()
    _, _, usage = os.wait4(logger.pid, 0)
    taken = time.monotonic() - begun
    logger.returncode = 0
    return megabytes / taken, (usage.ru_utime + usage.ru_stime) / (megabytes / 1000)


def field(pid, file, name):
    with open("/proc/%d/%s" % (pid, file)) as text:
        return next(int(row.split()[1]) for row in text if row.startswith(name + ":"))


def switches(pid):
    threads = os.listdir("/proc/%d/task" % pid)
    names = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    return sum(field(pid, "task/%s/status" % thread, name) for thread in threads for name in names)


def ticks(pid):
    with open("/proc/%d/stat" % pid) as text:
        fields = text.read().rsplit(") ", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def tree(root, line, modules, words):
    """A running tree of modules that print; returns its process and the pid of its logger."""
    for name in ("services", "logs"):
        os.makedirs(os.path.join(root, name))
    for number in range(modules):
        service = os.path.join(root, "services", "m%d" % number)
        os.mkdir(service)
        with open(os.path.join(service, "run"), "w") as run:
            run.write("#!/bin/sh\nexec %s %s\n" % (line, words))
        os.chmod(run.name, 0o755)
    argv = [SVTREE, "run", "services", "--status", "status", "--logs", "logs", "--log", "file"]
    svtree = subprocess.Popen(argv, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = os.path.join(root, "logs", "m%d" % (modules - 1), "current")
    end = time.monotonic() + 60
    while not (os.path.exists(last) and len(os.listdir(os.path.join(root, "logs"))) == modules):
        if time.monotonic() > end:
            sys.exit("not all modules have printed")
        time.sleep(0.1)
    with open(os.path.join(root, "status", ".logger", "state.json")) as state:
        text = state.read()
    return svtree, int(text.split('"pid":')[1].split(",")[0])


def stop(svtree):
    svtree.send_signal(signal.SIGTERM)
    svtree.wait()


def memory(root, line, modules):
    """PSS in MiB of the logger of so many modules that print without end, and of as many s6-log."""
    svtree, logger = tree(root, line, modules, "1000000000000 4000")
    time.sleep(3)
    ours = field(logger, "smaps_rollup", "Pss") / 1024
    stop(svtree)
    theirs = None
    if find("s6-log"):
        started = []
        for number in range(modules):
            log = os.path.join(root, "s6", str(number))
            os.makedirs(log)
            reader, writer = os.pipe()
            argv = [find("s6-log"), "t", "n10", "s1000000", log]
            started.append(subprocess.Popen(argv, stdin=reader, stdout=subprocess.DEVNULL))
            started.append(subprocess.Popen([line, "1000000000000", "4000"], stdout=writer))
            os.close(reader)
            os.close(writer)
        time.sleep(3)
        theirs = sum(field(one.pid, "smaps_rollup", "Pss") for one in started[::2]) / 1024
        for one in started:
            one.kill()
        for one in started:
            one.wait()
    return ours, theirs


def trickle(root, line, modules, seconds):
    """Context switches and processor milliseconds of the logger for each line, at a line a second from each module."""
    svtree, logger = tree(root, line, modules, "every 1000")
    time.sleep(2)
    before = switches(logger), ticks(logger), switches(svtree.pid)
    time.sleep(seconds)
    after = switches(logger), ticks(logger), switches(svtree.pid)
    stop(svtree)
    lines = modules * seconds
    per = (after[1] - before[1]) * 1000 / os.sysconf("SC_CLK_TCK") / lines
    return (after[0] - before[0]) / lines, per, after[2] - before[2]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mb", type=int, default=500, help="so much for each logger")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--modules", type=int, default=1000, help="that print a line a second")
    asked = arguments.parse_args()
    root = tempfile.mkdtemp(prefix="svtree-logs-", dir=SCRATCH)
    line = os.path.join(root, "line")
    subprocess.check_call(["cc", "-O2", "-o", line, os.path.join(HERE, "line.c")])
    try:
        print("load before: %s" % open("/proc/loadavg").read().split()[0])
        for block in (4000, 100):
            samples = {}
            for _ in range(asked.rounds):
                for name, argv in loggers(line):
                    one = throughput(line, argv, os.path.join(root, "log"), asked.mb, block)
                    samples.setdefault(name, []).append(one)
            for name, runs in samples.items():
                rate, cost = (sorted(values)[len(runs) // 2] for values in zip(*runs))
                print("%4d-byte writes, %-10s %6.0f MB/s  %5.2f s/GB" % (block, name, rate, cost), flush=True)
        ours, theirs = memory(os.path.join(root, "memory"), line, 200)
        beside = "" if theirs is None else ", 200 s6-log %.1f MiB" % theirs
        print("200 modules that print without end: PSS of the logger %.1f MiB%s" % (ours, beside), flush=True)
        woken, cost, svscan = trickle(os.path.join(root, "trickle"), line, asked.modules, 20)
        print("%d modules, a line a second each: %.2f switches and %.3f ms a line; svscan %d switches in 20 s"
              % (asked.modules, woken, cost, svscan))
    finally:
        shutil.rmtree(root, ignore_errors=True)


main()

"""The supervisors that bench.py measures: how each is laid out, started, told, asked and stopped.

Must never take a time.
"""
import contextlib
import os
import shutil
import signal

HERE = os.path.dirname(os.path.abspath(__file__))


def spawn(*argv, out="/dev/null"):
    """Starts a program with its output in a file; whoever is left at the end is found by its parent."""
    files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    files += [(os.POSIX_SPAWN_OPEN, fd, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for fd in (1, 2)]
    return os.posix_spawnp(argv[0], argv, os.environ, file_actions=files)


def run(*argv):
    os.waitpid(spawn(*argv), 0)


def poke(fifo, letters):
    with open(fifo, "wb", buffering=0) as file:
        file.write(letters)


class Peer:
    """One supervisor on a directory of services; `scan` is that directory, `root` its scratch place."""

    flags = []  # for first.c
    polls = ()  # the measures of what it notices only when it looks, every five seconds
    control = "scan/{}/supervise/control"  # the FIFO of a service

    def __init__(self, root, first):
        self.root, self.first = root, first
        self.scan, self.aside, self.out = (os.path.join(root, name) for name in ("scan", "aside", "out"))
        os.mkdir(self.scan)
        os.mkdir(self.aside)
        self.pid = None

    @classmethod
    def found(cls):
        return all(shutil.which(tool) for tool in cls.tools)

    def write(self, name, where=None):
        service = os.path.join(where or self.scan, name)
        os.makedirs(service)
        os.link(self.first, os.path.join(service, "run"))
        return service

    def drop(self, name):
        os.rename(os.path.join(self.aside, name), os.path.join(self.scan, name))

    def remove(self, name):
        os.rename(os.path.join(self.scan, name), os.path.join(self.aside, name))

    def letter(self, name):
        poke(os.path.join(self.root, self.control.format(name)), b"t")

    def paths(self, names):
        return [os.path.join(self.scan, name) for name in names]


class Svtree(Peer):
    name, tools, control = "svtree", [], "status/{}/svcontrol"
    binary = os.environ.get("SVTREE", os.path.join(HERE, "../target/release/svtree"))

    @classmethod
    def found(cls):
        return os.access(cls.binary, os.X_OK)

    def start(self):
        roots = ["--status", os.path.join(self.root, "status"), "--logs", os.path.join(self.root, "logs")]
        self.pid = spawn(self.binary, "run", self.scan, *roots, "--log", "none", out=self.out)

    def stop(self, names):
        os.kill(self.pid, signal.SIGTERM)

    def status(self, names):
        svstat = os.path.join(self.root, "svstat")
        with contextlib.suppress(FileExistsError):
            os.symlink(os.path.abspath(self.binary), svstat)
        return [svstat, *self.paths(names)]


class Daemontools(Peer):
    name, tools, polls = "daemontools", ["svscan", "supervise", "svc", "svstat"], ["drop-in"]

    def start(self):
        self.pid = spawn("svscan", self.scan, out=self.out)

    def stop(self, names):
        os.kill(self.pid, signal.SIGTERM)  # else it would start their supervise again
        spawn("svc", "-dx", *self.paths(names))

    def remove(self, name):
        super().remove(name)
        poke(os.path.join(self.aside, name, "supervise/control"), b"dx")  # svscan itself never stops one

    def status(self, names):
        return ["svstat", *self.paths(names)]


class Runit(Peer):
    name, tools, polls = "runit", ["runsvdir", "runsv", "sv"], ["drop-in", "removal"]

    def start(self):
        self.pid = spawn("runsvdir", "-P", self.scan, out=self.out)

    def stop(self, names):
        os.kill(self.pid, signal.SIGHUP)

    def status(self, names):
        return ["sv", "status", *self.paths(names)]


class S6(Peer):
    name, tools, flags = "s6", ["s6-svscan", "s6-supervise", "s6-svscanctl", "s6-svstat"], ["-DREADY=3"]

    def write(self, name, where=None):
        service = super().write(name, where)
        with open(os.path.join(service, "notification-fd"), "w") as file:
            file.write("3\n")  # a service that is never ready is restarted a second late
        return service

    def start(self):
        self.pid = spawn("s6-svscan", "-c", "4000", self.scan, out=self.out)

    def drop(self, name):
        super().drop(name)
        poke(os.path.join(self.scan, ".s6-svscan/control"), b"a")

    def remove(self, name):
        super().remove(name)
        poke(os.path.join(self.scan, ".s6-svscan/control"), b"an")

    def stop(self, names):
        run("s6-svscanctl", "-t", self.scan)

    def status(self, names):
        # It takes one name.
        return ["sh", "-c", 'for path; do s6-svstat "$path"; done', "sh", *self.paths(names)]


PEERS = [Svtree, Daemontools, Runit, S6]

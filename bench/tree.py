"""Memory of this process's descendants, sampled, and their end when they take too much of it or too long.

Every 20 ms it adds up, over all living descendants, the resident memory (mapped file pages among it; a page that two
processes share counts twice) and the anonymous part of it (what is no page cache). A shorter peak may be missed.
A limit is on the anonymous part, as page cache is the kernel's to take back: past it, all descendants are killed.
"""

import ctypes
import os
import signal
import threading
import time

PERIOD_S = 0.02
# Who the descendants are is asked more seldom than what they have: it takes a look at every process.
PERIODS_PER_SEARCH = 5
PR_SET_CHILD_SUBREAPER = 36
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def descendants(ancestor):
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def memory(pids):
    """(resident, anonymous) bytes."""
    resident = shared = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as statm:
                fields = statm.read().split()
        except OSError:
            continue
        resident += int(fields[1])
        shared += int(fields[2])
    return resident * PAGE_BYTES, (resident - shared) * PAGE_BYTES


class Watch(threading.Thread):
    """Samples from `start` to `end`. A limit of 0 bytes is none."""

    def __init__(self, limit_bytes, timeout_s):
        super().__init__(daemon=True)
        self.limit_bytes, self.timeout_s = limit_bytes, timeout_s
        self.rss_bytes_max = self.anon_bytes_max = 0
        self.stopped = ""
        self.ended = threading.Event()
        # Whose parent dies becomes ours, so that nobody escapes the count or the end.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self):
        started, pids, n_samples = time.monotonic(), [], 0
        while not self.ended.wait(PERIOD_S):
            if n_samples % PERIODS_PER_SEARCH == 0:
                pids = descendants(os.getpid())
            n_samples += 1
            rss_bytes, anon_bytes = memory(pids)
            self.rss_bytes_max = max(self.rss_bytes_max, rss_bytes)
            self.anon_bytes_max = max(self.anon_bytes_max, anon_bytes)
            if self.limit_bytes and anon_bytes > self.limit_bytes:
                self.stopped = f"killed at {anon_bytes >> 20} MiB of anonymous memory, limit {self.limit_bytes >> 20}"
            elif time.monotonic() - started > self.timeout_s:
                self.stopped = f"killed after {self.timeout_s:.0f} s"
            if self.stopped:
                kill_all()
                return

    def end(self):
        self.ended.set()
        self.join()
        kill_all()
        return {"rss_bytes_max": self.rss_bytes_max, "anon_bytes_max": self.anon_bytes_max, "stopped": self.stopped}


def kill_all():
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

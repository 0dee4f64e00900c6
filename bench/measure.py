"""Runs one command and prints its cost as JSON: measure.py [--tree LIMIT_BYTES TIMEOUT_S] STDOUT COMMAND...

A process of its own, and without numpy: a child starts with the peak memory of the process that forked it, so what
forks it must be small (about 10 MiB), not the harness that has just read three matrices.

With --tree the command's descendants count too: see `tree.py`.
"""

import json
import os
import subprocess
import sys
import time


def busy_cpu_s():
    """Seconds of all cores that were not idle, steal included."""
    with open("/proc/stat") as stat:
        ticks = [int(v) for v in stat.readline().split()[1:9]]
    idle, iowait = ticks[3], ticks[4]
    return (sum(ticks) - idle - iowait) / os.sysconf("SC_CLK_TCK")


def io_counts(pid):
    """Bytes through read and write calls of a process that has ended and is not yet reaped.

    Pages that a memory map brings in are not among them.
    """
    with open(f"/proc/{pid}/io") as io:
        fields = dict(line.split(": ") for line in io)
    return int(fields["rchar"]), int(fields["wchar"])


def measure(command, stdout, watch=None):
    busy_before, started = busy_cpu_s(), time.perf_counter()
    child = subprocess.Popen(command, stdout=stdout)
    if watch:
        watch.start()
    # Left as a zombie, the child still has its /proc/PID/io; wait4 then reaps it with its own usage.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    wall_s = time.perf_counter() - started
    of_tree = watch.end() if watch else {}
    read_bytes, written_bytes = io_counts(child.pid)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    busy_s = busy_cpu_s() - busy_before
    cpu_s = usage.ru_utime + usage.ru_stime
    return {
        **of_tree,
        "exit_code": child.returncode,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "rss_bytes_max": max(usage.ru_maxrss * 1024, of_tree.get("rss_bytes_max", 0)),
        "read_bytes": read_bytes,
        "written_bytes": written_bytes,
        "foreign_cpu": max(0.0, (busy_s - cpu_s) / (os.cpu_count() * wall_s)),
    }


def main(args):
    watch = None
    if args[0] == "--tree":
        # Started with -I, this program does not find its neighbours by itself.
        sys.path.append(os.path.dirname(os.path.abspath(__file__)))
        from tree import Watch

        watch = Watch(limit_bytes=int(args[1]), timeout_s=float(args[2]))
        args = args[3:]
    with open(args[0], "wb") as stdout:
        print(json.dumps(measure(args[1:], stdout, watch)))


if __name__ == "__main__":
    main(sys.argv[1:])

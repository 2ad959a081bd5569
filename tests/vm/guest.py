"""The tests that run inside a guest, on its kernel: prints `VMTEST GROUP ok|FAIL WHAT` for each group of them.

There is no Rust in the guest, and little memory. Times of an emulated machine mean nothing, so what is asked for are
values: who, which of running and waiting, and that nothing is left behind.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time

PROBE = "/bin/openrtc-probe"
FIXTURES = "/tests/fixtures/"
BLOCK_MS = 300.0
PATIENCE_S = 60.0
BREAKPOINT = 0xCC
MOST_LOST = 5
LITTLE_BYTES = 64 << 10
RLIMIT_MEMLOCK = 8
PR_CAPBSET_DROP = 24
CAP_SYS_RESOURCE = 24
CPU = "/sys/devices/system/cpu/cpu1/online"
POWER = "/sys/power/state"
RTC = "/sys/class/rtc/rtc0/"
SLEEP_S = 5


def need(holds, what):
    if not holds:
        raise AssertionError(what)


class Worker:
    """A fixture, and what it says."""

    def __init__(self, words):
        words = [sys.executable, FIXTURES + words[0]] + words[1:]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.word("ready")

    def word(self, wanted):
        for line in self.process.stdout:
            word, _, rest = line.partition(" ")
            if word == wanted:
                return json.loads(rest)
        raise AssertionError("the worker ended before it said %s" % wanted)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)


def watch(pid, words):
    """Run the probe to its end; pictures, stalls and what it said besides."""
    command = [PROBE, "--pid", str(pid), "--json", "--refresh-rate", "1"] + words
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    need(done.returncode == 0, "rc %d: %s" % (done.returncode, done.stderr.strip()[-400:]))
    said = [json.loads(line) for line in done.stdout.splitlines()]
    of_type = lambda name: [it for it in said if it["type"] == name]
    return of_type("snapshot"), of_type("stall"), done.stderr


def session(picture, name):
    found = [it for it in picture["sessions"] if it["session_id"] == name]
    need(found, "%s is not among %s" % (name, [it["session_id"] for it in picture["sessions"]]))
    return found[0]


def host():
    """The doctor loads all programs, and finds nothing that keeps it from working."""
    done = subprocess.run([PROBE, "doctor", "--json"], stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    report = json.loads(done.stdout)
    failed = [it for it in report["checks"] if it["status"] == "FAIL" and not it["id"].startswith("self_test")]
    need(not failed, "; ".join("%s: %s" % (it["id"], it["found"]) for it in failed))


def accounts(mode):
    """Who polls, who blocks for how long, and whether it ran or slept meanwhile."""
    block = ["--block-ms", str(BLOCK_MS), "--block-every-s", "1.5"]
    worker = Worker(["rates.py", "--rate", "50", "--sessions", "3"] + block)
    pictures, stalls, _ = watch(worker.pid, ["--mode", mode, "--duration", "12"])
    worker.say("blocks")
    blocks = worker.word("blocks")["all"]
    worker.end()
    last = pictures[-1]
    need(last["accounting"]["mode"] == mode, "mode %s" % last["accounting"]["mode"])
    used = [session(last, name)["cpu_seconds"] for name in ("AJ_0000", "AJ_0001", "AJ_0002", "AJ_block")]
    # Few samples meet a session that runs for so short.
    need(all(used) if mode == "exact" else any(used), "used %s" % used)
    # Its other polls are slow too on such a machine.
    is_block = lambda it: it["session_id"] == "AJ_block" and it["duration_ms"] > BLOCK_MS * 0.9
    mine = [it for it in stalls if is_block(it)]
    need(len(mine) >= 4 and len(mine) >= len(blocks) - 3, "%d stalls of %d blocks" % (len(mine), len(blocks)))
    slept = [it for it in mine if it["off_cpu_ms"] > BLOCK_MS / 2]
    ran = [it for it in mine if it["on_cpu_ms"] > BLOCK_MS / 2]
    need(slept and ran, "%d slept and %d ran of %d" % (len(slept), len(ran), len(mine)))
    need(not (set(map(id, slept)) & set(map(id, ran))), "a block both ran and slept")
    for it in mine:
        need(it["duration_ms"] < BLOCK_MS * 3, "a block of %s ms" % it["duration_ms"])
    lost = sum(last["health"]["lost"].values())
    # A sample reads what the worker changes meanwhile, and this machine is slow.
    need(lost <= (0 if mode == "exact" else MOST_LOST), "lost %s" % last["health"]["lost"])


def sites(pid):
    """Addresses of the probes, by what the probe says of them."""
    _, _, said = watch(pid, ["--mode", "exact", "--duration", "1", "-v"])
    found = re.findall(r"^  \S.* 0x([0-9a-f]+)  ", said, re.M)
    need(len(found) >= 4, "no sites in %s" % said[-400:])
    return [int(at, 16) for at in found]


def patched(pid, at):
    """How many of these instructions are breakpoints."""
    with open("/proc/%d/mem" % pid, "rb", 0) as memory:
        return sum(os.pread(memory.fileno(), 1, address)[0] == BREAKPOINT for address in at)


def killed():
    """SIGKILL leaves nothing in the worker, and the worker goes on."""
    worker = Worker(["rates.py", "--rate", "50", "--sessions", "3", "--window-s", "1"])
    at = sites(worker.pid)
    need(patched(worker.pid, at) == 0, "breakpoints are left")
    probe = subprocess.Popen(
        [PROBE, "--pid", str(worker.pid), "--json", "--mode", "exact"], stdout=subprocess.PIPE, text=True
    )
    probe.stdout.readline()
    need(patched(worker.pid, at) == len(at), "%d of %d are attached" % (patched(worker.pid, at), len(at)))
    probe.send_signal(signal.SIGKILL)
    probe.wait(PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while patched(worker.pid, at):
        need(time.monotonic() < end, "breakpoints are left after SIGKILL")
        time.sleep(0.05)
    worker.word("window")
    need(worker.word("window")["polls"] > 0, "the worker does not go on")
    worker.end()


def poor():
    """What a program may lock is little, and it cannot raise that."""
    libc = ctypes.CDLL(None, use_errno=True)
    little = (ctypes.c_uint64 * 2)(LITTLE_BYTES, LITTLE_BYTES)
    need(libc.prlimit(0, RLIMIT_MEMLOCK, little, None) == 0, "prlimit")
    need(libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0) == 0, "prctl")


def limits():
    """Before Linux 5.11 maps are locked memory, and it is said what to type; later they are not."""
    worker = Worker(["rates.py", "--rate", "50", "--sessions", "3"])
    words = [PROBE, "--pid", str(worker.pid), "--json", "--once", "--interval", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(words, preexec_fn=poor, timeout=PATIENCE_S, **pipes)
    kernel = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if kernel >= (5, 11):
        need(done.returncode == 0, "rc %d: %s" % (done.returncode, done.stderr))
    else:
        lines = done.stderr.splitlines()
        need(done.returncode == 3 and len(lines) == 2, "rc %d: %s" % (done.returncode, done.stderr))
        need("may lock" in lines[0] and "prlimit" in lines[1], done.stderr)
    worker.end()


def step_clock():
    """Set the wall clock an hour ahead for a while, then back."""
    for seconds in (3600, -7200, 3600):
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
        time.sleep(1.0)
    return "clock"


def unplug():
    """Take a CPU away, and give it back."""
    for state in ("0", "1"):
        with open(CPU, "w") as file:
            file.write(state)
        time.sleep(2.0)
    return "cpu"


def suspend():
    """Send the machine to sleep for some seconds; its own clock wakes it."""
    with open(POWER) as file:
        need("mem" in file.read(), "this kernel knows no suspend to memory")
    with open(RTC + "since_epoch") as file:
        wake = int(file.read()) + SLEEP_S
    with open(RTC + "wakealarm", "w") as file:
        file.write(str(wake))
    ran, slept = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    with open(POWER, "w") as file:
        file.write("mem")
    ran, slept = time.monotonic() - ran, time.clock_gettime(time.CLOCK_BOOTTIME) - slept
    # What the machine slept is no time to CLOCK_MONOTONIC.
    need(slept - ran > SLEEP_S / 2, "it has slept for %.1f s only" % (slept - ran))
    return "suspend"


def shaken():
    """The wall clock is set, a CPU goes, the machine sleeps: the account goes on, and no figure is of that time."""
    block = ["--block-ms", str(BLOCK_MS), "--block-every-s", "1.5"]
    worker = Worker(["rates.py", "--rate", "50", "--sessions", "3"] + block)
    words = [PROBE, "--pid", str(worker.pid), "--json", "--mode", "exact", "--refresh-rate", "2"]
    probe = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    first = json.loads(probe.stdout.readline())
    began, done, impossible = time.monotonic(), [], []
    for shake in (step_clock, unplug, suspend):
        try:
            done.append(shake())
        except (OSError, AssertionError) as why:
            impossible.append("%s: %s" % (shake.__name__, why))
    time.sleep(4.0)
    probe.send_signal(signal.SIGTERM)
    took = time.monotonic() - began
    said = [first] + [json.loads(line) for line in probe.stdout]
    need(probe.wait(PATIENCE_S) == 0, "it ended with %s" % probe.returncode)
    worker.end()
    pictures = [it for it in said if it["type"] == "snapshot"]
    elapsed = [it["elapsed_s"] for it in pictures]
    need(elapsed == sorted(elapsed), "its time went back: %s" % elapsed)
    need(abs(elapsed[-1] - elapsed[0] - took) < 2.0, "%.1f s were %.1f" % (took, elapsed[-1] - elapsed[0]))
    polls = [it["worker"]["polls"] for it in pictures]
    need(polls == sorted(polls) and polls[-1] > polls[-4] > polls[0], "polls %s" % polls)
    last = pictures[-1]
    need(not last["health"]["lost"], "lost %s" % last["health"]["lost"])
    used, of = sum(it["cpu_seconds"] for it in last["sessions"]), last["worker"]["cpu_seconds"]
    need(0 < used <= of * 1.05, "sessions used %s of %s s" % (used, of))
    longest = max((it["duration_ms"] for it in said if it["type"] == "stall"), default=0)
    need(BLOCK_MS * 0.9 < longest < BLOCK_MS * 4, "a block of %s ms" % longest)
    need("clock" in done and "cpu" in done, "; ".join(impossible))
    return ", ".join(done + ["not possible: " + why for why in impossible])


GROUPS = {
    "load": host,
    "exact": lambda: accounts("exact"),
    "sampled": lambda: accounts("sampled"),
    "killed": killed,
    "limits": limits,
    "shaken": shaken,
}


def main(chosen):
    failed = 0
    for name, test in GROUPS.items():
        if chosen and name not in chosen:
            continue
        start = time.monotonic()
        try:
            verdict = " ".join(["ok", test() or ""]).strip()
        except Exception as why:
            failed += 1
            verdict = "FAIL " + re.sub(r"\s+", " ", "%s: %s" % (type(why).__name__, why))
        print("VMTEST %s %s (%.0f s)" % (name, verdict, time.monotonic() - start), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

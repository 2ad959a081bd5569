"""The worker of `openrtc-probe doctor`'s self-test: one session burns CPU, one blocks the loop.

Says `ready PID VERSION`; told `go`, it works, and says `done NS` with the CPU time that the burning
session used by its own account. It ends with its standard input.
"""

import asyncio
import contextvars
import os
import sys
import threading
import time

BURNS = 20
BURN_NS = 20_000_000
BLOCK_S = 0.08

session_id = contextvars.ContextVar("openrtc_session_id")


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def burn():
    used = 0
    for _ in range(BURNS):
        start = time.thread_time_ns()
        while time.thread_time_ns() - start < BURN_NS:
            pass
        used += time.thread_time_ns() - start
        await asyncio.sleep(0.002)
    return used


async def block():
    time.sleep(BLOCK_S)
    return 0


async def session(name, work, go, finished):
    session_id.set(name)
    await go.wait()
    finished.set_result(await work())
    await asyncio.sleep(3600)


def obey(loop, go):
    while True:
        line = os.read(0, 64)
        if not line:
            os._exit(0)
        loop.call_soon_threadsafe(go.set)


async def main():
    loop = asyncio.get_running_loop()
    go, burned, blocked = asyncio.Event(), loop.create_future(), loop.create_future()
    tasks = [
        loop.create_task(session("doctor-burns", burn, go, burned)),
        loop.create_task(session("doctor-blocks", block, go, blocked)),
    ]
    await asyncio.sleep(0.01)
    threading.Thread(target=obey, args=(loop, go), daemon=True).start()
    say("ready", os.getpid(), "%d.%d.%d" % sys.version_info[:3])
    await blocked
    say("done", await burned)
    await asyncio.wait(tasks)


asyncio.run(main())

"""Find where this interpreter's structs keep what `openrtc-probe` reads, and print it as one JSON object.

Nothing is looked up in a header: live objects are made, and their memory is searched for the values that
they must hold (`cargo xtask layouts`). A field that cannot be found, or in more places than one, is null:
a row of the table is made of facts only. The keys are those of `Layout`.
"""

import asyncio
import contextvars
import ctypes
import json
import sys
import threading
import weakref

WORD = 8
api = ctypes.pythonapi


def function(name, *arguments):
    """Return a function of the C API that returns a pointer."""
    found = getattr(api, name)
    found.restype = ctypes.c_void_p
    found.argtypes = arguments
    return found


def read(address, length):
    return ctypes.string_at(address, length)


def word(address):
    return ctypes.c_uint64.from_address(address).value


def places(address, length, value):
    """Return the offsets of the aligned words from `address` on that hold `value`."""
    memory = read(address, length)
    wanted = value.to_bytes(WORD, sys.byteorder)
    return [at for at in range(0, len(memory) - WORD + 1, WORD) if memory[at : at + WORD] == wanted]


def first(offsets):
    return offsets[0] if offsets else None


def only(offsets):
    return offsets[0] if len(offsets) == 1 else None


def common(*lists):
    """Return the offsets that all the searches have found."""
    kept = set(lists[0]).intersection(*lists[1:])
    return [at for at in lists[0] if at in kept]


class Other:
    """A second thread, asleep while its state is looked at."""

    def __init__(self):
        self.begun, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.begun.wait()

    def run(self):
        self.state = function("PyThreadState_Get")()
        self.ident = threading.get_ident()
        self.native = threading.get_native_id()
        threading.local().value = self
        self.dict = function("PyThreadState_GetDict")()
        self.begun.set()
        self.leave.wait()

    def end(self):
        self.leave.set()
        self.thread.join()


def interpreter_fields():
    runtime = ctypes.addressof(ctypes.c_char.in_dll(api, "_PyRuntime"))
    state = function("PyThreadState_Get")()
    interp = function("PyThreadState_GetInterpreter", ctypes.c_void_p)(state)
    other = Other()
    modules = function("PyImport_GetModuleDict")()
    own_dict = function("PyThreadState_GetDict")()
    near = 12_000  # the head of PyInterpreterState; its tail is tables of objects
    found = {
        "interpreters_head": first(places(runtime, 2_000, interp)),
        # The newest thread state comes first.
        "interp_threads": first(places(interp, near, other.state)),
        "interp_modules": first(places(interp, near, modules)),
        "thread_next": first(places(other.state, 200, state)),
        "thread_interp": first(common(places(state, 200, interp), places(other.state, 200, interp))),
        "thread_dict": first(
            common(places(state, 400, own_dict), places(other.state, 400, other.dict))
        ),
    }
    found["thread_pthread_id"] = first(
        common(
            places(state, 400, threading.get_ident()),
            places(other.state, 400, other.ident),
        )
    )
    found["thread_native_id"] = first(
        common(
            places(state, 400, threading.get_native_id()),
            places(other.state, 400, other.native),
        )
    )
    other.end()
    return found


def interp_next():
    """Find `PyInterpreterState.next`: a new interpreter stands before the old one."""
    found = None
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            module = __import__(name)
            break
        except ImportError:
            continue
    else:
        return None
    runtime = ctypes.addressof(ctypes.c_char.in_dll(api, "_PyRuntime"))
    state = function("PyThreadState_Get")()
    interp = function("PyThreadState_GetInterpreter", ctypes.c_void_p)(state)
    head = runtime + first(places(runtime, 2_000, interp))
    created = module.create()
    newest = word(head)
    if newest != interp:
        found = first(places(newest, 12_000, interp))
    module.destroy(created)
    return found


def context_fields():
    def inside():
        return first(places(function("PyThreadState_Get")(), 400, id(context)))

    context = contextvars.Context()
    return {"thread_context": context.run(inside)}


def running_loop(loop):
    """Say where a thread's running loop is: in its state, or in its dict, held or by itself."""
    state = function("PyThreadState_Get")()
    at = first(places(state, 2_000, id(loop)))
    if at is not None:
        return {"in_thread": at}
    key = "__asyncio_running_event_loop__"
    own = ctypes.cast(function("PyThreadState_GetDict")(), ctypes.py_object).value
    if key not in own:
        return None
    held = own[key]
    # The tuple of 3.9 to 3.10 and the holder of 3.11 are not the loop itself.
    return "in_dict" if held is loop else {"held": first(places(id(held), 64, id(loop)))}


def u32_changes(address, length, before):
    now = read(address, length)
    return [
        at
        for at in range(0, length - 3, 4)
        if before[at : at + 4] == bytes(4) and now[at : at + 4] == (2).to_bytes(4, sys.byteorder)
    ]


async def task_fields():
    loop = asyncio.get_running_loop()
    found = {"running_loop": running_loop(loop)}

    async def idle(future):
        await future

    futures = [loop.create_future() for _ in range(2)]
    task_type = type(asyncio.current_task())
    size = task_type.__basicsize__
    tasks, contexts, lists = [], [], []
    for future in futures:
        context = contextvars.copy_context()
        tasks.append(context.run(asyncio.ensure_future, idle(future)))
        await asyncio.sleep(0)
    current = asyncio.current_task()
    found["task_bytes"] = size
    coroutines = [places(id(task), size, id(task.get_coro())) for task in tasks]
    found["task_coro"] = only(common(*coroutines))
    names = [places(id(task), size, id(task.get_name())) for task in tasks]
    found["task_name"] = first(common(*names)) if names[0] else None
    found["task_waiter"] = only(
        common(*(places(id(task), size, id(future)) for task, future in zip(tasks, futures)))
    )
    contexts = [candidates_of_type(id(task), size, contextvars.Context) for task in tasks]
    found["task_context"] = only(common(*contexts))
    found.update(task_lists(task_type, current, tasks))
    before = [read(id(task), size) for task in tasks]
    for future in futures:
        future.set_result(None)
    await asyncio.gather(*tasks)
    changed = [u32_changes(id(task), size, was) for task, was in zip(tasks, before)]
    found["task_state"] = only(common(*changed))
    return found


def candidates_of_type(address, length, kind):
    """Return the offsets of words that point at an object of type `kind`."""
    found = []
    for at in range(16, length - WORD + 1, WORD):
        target = word(address + at)
        if target and target % 8 == 0 and is_mapped(target + 8) and word(target + 8) == id(kind):
            found.append(at)
    return found


def is_mapped(address):
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        try:
            memory.seek(address)
            return len(memory.read(8)) == 8
        except (OSError, OverflowError, ValueError):
            return False


def task_lists(task_type, current, tasks):
    """Say where all tasks are found: sets of `_asyncio`, or a list that begins in the thread's state."""
    import _asyncio

    names = ("_all_tasks", "_scheduled_tasks", "_eager_tasks")
    sets = [name for name in names if hasattr(_asyncio, name)]
    if sets:
        return {"task_sets": sets, "task_list": None}
    size = task_type.__basicsize__
    # Newest first: each task's node points at that of the task before it.
    for node in range(16, size - 2 * WORD + 1, WORD):
        if word(id(tasks[1]) + node + WORD) == id(tasks[0]) + node or word(
            id(tasks[1]) + node
        ) == id(tasks[0]) + node:
            break
    else:
        return {"task_sets": [], "task_list": None}
    state = function("PyThreadState_Get")()
    nodes = {id(task) + node for task in asyncio.all_tasks()}
    heads = [
        at
        for at in range(0, 4_000, WORD)
        if is_mapped(state + at + 8) and word(state + at) in nodes and word(state + at + 8) in nodes
    ]
    interp = function("PyThreadState_GetInterpreter", ctypes.c_void_p)(state)
    # A list without tasks is a node that points at itself, twice.
    empty = [
        at
        for at in range(0, 20_000, WORD)
        if word(interp + at) == interp + at and word(interp + at + 8) == interp + at
    ]
    return {
        "task_sets": [],
        "task_list": {"node": node, "thread_head": only(heads), "interp_heads": empty},
    }


class Plain:
    pass


def object_fields():
    found = {
        "str_bytes": str.__basicsize__,
        "str_ascii_data": sys.getsizeof("") - 1,
        "str_wide_data": sys.getsizeof("\u0100\u0101") - 6,
        "dict_bytes": dict.__basicsize__,
        "set_bytes": set.__basicsize__,
        "module_bytes": type(sys).__basicsize__,
        "context_bytes": contextvars.Context.__basicsize__,
        "var_bytes": contextvars.ContextVar.__basicsize__,
        "token_bytes": contextvars.Token.__basicsize__,
        "module_dict": only(places(id(json), type(sys).__basicsize__, id(json.__dict__))),
        "weakref_object": None,
    }
    weak = weakref.ref(Plain)
    found["weakref_object"] = first(places(id(weak), 64, id(Plain)))
    context = contextvars.Context()
    var = contextvars.ContextVar("derive", default=None)
    old = object()
    context.run(var.set, old)
    token = context.run(var.set, None)
    found["token_old_value"] = only(places(id(token), contextvars.Token.__basicsize__, id(old)))
    found["values"], found["first_value"], found["type_cached_keys"] = values()
    return found


def values():
    """Find where an instance keeps attributes while it has no dict of its own."""
    marks = [object() for _ in range(3)]

    def make():
        plain = Plain()
        for index, mark in enumerate(marks):
            setattr(plain, "mark%d" % index, mark)
        return plain

    plain, flags = make(), Plain.__flags__
    if not flags & 1 << 4:
        return {"dict_offset": Plain.__dictoffset__}, 0, None
    size = Plain.__basicsize__
    table, kind = None, None
    embedded = places(id(plain) + size, 200, id(marks[0]))
    if embedded:
        kind, table = "embedded", embedded[0]
    else:
        for at in (-24, -32):
            pointer = word(id(plain) + at)
            tagged = pointer & 1
            if pointer and is_mapped(pointer + tagged):
                inside = places(pointer + tagged, 80, id(marks[0]))
                if inside:
                    kind, table = ("tagged" if tagged else {"pointed": at}), inside[0]
                    break
    # The dict that an instance is given later shares its keys with the type.
    other = make()
    keys = word(id(other.__dict__) + 32)
    heap_type = 1_000
    return kind, table, first(places(id(Plain), heap_type, keys))


def debug_words():
    """Return `_Py_DebugOffsets`, word by word, up to the first that can be no offset."""
    runtime = ctypes.addressof(ctypes.c_char.in_dll(api, "_PyRuntime"))
    if read(runtime, 8) != b"xdebugpy":
        return []
    words = [word(runtime + WORD * index) for index in range(110)]
    return words


def main():
    found = {
        "version": list(sys.version_info[:2]),
        "source": "live %d.%d.%d" % sys.version_info[:3],
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
    }
    found.update(interpreter_fields())
    found["interp_next"] = interp_next()
    found.update(context_fields())
    found.update(asyncio.run(task_fields()))
    found.update(object_fields())
    found["debug_words"] = debug_words()
    print(json.dumps(found))


if __name__ == "__main__":
    main()

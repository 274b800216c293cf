"""Says what drgn and debug symbols know of a crash; prints one line of JSON."""

import json

from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.list import list_for_each_entry


def function(frame):
    """The symbol of a frame's function; none of code in assembler, in which symbols are places to jump to."""
    name = frame.function_name if hasattr(frame, "function_name") else frame.name
    try:
        return frame.symbol().name if name else None
    except LookupError:
        return None


thread = prog.crashed_thread()  # noqa: F821 (drgn provides prog)
frames = []
for frame in thread.stack_trace() if hasattr(thread, "stack_trace") else prog.stack_trace(thread.tid):  # noqa: F821
    if not frame.is_inline and frame.pc >> 63:
        frames.append([hex(frame.pc), function(frame)])
task = thread.object
modules = list_for_each_entry("struct module", prog["modules"].address_of_(), "list")  # noqa: F821
print(json.dumps({
    "pid": task.pid.value_(),
    "comm": task.comm.string_().decode(),
    "frames": frames,
    "modules": [module.name.string_().decode() for module in modules],
    "online": len(list(for_each_online_cpu(prog))),  # noqa: F821
    "release": prog["init_uts_ns"].name.release.string_().decode(),  # noqa: F821
    "panic_cpu": prog["panic_cpu"].counter.value_(),  # noqa: F821
}))

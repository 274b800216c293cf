"""Counts the tasks of a dump and those whose stack can be unwound; prints one line of JSON."""

import json

from drgn.helpers.linux.pid import for_each_task

tasks = 0
with_stack = 0
for task in for_each_task(prog):  # noqa: F821 (drgn provides prog)
    tasks += 1
    try:
        with_stack += len(prog.stack_trace(task)) > 0  # noqa: F821
    except Exception:
        pass
print(json.dumps({"tasks": tasks, "with_stack": with_stack}))

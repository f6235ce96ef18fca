"""What changes the world outside, or commits, stands at a crash point, so that the fault walk can kill there.

The programs inside workloads are left out: they are what is killed, not who must remember.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

WORKERS = Path(__file__).parents[2] / "workers"
PROGRAMS = ("training", "export", "inspection", "serving", "targets/kubernetes/pod")
OUTSIDE = {"Popen", "check_call", "check_output", "socketpair", "create_connection", "atomic", "fork", "socket"}
SHIM = "part of the shim, whose own points are process.shim.*; tests/faults kills it too"
WITHOUT = {
    "engine.py:_apply": "apply() has the points around it",
    "engine.py:_strike": "writes that a step failed; lost, it is written at the next strike",
    "gateway/admin.py:_Connection.connect": "_read() has the points around it, and it only reads",
    "host.py:register_host": "idempotent, at the start of a worker, before it takes work",
    "tasks.py:mark_lost_hosts": "one UPDATE, repeated every 15 s",
    "targets/process/cage.py:_try": "tries once whether a cage can be had; changes nothing",
    "targets/process/probes.py:Asking.__init__": SHIM,
    "targets/process/probes.py:_bound": SHIM,
    "targets/process/shim.py:Shim.carry": SHIM,
    "targets/process/shim.py:main": SHIM,
    "targets/process/starting.py:start": SHIM,
    "targets/process/target.py:ProcessTarget._start": "apply() and observe() have the points around it",
}


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node


def calls(function: ast.FunctionDef) -> set[str]:
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            target = node.func
            found.add(target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""))
    return found


def uncovered() -> list[str]:
    missing = []
    for path in sorted(WORKERS.rglob("*.py")):
        name = path.relative_to(WORKERS)
        if any(name.is_relative_to(program) for program in PROGRAMS):
            continue
        for function, node in functions(ast.parse(path.read_text())):
            found = calls(node)
            if found & OUTSIDE and "point" not in found:
                missing.append(f"{name}:{function}")
    return missing


def test_whatever_acts_outside_stands_at_a_crash_point() -> None:
    assert [name for name in uncovered() if name not in WITHOUT] == []


def test_the_exceptions_still_exist() -> None:
    assert set(WITHOUT) <= set(uncovered())

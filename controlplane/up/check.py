"""`python -m controlplane.up --check`: every setting with its value, and what runs of this installation."""

import json
import os
import re

from controlplane.configuration import Configuration, unknown_variables, variable_of
from controlplane.embedded.envoy import accepts
from controlplane.join import Guest
from controlplane.up import programs, record


def shown(name: str, value: object) -> str:
    """A setting's value as it may be seen by anybody: without keys and passwords."""
    if name == "keys":
        return "(set)" if value else ""
    return re.sub(r"(://[^:/@]*:)[^@/]*@", r"\1***@", "" if value is None else str(value))


def settings_lines(configuration: Configuration) -> list[str]:
    lines = []
    for name, field in Configuration.model_fields.items():
        variable = variable_of(name)
        source = "set" if os.environ.get(variable) else "default"
        value = shown(name, getattr(configuration, name))
        lines.append(f"  {variable:<32} {value or '-':<40} {source:<8} {field.description}")
    return lines


def health(configuration: Configuration) -> dict[str, bool]:
    """Which parts answer."""
    try:
        run = json.loads((configuration.var / "run.json").read_text())
        recorded = {
            name: record.RunningProcess(name, entry["pid"], entry["started"]).is_alive()
            for name, entry in run["processes"].items()
        }
    except (OSError, ValueError, KeyError):
        recorded = {}
    if Guest.of(configuration.var):
        return {**recorded, "passage answers": accepts("127.0.0.1", configuration.port)}
    reachable = configuration.reachable_bind.strip("[]")
    return {
        **recorded,
        "web answers": programs.answers(configuration),
        "gateway answers": accepts(reachable, configuration.gateway_port),
    }


def main(configuration: Configuration) -> int:
    """Print both; 0 when everything runs and no variable is misspelt."""
    print("Settings:", *settings_lines(configuration), sep="\n")
    unknown = unknown_variables(dict(os.environ))
    if unknown:
        print("\nUnknown settings:", *(f"  - {line}" for line in unknown), sep="\n")
    states = health(configuration)
    print("\nHealth:", *(f"  {name:<20} {'yes' if state else 'no'}" for name, state in states.items()), sep="\n")
    return 0 if all(states.values()) and not unknown else 1

"""`python -m controlplane.up [--check | --demo]`."""

import argparse
import subprocess

from controlplane import configuration, installation
from controlplane.join import Guest
from controlplane.up import check, programs, record
from controlplane.up.supervisor import Supervisor


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m controlplane.up", description=__doc__)
    parser.add_argument("--check", action="store_true", help="show settings and what runs, and start nothing")
    parser.add_argument("--demo", action="store_true", help="show the whole path once all is up")
    arguments = parser.parse_args()
    settings = configuration.load()
    if arguments.check:
        return check.main(settings)
    if (guest := Guest.of(settings.var)) is not None:
        print(f"This machine has joined {guest.door} as “{guest.name}”: start it with make host.")
        print("An installation of its own needs a directory of its own: WINDLASS_VAR=~/windlass-var make up")
        return 1
    installation.var_directory(settings)
    try:
        held = record.lock(settings.var / "up.lock", settings.web_url)
    except record.AlreadyRunning as error:
        if arguments.demo and record.wait_until_running(settings.var):
            return subprocess.run(programs.DEMO, cwd=configuration.PROJECT).returncode
        print(error)
        return 1
    with held:
        return Supervisor(settings, demo=arguments.demo).run()


if __name__ == "__main__":
    raise SystemExit(main())

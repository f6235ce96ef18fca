"""`python -m controlplane.up [--check | --demo]`."""

import argparse
import subprocess

from controlplane import configuration, installation
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

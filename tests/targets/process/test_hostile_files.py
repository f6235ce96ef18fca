"""What a program may do to its own folders must stop neither its own row nor the look at the whole host."""

from __future__ import annotations

import json
import time

import pytest

from apps.placements.models import LogChunk
from apps.placements.observation import Observed
from apps.placements.workload import Output, Workload
from tests.targets.process.conftest import Host
from workers.targets.contract import Grants

LONGEST_STREAM = LogChunk._meta.get_field("stream").max_length or 0
UNREADABLE_NAME = "import os\nos.makedirs(b'out/tree/a')\nos.symlink(b'/etc/passwd', b'out/tree/a/\\xff\\x07')"


def storable(seen: Observed) -> str:
    """As PostgreSQL would have to take it: no half characters, no NUL."""
    text = json.dumps(seen.to_json(), ensure_ascii=False)
    assert "\0" not in text and "\\u0000" not in text
    return text.encode().decode()


def test_the_name_of_a_file_that_cannot_be_kept(host: Host, kept: str) -> None:
    output, grant = host.output("tree", shape="tree")
    seen = host.run(UNREADABLE_NAME, Grants({}, {"tree": grant}), outputs=(output,))
    assert seen.exit and seen.exit.failure == "OutputRefused"
    storable(seen)


@pytest.mark.parametrize("failure", ["Diverged\n", "A" + "b" * 63 + "\n", "A" * 65])
def test_a_failure_code_that_is_none(host: Host, failure: str) -> None:
    told = {"failure": failure, "message": "No."}
    seen = host.run(f"import json, sys\njson.dump({told!r}, open('out/failure.json', 'w'))\nsys.exit(1)")
    assert seen.exit and (seen.exit.failure, seen.exit.message) == ("", "No.")


def test_only_the_metrics_files_that_are_meant_are_streams(host: Host, kept: str) -> None:
    names = ["0", "12", "1" * 60, "٣", "00", "-1", "x"]
    seen = host.run(f"for name in {names!r}: open('metrics/' + name + '.jsonl', 'w').write('{{}}\\n')")
    assert sorted(name for name in seen.log_bytes if name.startswith("metrics-")) == ["metrics-0", "metrics-12"]
    assert all(len(name) <= LONGEST_STREAM for name in seen.log_bytes)


def test_metrics_files_that_come_and_go_while_they_are_looked_at(host: Host, kept: str) -> None:
    script = "import os\nwhile True:\n open('metrics/7.jsonl', 'w').close()\n os.unlink('metrics/7.jsonl')"
    host.apply(host.job(script))
    host.wait("job", lambda seen: seen.state == "running")
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        assert host.seen("job").state == "running"
    host.target.stop(None, "job", 0)
    assert host.ended().exit


def test_a_metrics_folder_that_was_closed(host: Host, kept: str) -> None:
    seen = host.run("import os\nos.chmod('metrics', 0)\nprint('done')")
    assert seen.state == "exited" and seen.exit and seen.exit.reason == "ok"


def test_a_workload_that_is_deleted_while_others_are_looked_at(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder goes between two looks into it."""
    host.run("print(1)")
    other = host.job("print(2)", name="other")
    host.apply(other)
    host.ended("other")
    read = host.target._files("job").__class__.read_status

    deleted: list[bool] = []

    def slow(files: object) -> object:
        status = read(files)  # type: ignore[arg-type]
        if files.name == "job" and not deleted:  # type: ignore[attr-defined]
            deleted.append(True)
            host.target.delete(None, "job")
        return status

    monkeypatch.setattr("workers.targets.process.files.WorkloadFiles.read_status", slow)
    seen = host.target.observe(None)
    assert seen["other"].state == "exited"
    assert "job" not in host.target.observe(None)


def test_a_name_with_an_end_of_line_is_none(host: Host) -> None:
    from workers.targets.contract import Refused

    with pytest.raises((Refused, ValueError)):
        host.apply(Workload("job\n", "job", ("python",)))
    with pytest.raises(Refused):
        host.apply(host.job("", outputs=(Output("model\n", "b"),)))

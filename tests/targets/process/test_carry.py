"""Inputs come in verified, outputs go out as declared, and nothing else."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from workers.targets.contract import Grants


def tar(*members):
    """A tar of (name, content) and ready-made TarInfo members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def run_with_input(host, content, script="pass", **fields):
    item, grant = host.input("data", content, **fields)
    return host.run(script, Grants({"data": grant}), inputs=(item,))


def run_with_output(host, script, **fields):
    output, grant = host.output("model", **fields)
    return host.run(script, Grants(outputs={"model": grant}), outputs=(output,)), grant


def test_round_trip(kept, host):
    content = os.urandom(20_000_000)
    item, reading = host.input("data", content)
    output, writing = host.output("model")
    script = """
import os, shutil
shutil.copy(os.environ["WINDLASS_DATA"], os.environ["WINDLASS_OUT"] + "/model")
"""
    seen = host.run(script, Grants({"data": reading}, {"model": writing}), inputs=(item,), outputs=(output,))
    assert seen.exit.reason == "ok"
    assert (seen.outputs["model"].sha256, seen.outputs["model"].size_bytes) == (item.sha256, item.size_bytes)
    assert host.content(writing) == content
    assert {"fetched", "stored"} <= set(seen.times)
    assert not host.path("job", "grants.json").exists()


def test_inputs_are_read_only_in_a_cage(caged, host):
    seen = run_with_input(host, b"x", "open('in/data', 'w')")
    assert "Read-only file system" in seen.exit.message or "Permission denied" in seen.exit.message


def test_a_tree_round_trip_is_deterministic(kept, host):
    content = tar(("a/b.txt", b"inner"), ("top.txt", b"top"))
    item, reading = host.input("data", content, shape="tree")
    output, writing = host.output("model", shape="tree")
    script = (
        "import os; os.system('cp -r in/data out/model; touch -d 2001-01-01 out/model/top.txt; mkdir out/model/empty')"
    )
    seen = host.run(script, Grants({"data": reading}, {"model": writing}), inputs=(item,), outputs=(output,))
    assert seen.exit.reason == "ok"
    with tarfile.open(fileobj=io.BytesIO(host.content(writing))) as archive:
        assert archive.getnames() == ["a", "a/b.txt", "empty", "top.txt"]
        assert {member.mtime for member in archive} == {0}
        assert archive.extractfile("a/b.txt").read() == b"inner"


def test_a_tampered_part_is_refused(host):
    item, grant = host.input("data", b"the real thing")
    part = Path(grant.parts[0])
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    seen = host.run("print('ready')", Grants({"data": grant}), inputs=(item,))
    assert (seen.exit.reason, seen.exit.failure) == ("error", "InputDamaged")
    assert "data" in seen.exit.message
    assert "0" not in seen.log_bytes  # the program never began


def test_content_with_another_checksum_is_refused(host):
    item, grant = host.input("data", b"the real thing")
    wrong = type(item)(item.name, item.blob, "0" * 64, item.size_bytes)
    seen = host.run("pass", Grants({"data": grant}), inputs=(wrong,))
    assert seen.exit.failure == "InputDamaged"


def test_a_missing_part_is_told(host):
    item, grant = host.input("data", b"the real thing")
    Path(grant.parts[0]).unlink()
    seen = host.run("pass", Grants({"data": grant}), inputs=(item,))
    assert seen.exit.failure == "InputMissing"


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", b"x"),
        ("/absolute", b"x"),
        ("a/../../outside", b"x"),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard", tarfile.LNKTYPE, "fine.txt"),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=["parent", "absolute", "hidden-parent", "symlink", "hardlink", "fifo"],
)
def test_a_tree_that_reaches_outside_is_refused(host, member):
    seen = run_with_input(host, tar(("fine.txt", b"y"), member), shape="tree")
    assert (seen.exit.reason, seen.exit.failure) == ("error", "InputRefused")
    assert not host.path("job", "in/outside").exists()
    assert not host.path("job", "outside").exists()


@pytest.mark.parametrize(
    "script",
    [
        "import os; os.symlink('/etc/passwd', 'out/model')",
        "import os; open('tmp/0/x', 'w').write('x'); os.link('tmp/0/x', 'out/model')",
        "import os; os.mkfifo('out/model')",
        "import os; os.mkdir('out/model')",
    ],
    ids=["symlink", "hardlink", "fifo", "folder"],
)
def test_an_output_that_is_no_plain_file_is_refused(uncaged, host, script):
    seen, grant = run_with_output(host, script)
    assert (seen.exit.reason, seen.exit.failure) == ("error", "OutputRefused")
    assert not list(Path(grant.directory).iterdir())


@pytest.mark.parametrize("link", ["os.symlink('/etc/passwd', 'out/model/b')", "os.symlink('/etc', 'out/model/b')"])
def test_a_link_in_a_tree_is_refused(kept, host, link):
    script = f"import os; os.mkdir('out/model'); open('out/model/a', 'w').write('a'); {link}"
    seen, grant = run_with_output(host, script, shape="tree")
    assert seen.exit.failure == "OutputRefused"
    assert not list(Path(grant.directory).iterdir())


def test_a_required_output_that_is_missing_fails_the_job(host):
    seen, _ = run_with_output(host, "print('forgot')")
    assert (seen.exit.reason, seen.exit.failure, seen.exit.code) == ("error", "OutputMissing", 0)
    assert "“model”" in seen.exit.message


def test_an_optional_output_may_be_missing(host):
    seen, _ = run_with_output(host, "pass", required=False)
    assert (seen.exit.reason, seen.outputs) == ("ok", {})


def test_an_output_that_is_too_large_is_refused(host):
    seen, grant = run_with_output(host, "open('out/model', 'w').write('x' * 100)", max_bytes=99)
    assert seen.exit.failure == "OutputTooLarge"
    assert not list(Path(grant.directory).iterdir())


def test_what_is_not_declared_stays(host):
    seen, _ = run_with_output(host, "open('out/model', 'w'); open('out/other', 'w')")
    assert set(seen.outputs) == {"model"}


def test_a_failed_job_keeps_only_what_is_kept_always(host):
    always, always_grant = host.output("checkpoint", always=True)
    output, grant = host.output("model")
    script = "open('out/checkpoint', 'w').write('c'); open('out/model', 'w').write('m'); raise SystemExit(1)"
    grants = Grants(outputs={"checkpoint": always_grant, "model": grant})
    seen = host.run(script, grants, outputs=(always, output))
    assert seen.exit.code == 1
    assert set(seen.outputs) == {"checkpoint"}
    assert host.content(always_grant) == b"c"


def test_inputs_come_from_urls_too(host, tmp_path):
    import http.server
    import threading

    item, grant = host.input("data", b"from afar")
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    served.RequestHandlerClass = lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=str(host.directory))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{served.server_port}/{Path(grant.parts[0]).relative_to(host.directory)}"
    grant = type(grant)(grant.blob, grant.data_key, (url,))
    try:
        seen = host.run("print(open('in/data').read())", Grants({"data": grant}), inputs=(item,))
    finally:
        served.shutdown()
        served.server_close()
    assert seen.exit.reason == "ok"
    assert "from afar" in host.log()


def test_grants_are_for_nobody_else(host):
    item, grant = host.input("data", b"x")
    host.apply(
        host.job("import time; print('ready', flush=True); time.sleep(600)", inputs=(item,)),
        grants=Grants({"data": grant}),
    )
    host.said()
    assert host.path("job", "grants.json").stat().st_mode & 0o777 == 0o600
    assert json.loads(host.path("job", "grants.json").read_text())

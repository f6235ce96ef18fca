"""A worker whose jobs and services are small programs, so that a whole life takes seconds. Otherwise the real one."""

from __future__ import annotations

import dataclasses
import sys

import django

django.setup()

from django.conf import settings  # noqa: E402

from apps.placements.services import Draft, Node  # noqa: E402
from apps.placements.workload import Workload  # noqa: E402
from tests.faults.plant import MORE_HOSTS  # noqa: E402
from workers import targets  # noqa: E402
from workers.reconcilers import deployments, exports, training  # noqa: E402
from workers.targets.process.target import ProcessTarget  # noqa: E402

TRAIN = """
import json, os, time
print("started", flush=True)
out = os.environ["WINDLASS_OUT"]
wanted = json.loads(os.environ["WINDLASS_HYPERPARAMETERS"])
with open(os.environ["WINDLASS_METRICS"], "a") as metrics:
    metrics.write(json.dumps({"step": 1, "total_steps": 1, "time": time.time(), "loss": 0.5}) + chr(10))
if wanted.get("fail") or wanted.get("fail_at") == os.environ.get("WINDLASS_NODE_RANK", "0"):
    raise ValueError("as asked")
if wanted.get("checkpoint"):
    os.makedirs(out + "/checkpoint", exist_ok=True)
    open(out + "/checkpoint/step", "w").write("1")
if not os.path.exists(os.environ["WINDLASS_IN"] + "/checkpoint"):
    time.sleep(wanted.get("sleep", 0))
for name in ("model.safetensors", "config.json", "reference.onnx", "signature.json", "metrics.json"):
    open(os.path.join(out, name), "w").write("{}")
"""
EXPORT = """
import json, os
print("started", flush=True)
out = os.environ["WINDLASS_OUT"]
open(os.path.join(out, "model.onnx"), "w").write("onnx")
open(os.path.join(out, "certificate.json"), "w").write(json.dumps({"verdict": "passed", "why": "as asked"}))
"""
SERVE = """
import http.server, os, signal, socket, sys
print("started", flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(os.environ["WINDLASS_LISTEN_FD"]))
server.serve_forever()
"""

BESIDE = {name: ProcessTarget(settings.WINDLASS_VAR / name) for name in MORE_HOSTS}


def small(draft: Draft, source: str) -> Draft:
    def build(name: str, node: Node) -> Workload:
        return dataclasses.replace(draft.build(name, node), argv=("python", "-S", "-c", source), grace_seconds=1.0)

    return dataclasses.replace(draft, build=build)


machine = targets.target_for
targets.target_for = lambda place: BESIDE[place.name] if place.name in BESIDE else machine(place)  # type: ignore
training.torchrun = lambda run, processes: ("python", "-S", "-c", TRAIN)
exports_draft, deployment_draft = exports.draft, deployments.draft
exports.RECONCILER.steps["queued"].__self__.__dict__["draft"] = lambda row, context: small(  # type: ignore[attr-defined]
    exports_draft(row, context), EXPORT
)
deployments.draft = lambda row, wanted: small(deployment_draft(row, wanted), SERVE)

if __name__ == "__main__":
    from controlplane.celery import app

    app.worker_main(sys.argv[1:])

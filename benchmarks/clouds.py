"""How soon a wanted cluster reaches its cloud, and what steady ones cost: `python -m benchmarks.clouds [--runs 30]`.

An installation of its own, with moto for AWS. From the POST of an approved cluster to its first mutating call of the
cloud; how often a cloud is asked while its clusters are steady; and the lines of what knows a cloud or a Kubernetes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.clouds.proxy import Proxy, Request, serve
from tests.faults.product import PROJECT, Product, free_port, until
from tests.figures import measured, missed

SUBMIT_GOAL_MS, CORE_GOAL, LINES_GOAL = 300.0, 0.2, 330
KEY, REGION = {"access_key_id": "AKIATESTTESTTESTTEST", "secret_access_key": "secret"}, "eu-central-1"
MANY = """
from datetime import timedelta
from uuid import uuid4
import boto3
from django.utils import timezone
from apps.clouds.models import CloudAccount
from apps.clusters.models import CloudResource, Cluster
from apps.core.installation import installation_name
account = CloudAccount.objects.get(name="bench")
ec2 = boto3.client("ec2", region_name=account.region, endpoint_url="{address}",
                   aws_access_key_id="{key}", aws_secret_access_key="secret")
clusters, lines = [], []
now = timezone.now()
for number in range({count}):
    token = uuid4().hex
    ours = {{"windlass-installation": installation_name(), "windlass-token": token, "windlass-cluster": "steady"}}
    tags = [{{"Key": name, "Value": value}} for name, value in ours.items()]
    made = ec2.run_instances(ImageId="ami-1", InstanceType="t3.medium", MinCount=1, MaxCount=1, ClientToken=token,
                             TagSpecifications=[{{"ResourceType": "instance", "Tags": tags}}])
    machine = made["Instances"][0]
    facts = {{"private_ip": machine["PrivateIpAddress"], "public_ip": machine.get("PublicIpAddress", "")}}
    seen = {{"cloud_id": machine["InstanceId"], "health": "live", "facts": facts}}  # so that a look finds nothing new
    cluster = Cluster(workspace_id=account.workspace_id, name=f"steady-{{number}}", phase="ready", provider="ec2",
                      account=account, region=account.region, due_at=now + timedelta(hours=1))
    clusters.append(cluster)
    lines.append(CloudResource(cluster=cluster, account=account, region=account.region, kind="machine",
                               key="machine-0", name=f"steady-{{number}}", token=token, state="live",
                               cloud_id=machine["InstanceId"], mutated_at=now, seen=seen,
                               seen_at=now + timedelta(milliseconds=1)))
Cluster.objects.bulk_create(clusters)
CloudResource.objects.bulk_create(lines)
print("made")
"""


class Stamps:
    """Notes each request of the cloud, and lets all of them pass."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.seen: list[tuple[float, str, bool]] = []  # when, what, whether it is a further page

    def __call__(self, request: Request) -> str:
        now = time.time()
        self.seen.append((now, request.action, "NextToken" in request.parameters))
        if request.action == "CreateVpc" and request.mutates:
            self.first[request.subject] = now
        return ""


def submits(product: Product, stamps: Stamps, account: str, runs: int) -> list[float]:
    """Milliseconds from the POST's first byte to the first mutating call, cluster by cluster."""
    took = []
    for number in range(runs):
        body = {"name": f"c{number}", "account": account, "machine_type": "t3.medium", "approve": True}
        began = time.time()
        cluster = product.api("POST", "clusters", body)
        name = cluster["id"].replace("_", "-") + "-network"
        ends = began + 20
        while name not in stamps.first and time.time() < ends:
            time.sleep(0.002)
        if name not in stamps.first:
            raise SystemExit(f"No call within 20 s: {product.api('GET', 'clusters/' + cluster['id'])}")
        took.append(1000 * (stamps.first[name] - began))
        product.api("DELETE", f"clusters/{cluster['id']}")
        time.sleep(0.3)
    return took


def busy_seconds(product: Product) -> float:
    """Of a processor, that the worker and all it started have used."""
    from tests.faults.product import children, descendants

    ticks = 0
    for pid in descendants(product.pid("worker"), children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


CALLS = """
from apps.clouds.models import CloudSight
seen = CloudSight.objects.filter(account__name="bench")
machines = seen.filter(resource_kind="machine")
others = seen.exclude(resource_kind="machine")
print(sum(machines.values_list("calls", flat=True)), sum(others.values_list("calls", flat=True)))
"""


def steady(product: Product, stamps: Stamps, seconds: float) -> None:
    """A look is counted when all its pages were read; one begun before the time may end within it."""
    machines, others = (int(count) for count in product.django(CALLS).split())
    before, began, since = busy_seconds(product), time.monotonic(), time.time()
    time.sleep(seconds)
    took = time.monotonic() - began
    core = (busy_seconds(product) - before) / took
    requests = sum(1 for at, _action, _further in stamps.seen if at > since)
    now_machines, now_others = (int(count) for count in product.django(CALLS).split())
    looks, most = now_machines - machines, int(took / 60) + 1
    measured("looks at 1,000 steady machines", looks, f"in {took:.0f} s", f"1 to {most}", 1 <= looks <= most)
    measured("looks at all other kinds together", now_others - others, f"in {took:.0f} s", "reported", True)
    measured("requests meanwhile, a page each", requests, f"in {took:.0f} s", "reported", True)
    measured("the whole worker meanwhile", round(core, 3), "of a core", f"under {CORE_GOAL}", core < CORE_GOAL)


def lines_of_code() -> None:
    for path, goal in (
        ("workers/providers/ec2.py", LINES_GOAL),
        ("workers/providers/graph.py", None),
        ("workers/targets/kubernetes", None),
    ):
        whole = PROJECT / path
        files = [whole] if whole.is_file() else sorted(whole.glob("*.py"))
        count = sum(len(file.read_text().splitlines()) for file in files)
        goal_said = f"at most {goal}" if goal else "reported"
        measured(f"lines of {path}", count, "lines", goal_said, goal is None or count <= goal)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--settle", type=float, default=90)
    options = parser.parse_args()
    folder, port = Path(tempfile.mkdtemp(prefix="wl-")), free_port()
    quiet = subprocess.DEVNULL
    moto = subprocess.Popen([sys.executable, "-m", "tests.clouds.aws", str(port)], stdout=quiet, stderr=quiet)
    stamps, product = Stamps(), Product(folder)
    address = f"http://127.0.0.1:{port}"
    try:
        with serve(Proxy(address, stamps, 0.0)) as front:
            os.environ["AWS_ENDPOINT_URL"] = front
            product.up()
            account = product.api(
                "POST", "cloud-accounts", {"name": "bench", "provider": "ec2", "region": REGION, "credentials": KEY}
            )["id"]
            path = f"cloud-accounts/{account}"
            until(lambda: product.api("GET", path)["phase"] == "ready", 60, "the account is ready")
            took = submits(product, stamps, account, options.runs)
            p50, p95 = statistics.median(took), sorted(took)[int(0.95 * (len(took) - 1))]
            goal = f"p50 under {SUBMIT_GOAL_MS:.0f}"
            measured("POST of a cluster to its first call of the cloud", round(p50), "ms", goal, p50 < SUBMIT_GOAL_MS)
            measured("the same, p95", round(p95), "ms", "reported", True)
            until(
                lambda: all(row["phase"] == "deleted" for row in product.api("GET", "clusters")["items"]),
                240,
                "all are taken back",
            )
            product.django(MANY.format(address=address, key=KEY["access_key_id"], count=options.clusters))
            time.sleep(options.settle)  # until each machine was seen once
            steady(product, stamps, options.seconds)
        lines_of_code()
    finally:
        product.stop()
        moto.terminate()
        moto.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if missed() else 0


if __name__ == "__main__":
    raise SystemExit(main())

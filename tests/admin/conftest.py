"""An installation with one row of every kind, and people who look at it in the console."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from apps.accounts.models import ApiKey, AuditEntry, Membership, Role, Secret, SignInLink, User, Workspace
from apps.clouds.models import CloudAccount, CloudSight, Offer
from apps.clusters.models import Authority, CloudResource, Cluster, Host, HostInvitation
from apps.core.actor import WINDLASS
from apps.core.models import Event, IdempotencyRecord, Installation
from apps.core.wants import create
from apps.deployments.models import Deployment, Gateway, Revision, UsageCursor, UsageWindow
from apps.examples.models import Example
from apps.exports.models import Export
from apps.placements.models import LogChunk, Place, Placement, PlacementBlob, Reservation
from apps.registry.models import Blob, BlobGrave, BlobPart, Dataset, DatasetVersion, Model, ModelFile, ModelVersion
from apps.training.models import MetricPoint, TrainingRun

PASSWORD = "a long enough passphrase"


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    settings.WINDLASS_HINTS = False
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


class Planted:
    """Values that nobody may ever see, by what they open."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        return self.values.setdefault(name, secrets.token_hex(32))


@pytest.fixture
def planted() -> Planted:
    return Planted()


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("root@example.org", PASSWORD)


@pytest.fixture
def staff_user(db: None) -> User:
    return User.objects.create_user("staff@example.org", PASSWORD, is_staff=True)


@pytest.fixture
def root(superuser: User) -> Client:
    return client_of(superuser)


@pytest.fixture
def staff(staff_user: User) -> Client:
    return client_of(staff_user)


@pytest.fixture
def workspace(superuser: User) -> Workspace:
    workspace = Workspace.objects.create(slug="team", name="Team")
    Membership.objects.create(user=superuser, workspace=workspace, role=Role.ADMIN)
    return workspace


def training_run(workspace: Workspace, number: int = 1, **fields: Any) -> TrainingRun:
    model, _ = Model.objects.get_or_create(workspace=workspace, name="digits")
    return create(TrainingRun(workspace=workspace, name="digits", number=number, model=model, **fields), WINDLASS)


@pytest.fixture
def run(workspace: Workspace) -> TrainingRun:
    return training_run(workspace)


@pytest.fixture
def everything(workspace: Workspace, run: TrainingRun, planted: Planted) -> dict[type[Any], Any]:
    """One row of every model, by model; what is secret in them is `planted`."""
    host = Host.objects.create(name="machine", cpus=4, memory_bytes=8 * 1024**3)
    place = create(Place(host=host, queue=host.queue), WINDLASS)
    gateway = create(Gateway(name="machine gateway", host=host, queue=host.queue), WINDLASS)
    blob = Blob.objects.create(workspace=workspace, data_key=planted("Blob.data_key"), state="ready", size_bytes=7)
    dataset = Dataset.objects.create(workspace=workspace, name="digits")
    dataset_version = create(
        DatasetVersion(workspace=workspace, dataset=dataset, number=1, filename="d.npz", upload=blob), WINDLASS
    )
    version = create(ModelVersion(workspace=workspace, model=run.model, number=1), WINDLASS)
    export = create(Export(workspace=workspace, model_version=version, number=1), WINDLASS)
    deployment = create(Deployment(workspace=workspace, name="digits"), WINDLASS)
    placement = create(
        Placement(
            workspace=workspace,
            queue=place.queue,
            owner_kind="training_run",
            owner_id=run.pk,
            slot="node-0",
            place=place,
            workload={"name": "train"},
        ),
        WINDLASS,
    )
    account = create(
        CloudAccount(
            workspace=workspace,
            name="prod",
            provider="ec2",
            region="eu-central-1",
            credentials=planted("CloudAccount.credentials"),
        ),
        WINDLASS,
    )
    cluster = create(
        Cluster(
            workspace=workspace,
            name="lab",
            provider="ec2",
            account=account,
            kubeconfig=planted("Cluster.kubeconfig"),
            credentials=planted("Cluster.credentials"),
        ),
        WINDLASS,
    )
    now, user = timezone.now(), workspace.memberships.get().user
    interval = IntervalSchedule.objects.create(every=60, period="seconds")
    idempotent = {"response": {"sealed": planted("IdempotencyRecord.response")}, "headers": {"ETag": "1"}}
    rows = [
        user,
        workspace,
        workspace.memberships.get(),
        run,
        run.model,
        host,
        place,
        gateway,
        blob,
        dataset,
        dataset_version,
        version,
        export,
        deployment,
        placement,
        account,
        cluster,
        create(
            CloudSight(workspace=workspace, account=account, region="eu-central-1", resource_kind="instance"), WINDLASS
        ),
        CloudResource.objects.create(
            cluster=cluster, account=account, region="eu-central-1", kind="instance", key="machine-0", token="t"
        ),
        Offer.objects.create(
            provider="ec2",
            region="eu-central-1",
            machine_type="m7i.large",
            cpus=2,
            memory_bytes=8 * 1024**3,
            price_usd_per_hour=0.12,
            as_of=now.date(),
        ),
        Authority.objects.create(name="hosts", certificate="public", sealed_key=planted("Authority.sealed_key")),
        HostInvitation.objects.create(
            name="box", secret_sha256=planted("HostInvitation.secret_sha256"), expires_at=now, host=host
        ),
        Installation.objects.create(name="one"),
        Event.objects.first(),
        create(Example(workspace=workspace, run=run), WINDLASS),
        ApiKey.objects.create(workspace=workspace, name="key", hint="wl_…", sha256=planted("ApiKey.sha256")),
        SignInLink.objects.create(user=user, sha256=planted("SignInLink.sha256"), expires_at=now),
        Secret.objects.create(workspace=workspace, name="token", sealed=planted("Secret.sealed")),
        AuditEntry.objects.create(actor="windlass", actor_name="Windlass", action="test", workspace=workspace),
        IdempotencyRecord.objects.create(
            owner="user", key="k", route="/", body_sha256=planted("IdempotencyRecord.body_sha256"), **idempotent
        ),
        BlobPart.objects.create(blob=blob, number=0, size_bytes=7),
        BlobGrave.objects.create(blob_id=user.pk),
        ModelFile.objects.create(version=version, name="model.safetensors", blob=blob),
        PlacementBlob.objects.create(placement=placement, way="in", name="data", blob=blob),
        Reservation.objects.create(placement=placement, place=place, cpus=1, memory_bytes=1024),
        LogChunk.objects.create(placement=placement, stream="0", offset=0, data=planted("LogChunk.data").encode()),
        MetricPoint.objects.create(run=run, name="loss", step=1, value=0.5, at=now),
        Revision.objects.create(deployment=deployment, number=1, export=export),
        UsageWindow.objects.create(deployment=deployment, revision=1, starts_at=now, seconds=10, requests=3, errors=0),
        UsageCursor.objects.create(placement_id=placement.pk, stream="0"),
        EmailAddress.objects.create(user=user, email=user.email),
        interval,
        CrontabSchedule.objects.create(),
        ClockedSchedule.objects.create(clocked_time=now + timedelta(days=1)),
        SolarSchedule.objects.create(event="sunrise", latitude=52, longitude=13),
        PeriodicTask.objects.create(name="job", task="workers.tasks.clean_up", interval=interval),
    ]
    planted.values["User.password"] = user.password
    return {type(row): row for row in rows}

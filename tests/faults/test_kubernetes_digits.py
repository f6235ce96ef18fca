"""Two pods of one job meet, train on the digits as one, and leave a model version."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.core.wants import create
from apps.placements.models import LogChunk, Place, Placement
from apps.registry import blobs
from apps.registry.models import Dataset, DatasetVersion, Model
from apps.training.hyperparameters import complete
from apps.training.models import MetricPoint, TrainingRun
from tests.clouds.kubernetes.simulator import Kubernetes, kube  # noqa: F401
from tests.kubernetes.world import far  # noqa: F401
from tests.spine.conftest import World, workspace, world  # noqa: F401
from tests.training.conftest import digits  # noqa: F401


def tar_of(directory: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path in sorted(directory.iterdir()):
            archive.add(path, path.name)
    return file.getvalue()


def test_two_ranks_in_two_pods_train_the_digits(
    world: World,  # noqa: F811
    workspace: Workspace,  # noqa: F811
    far: Place,  # noqa: F811
    kube: Kubernetes,  # noqa: F811
    digits: Path,  # noqa: F811
) -> None:
    dataset = Dataset.objects.create(workspace=workspace, name="digits")
    version = DatasetVersion(
        workspace=workspace, dataset=dataset, number=1, filename="digits.npz", phase="ready", due_at=None,
        prepared=blobs.store_bytes(workspace, tar_of(digits)),
    )  # fmt: skip
    create(version, WINDLASS)
    run = TrainingRun(
        workspace=workspace,
        name="digits",
        number=1,
        model=Model.objects.create(workspace=workspace, name="digits"),
        recipe="image_classifier",
        hyperparameters=complete({"recipe": "image_classifier", "epochs": 2}),
        dataset_version=version,
        processes=2,
        nodes=2,
        place=far,
    )
    create(run, WINDLASS)
    seen: set[str] = set()

    def ended() -> bool:
        seen.update(pod["metadata"]["name"] for pod in kube.objects("pods"))
        run.refresh_from_db()
        return run.phase in ("succeeded", "failed")

    world.until(ended, 110)
    assert run.phase == "succeeded", run.message
    assert len(seen) == 2
    placement = Placement.objects.get()
    assert placement.wanted.nodes == 2
    assert run.result is not None
    assert run.result.metrics["held_out_accuracy"] > 0.7
    assert MetricPoint.objects.filter(name="loss").count() > 3
    assert LogChunk.objects.filter(placement=placement, stream="0").exists()
    assert kube.objects("pods") == kube.objects("jobs") == []

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.core.wants import create, want
from apps.registry import blobs
from apps.registry.models import Blob, Dataset, DatasetVersion, Model, ModelFile, ModelVersion
from tests.spine.conftest import World


def test_a_deleted_version_no_longer_holds_its_blobs(world: World, workspace: Workspace) -> None:
    blob = blobs.store_bytes(workspace, b"content")
    dataset = Dataset.objects.create(workspace=workspace, name="d")
    model = Model.objects.create(workspace=workspace, name="m")
    ready = {"workspace": workspace, "number": 1, "phase": "ready", "due_at": None, "upload": blob}
    data = create(DatasetVersion(dataset=dataset, prepared=blob, **ready), WINDLASS)
    version = create(ModelVersion(model=model, **ready), WINDLASS)
    ModelFile.objects.create(version=version, name="reference.onnx", blob=blob)
    for row in (data, version):
        want(row, WINDLASS, goal="delete")
        world.phase(row, "deleted")
    Blob.objects.update(touched_at=blob.touched_at - 2 * blobs.UNREFERENCED_GRACE)
    assert blobs.collect() == (1, 1)
    assert Blob.objects.count() == 0

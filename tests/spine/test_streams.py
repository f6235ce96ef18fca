import pytest

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.placements import streams
from apps.placements.models import LogChunk, Place, Placement
from apps.placements.workload import Workload


@pytest.fixture
def placement(workspace: Workspace) -> Placement:
    host = Host.objects.create(name="h", cpus=2, memory_bytes=2**30)
    row = Placement(
        workspace=workspace,
        owner_kind="training_run",
        owner_id=workspace.pk,
        slot="node-0",
        place=Place.objects.create(host=host),
        workload=Workload("plc-x", "job", ("python",)).to_json(),
    )
    row.save()
    for offset, data in ((0, b"abc"), (3, b"def"), (10, b"klm"), (13, b"n")):
        LogChunk.objects.create(placement=row, stream="0", offset=offset, data=data)
    return row


@pytest.mark.parametrize(
    ("offset", "limit", "found"),
    [
        (0, 100, (b"abcdef", 0)),
        (1, 3, (b"bcd", 1)),
        (5, 100, (b"f", 5)),
        (6, 100, (b"klmn", 10)),
        (8, 2, (b"kl", 10)),
        (14, 100, (b"", 14)),
    ],
)
def test_a_piece_and_where_it_begins(placement: Placement, offset: int, limit: int, found: tuple[bytes, int]) -> None:
    assert streams.read(placement, "0", offset, limit) == found


def test_a_line_that_is_still_written_waits() -> None:
    assert streams.json_lines(b'{"a": 1}\nnonsense\n[1]\n{"b"') == ([{"a": 1}], 22)

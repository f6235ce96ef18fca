"""A run on two nodes that share no directory: here two launchers on this machine's loopback, each with its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import Run

GONE = 128 + signal.SIGHUP  # where a node had noticed already that they don't meet any more


@pytest.fixture
def nodes(tmp_path: Path, digits: Path) -> Iterator[list[Run]]:
    """The first and the second, which meet at a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        meeting = f"127.0.0.1:{server.getsockname()[1]}"
    made = []
    for rank in (0, 1):
        surroundings = {
            "WINDLASS_NODES": "2",
            "WINDLASS_NODE_RANK": str(rank),
            "WINDLASS_RENDEZVOUS": meeting,
            "WINDLASS_RENDEZVOUS_ID": meeting,
            "WINDLASS_ADDRESS": "127.0.0.1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        made.append(Run(tmp_path / f"node-{rank}", digits, surroundings=surroundings))
    yield made
    for run in made:
        run.end()


def start(nodes: list[Run], **hyperparameters: object) -> None:
    for run in nodes:
        run.start(1, recipe="image_classifier", **hyperparameters)


def logs(nodes: list[Run]) -> str:
    return "\n--- the other node ---\n".join(run.log for run in nodes)


def codes(nodes: list[Run], seconds: float) -> list[int]:
    """How both ended, within that time."""
    ends = time.monotonic() + seconds
    try:
        return [run.started[-1].wait(max(0.1, ends - time.monotonic())) for run in nodes]
    except Exception as error:
        raise AssertionError(f"not within {seconds} s:\n{logs(nodes)}") from error


def assert_same_weights(run: Run, expected: Run) -> None:
    weights = load_file(run.out / "model.safetensors")
    for name, tensor in load_file(expected.out / "model.safetensors").items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-3, rtol=1e-3)


def test_a_killed_rank_of_two_nodes_goes_on_to_the_same_weights_as_one_node(nodes: list[Run], trained: Run):
    first, second = nodes
    start(nodes, checkpoint_every_steps=20)
    first.wait_for(lambda: first.checkpoints and first.metrics[-1]["step"] >= 40)
    os.kill(second.ranks()[0], signal.SIGKILL)
    assert codes(nodes, 120) == [0, 0], logs(nodes)
    assert "Going on from the checkpoint of step" in first.log
    assert first.checkpoints == ["step-440"]
    assert_same_weights(first, trained)
    left = [path for path in second.out.rglob("*") if path.is_file()]
    assert left == [], "what the run leaves is left at the first node alone"


def test_all_go_on_from_what_the_first_node_has(nodes: list[Run]):
    """A new attempt brings a checkpoint to every node; what was written since is at the first alone."""
    first, second = nodes
    start(nodes, steps=6)
    assert codes(nodes, 60) == [0, 0], logs(nodes)
    for run in nodes:
        shutil.copytree(first.out / "checkpoint" / "step-6", run.directory / "in" / "checkpoint" / "step-3")
    start(nodes, steps=9)
    assert codes(nodes, 60) == [0, 0], logs(nodes)
    assert "Going on from the checkpoint of step 6 of 9." in first.log
    assert first.checkpoints == ["step-9"]
    assert [line["step"] for line in first.metrics if "held_out_accuracy" in line] == [6, 9]
    assert second.checkpoints == []


@pytest.mark.parametrize("told", [0, 1])
def test_a_stop_of_one_node_stops_both_with_a_checkpoint(nodes: list[Run], told: int):
    first, second = nodes
    start(nodes, epochs=5000, checkpoint_every_steps=10_000)
    first.wait_for(lambda: first.metrics and first.metrics[-1]["step"] >= 5)
    nodes[told].started[-1].send_signal(signal.SIGTERM)
    assert nodes[told].started[-1].wait(30) == 128 + signal.SIGTERM, logs(nodes)
    assert len(first.checkpoints) == 1, logs(nodes)
    assert "its checkpoint is written" in first.log
    other = nodes[1 - told].started[-1]
    other.send_signal(signal.SIGTERM)  # as the owner does once one has ended
    assert other.wait(30) in {128 + signal.SIGTERM, -signal.SIGTERM, GONE}, logs(nodes)
    assert first.ranks() == second.ranks() == []
    assert len(first.checkpoints) == 1, "a start in between must not take it away"


@pytest.mark.parametrize("where", [0, 1])
def test_what_fails_on_one_node_ends_both_and_is_told_by_both(nodes: list[Run], where: int, iris: Path):
    nodes[where].data = iris  # as a node whose disk gave other bytes
    start(nodes, steps=6)
    assert set(codes(nodes, 100)) <= {1, GONE}, logs(nodes)
    assert nodes[0].failure == nodes[1].failure
    assert nodes[0].failure["failure"] == "Dataset"


def test_a_damaged_checkpoint_is_told_by_both(nodes: list[Run]):
    broken = nodes[0].directory / "in" / "checkpoint" / "step-4"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("[]")
    (broken / ".metadata").write_bytes(b"no pickle")
    start(nodes, steps=6)
    assert set(codes(nodes, 100)) <= {1, GONE}, logs(nodes)
    assert nodes[0].failure == nodes[1].failure
    assert nodes[0].failure["failure"] == "CheckpointDamaged"

"""One module a kind: what makes its rows so. `RECONCILERS` is what the engine steps by."""

from workers.engine import Reconciler
from workers.reconcilers import (
    accounts,
    clusters,
    deployments,
    examples,
    exports,
    gateways,
    placements,
    places,
    sights,
    training,
    versions,
)

RECONCILERS: dict[str, Reconciler] = {
    reconciler.kind: reconciler
    for reconciler in (
        training.RECONCILER,
        exports.RECONCILER,
        versions.DATASET_RECONCILER,
        versions.MODEL_RECONCILER,
        deployments.RECONCILER,
        examples.RECONCILER,
        placements.RECONCILER,
        places.RECONCILER,
        gateways.RECONCILER,
        accounts.RECONCILER,
        sights.RECONCILER,
        clusters.RECONCILER,
    )
}

"""Which other assets the partitions of an asset need, and by which mapping: also through the tasks between them."""

from __future__ import annotations

from springline.definitions.manifest import DeployedManifest, DeployedNode
from springline.definitions.mappings import MappingKind, PartitionMapping, effective_mapping
from springline.definitions.partitions import FieldProblem

_ALL = PartitionMapping(MappingKind.ALL)


class NeedsOfAssets:
    """What the assets of a manifest need of each other, found when it is first asked for."""

    def __init__(self, manifest: DeployedManifest) -> None:
        self._nodes = manifest.nodes
        self._known: dict[str, dict[str, PartitionMapping]] = {}

    def of(self, asset: str) -> dict[str, PartitionMapping]:
        """Return the assets that an asset needs, each with the mapping of its partitions.

        A task keeps nothing: what it needs is needed by what needs it. Where two mappings in a row are no mapping, as
        a window behind a window, the asset above the task is left out: nobody can say which of its partitions are
        meant.
        """
        if asset not in self._known:
            self._known[asset] = self._found(self._nodes[asset])
        return self._known[asset]

    def _found(self, asset: DeployedNode) -> dict[str, PartitionMapping]:
        found: dict[str, PartitionMapping] = {}
        seen = {asset.key}
        waiting: list[tuple[DeployedNode, PartitionMapping | None]] = [(asset, None)]
        while waiting:
            node, below = waiting.pop()
            for edge in node.dependencies:
                above = self._nodes.get(edge.asset)
                if above is None:
                    continue
                mapping = effective_mapping(edge.mapping, above.partitions, node.partitions)
                if isinstance(mapping, FieldProblem):
                    # A deploy judges every dependency: this one is of a build that knew less. All of it is needed then.
                    mapping = _ALL
                both = mapping if below is None else _in_a_row(below, mapping)
                if both is None:
                    continue
                if above.asset_key is not None:
                    found.setdefault(above.key, both)
                elif above.key not in seen:
                    seen.add(above.key)
                    waiting.append((above, both))
        return found


def _in_a_row(first: PartitionMapping, second: PartitionMapping) -> PartitionMapping | None:
    """Return the mapping that two in a row are, None if they are none."""
    if first.kind is MappingKind.IDENTITY:
        return second
    if second.kind is MappingKind.IDENTITY:
        return first
    return _ALL if MappingKind.ALL in (first.kind, second.kind) else None

"""Runs under every misfortune, by thousands of seeds."""

from __future__ import annotations

import random

import pytest

from springline.definitions.manifest import DeployedManifest
from tests.control.run_world import MANIFEST, World

SEEDS = 400


def manifest_of(dice: random.Random) -> DeployedManifest:
    """Return some assets that depend on each other."""
    keys = [f"a{number}" for number in range(dice.randint(1, 6))]
    assets = []
    for place, key in enumerate(keys):
        needs = dice.sample(keys[:place], dice.randint(0, min(place, 3)))
        assets.append(
            {
                "key": key,
                "location": "flights",
                "dependencies": [{"asset": one} for one in needs],
                "retries": dice.randint(0, 2),
                "priority": dice.randint(0, 2),
            }
        )
    return DeployedManifest.model_validate(
        {
            "format": 1,
            "manifest_id": MANIFEST,
            "deployed_at_ms": 0,
            "fingerprint": "f",
            "locations": [],
            "assets": assets,
        }
    )


def lived(seed: int) -> World:
    dice = random.Random(seed)
    world = World(manifest_of(dice), dice)
    world.live(dice.choice((0, 30, 150, 400)))
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_a_run_ends_and_everything_that_ran_is_on_record(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            lived(seed).check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error

"""Limits of definitions, for the library and for the server alike."""

from __future__ import annotations

from typing import Final

MAX_ASSETS: Final = 5_000
"""Assets of one code location."""
MAX_WORKSPACE_ASSETS: Final = 20_000
MAX_DEPENDENCIES: Final = 1_000
MAX_RETRIES: Final = 100
MAX_PRIORITY: Final = 1_000
MAX_SLOTS: Final = 10_000
"""Of a pool."""
MAX_POOLS: Final = 500
"""Pools of one code location."""
MAX_CODE_VERSION: Final = 200
MAX_DESCRIPTION: Final = 4_000
MAX_TAGS: Final = 50
MAX_TAG: Final = 200
"""Characters of a tag's name, of its value, and of an owner."""
MAX_OWNERS: Final = 20
MAX_CHECKS: Final = 30
"""Checks of one asset."""
MAX_CHECK_NAME: Final = 80
MAX_SCHEDULES: Final = 1_000
"""Schedules of one code location."""
MAX_WORKSPACE_SCHEDULES: Final = 10_000
MAX_SELECT: Final = 100
"""Terms of a schedule's selection."""
MAX_TERM: Final = 200
MAX_CATCHUP_TICKS: Final = 1_000
MAX_CATCHUP_MINUTES: Final = 366 * 24 * 60
MAX_ACTIVE_RUNS_OF_SCHEDULE: Final = 1_000
MAX_JITTER_S: Final = 24 * 3_600
DEFAULT_CATCHUP_MINUTES: Final = 24 * 60
DEFAULT_CATCHUP_TICKS: Final = 10
MAX_SENSORS: Final = 500
"""Sensors of one code location."""
MAX_WORKSPACE_SENSORS: Final = 2_000
MAX_SENSOR_INTERVAL_S: Final = 7 * 24 * 3_600
MAX_SENSOR_TIMEOUT_S: Final = 3_600
DEFAULT_SENSOR_INTERVAL_S: Final = 30
DEFAULT_SENSOR_TIMEOUT_S: Final = 60
MAX_RUN_REQUESTS: Final = 500
"""Runs that one evaluation of a sensor asks for."""
MAX_SENSOR_CURSOR: Final = 16 * 1024
"""Bytes of a sensor's cursor."""
MAX_PREFIX: Final = 512
MAX_MODEL_FIELDS: Final = 200
"""Fields of the model that an asset declares for its config."""
MAX_MODEL_FIELD_NAME: Final = 200
MAX_MODEL_FIELD_TYPE: Final = 200
MAX_MODEL_FIELD_DEFAULT: Final = 500
"""Characters of a default as JSON; a longer one is not told."""
MAX_MODEL_FIELD_DESCRIPTION: Final = 500
MAX_MODEL_FIELD_NAMES: Final = 20
"""Further names that one field is read from."""
MAX_MODEL_BYTES: Final = 32 * 1024
"""What an asset's config takes, described as JSON."""

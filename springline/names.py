"""Every name that crosses a process: workflows, activities, queues, search attributes, metrics.

A name is never changed once shipped: running workflows, dashboards and runbooks hold it.
"""

from __future__ import annotations

# Workflow types.
COMMIT_WORKFLOW = "CommitWorkflow"
CREATE_TABLE_WORKFLOW = "CreateTableWorkflow"
CHECKPOINT_WORKFLOW = "CheckpointWorkflow"

# Messages of CommitWorkflow.
COMMIT_UPDATE = "commit"
STATUS_QUERY = "status"

# Activities of a commit.
RESERVE = "reserve"
WRITE_LOG = "write_log"
WRITE_MARKER = "write_marker"
FINALIZE = "finalize"
FINALIZE_AND_RESERVE = "finalize_and_reserve"
# Activities of tables.
CREATE_TABLE = "create_table"
ADOPT_TABLE = "adopt_table"
CHECKPOINT = "checkpoint"

# Task queues.
COMMIT_QUEUE = "springline-commit"
MAINTENANCE_QUEUE = "springline-maintenance"
ALL_QUEUES = (COMMIT_QUEUE, MAINTENANCE_QUEUE)

# Search attributes (all of type Keyword).
SEARCH_TENANT = "SpringlineTenant"
SEARCH_WORKSPACE = "SpringlineWorkspace"
SEARCH_TABLE = "SpringlineTable"
SEARCH_ATTRIBUTES = (SEARCH_TENANT, SEARCH_WORKSPACE, SEARCH_TABLE)

# Types of Temporal application errors.
ROLLING_OVER = "RollingOver"
INVALID_REQUEST = "InvalidRequest"
STORE_RETRY = "StoreRetry"
STORE_UNKNOWN = "StoreUnknown"
STORE_MISCONFIGURED = "StoreMisconfigured"
INVARIANT_VIOLATED = "InvariantViolated"

# Metrics (Prometheus names; counters get `_total` from the exporter).
METRIC_COMMITS = "springline_delta_commits"  # label result: committed, replayed, refused
METRIC_ROUNDS = "springline_delta_rounds"  # label mode: strict, append
METRIC_ROUND_MEMBERS = "springline_delta_round_members"
METRIC_RECOVERIES = "springline_delta_recoveries"  # label outcome: completed, abandoned, released, void
METRIC_STEP_SECONDS = "springline_delta_step"  # the exporter adds `_seconds`; label step
METRIC_STORE_REQUESTS = "springline_store_requests"  # labels operation, outcome
METRIC_HTTP_REQUESTS = "springline_http_requests"  # labels method, route, status
METRIC_HTTP_SECONDS = "springline_http_request_seconds"  # labels method, route
METRIC_COALESCED_REQUESTS = "springline_coalesced_requests"
METRIC_COALESCED_BATCHES = "springline_coalesced_batches"
METRIC_COALESCED_RETRIES = "springline_coalesced_retries"
METRIC_COALESCED_EXPIRED = "springline_coalesced_expired"


def commit_workflow_id(tenant: str, workspace: str, table_id: str) -> str:
    """Return the id that makes Temporal keep one sequencer per table."""
    return f"commit/{tenant}/{workspace}/{table_id}"


def create_table_workflow_id(tenant: str, workspace: str, name: str) -> str:
    """Return the id that makes Temporal keep one creation per table name."""
    return f"create-table/{tenant}/{workspace}/{name}"


def checkpoint_workflow_id(tenant: str, workspace: str, table_id: str) -> str:
    """Return the id that keeps one checkpoint of a table under way."""
    return f"checkpoint/{tenant}/{workspace}/{table_id}"

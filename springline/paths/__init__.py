"""Every object path, in one place: nobody else spells one (S 1, design 4 and 10).

Builders return an `ObjectPath` relative to the scope and check every component; parsers exist for the paths
that are read back. Whatever is refused is refused with `InvalidPath`. Pure: no I/O, no clock, no randomness.
"""

from springline.paths.delta import (
    default_table_root,
    delta_checkpoint,
    delta_checkpoint_parts,
    delta_coordinator,
    delta_data_file,
    delta_last_checkpoint,
    delta_log,
    delta_log_dir,
    delta_marker,
    delta_staged,
    delta_staging_prefix,
    name_claim,
    parse_delta_checkpoint,
    parse_delta_log,
    parse_delta_staged,
    root_claim,
    table_entry,
    table_id,
    table_root,
    unity_preview,
)
from springline.paths.scope import MAX_VERSION, InvalidPath, ObjectPath, Scope, relative_path

__all__ = [
    "MAX_VERSION",
    "InvalidPath",
    "ObjectPath",
    "Scope",
    "default_table_root",
    "delta_checkpoint",
    "delta_checkpoint_parts",
    "delta_coordinator",
    "delta_data_file",
    "delta_last_checkpoint",
    "delta_log",
    "delta_log_dir",
    "delta_marker",
    "delta_staged",
    "delta_staging_prefix",
    "name_claim",
    "parse_delta_checkpoint",
    "parse_delta_log",
    "parse_delta_staged",
    "relative_path",
    "root_claim",
    "table_entry",
    "table_id",
    "table_root",
    "unity_preview",
]

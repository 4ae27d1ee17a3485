#!/bin/sh
# Bring the schemas of Temporal's two databases up to date. Safe to run again: every step leaves alone what it finds
# done. Expects SQL_HOST, SQL_PORT, SQL_USER and SQL_PASSWORD, of the role that owns the databases.
set -eu

prepare() {
    database=$1
    schema=$2
    echo "setting up $database"
    temporal-sql-tool --database "$database" setup-schema --version 0.0
    temporal-sql-tool --database "$database" update-schema --schema-name "postgresql/v12/$schema"
}

export SQL_PLUGIN=postgres12
prepare temporal temporal
prepare temporal_visibility visibility
echo "schemas are up to date"

#!/bin/sh
# Create Temporal's two databases and bring their schemas up to date. Safe to run again: every step leaves alone
# what it finds done. Expects SQL_HOST, SQL_PORT, SQL_USER and SQL_PASSWORD; SCHEMA_DIR is that of the image.
set -eu

: "${SCHEMA_DIR:=/etc/temporal/schema/postgresql/v12}"

prepare() {
    database=$1
    schema=$2
    echo "setting up $database"
    temporal-sql-tool --database "$database" create
    temporal-sql-tool --database "$database" setup-schema --version 0.0
    temporal-sql-tool --database "$database" update-schema --schema-dir "$SCHEMA_DIR/$schema/versioned"
}

export SQL_PLUGIN=postgres12
prepare temporal temporal
prepare temporal_visibility visibility
echo "schemas are up to date"

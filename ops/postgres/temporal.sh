#!/bin/sh
# Make the role that Temporal is in PostgreSQL, and the two databases that it owns; no more is its. The image of
# PostgreSQL runs this once, when it has made a new cluster, as the superuser POSTGRES_USER over the local socket.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set "password=$TEMPORAL_DB_PASSWORD" \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE temporal LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
REVOKE CONNECT ON DATABASE temporal, temporal_visibility FROM PUBLIC;
SQL

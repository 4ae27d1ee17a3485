#!/bin/sh
# Create the namespace and its search attributes once the server answers. Safe to run again.
# Expects TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, RETENTION and SEARCH_ATTRIBUTES (NAME=TYPE ...).
set -eu

attempts=60
until temporal operator cluster health >/dev/null 2>&1; do
    attempts=$((attempts - 1))
    if [ "$attempts" -eq 0 ]; then
        echo "Temporal at $TEMPORAL_ADDRESS does not answer" >&2
        exit 1
    fi
    sleep 2
done

if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    echo "namespace $TEMPORAL_NAMESPACE is there"
else
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi

# A new namespace reaches the server's caches within seconds; until then it answers that it knows none.
attempts=30
for attribute in $SEARCH_ATTRIBUTES; do
    name=${attribute%%=*}
    type=${attribute#*=}
    until temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$name" --type "$type"; do
        attempts=$((attempts - 1))
        if [ "$attempts" -eq 0 ]; then
            echo "search attribute $name cannot be created" >&2
            exit 1
        fi
        sleep 1
    done
done
echo "namespace $TEMPORAL_NAMESPACE is ready"

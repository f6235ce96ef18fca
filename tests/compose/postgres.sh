#!/bin/sh
# What the official image does at its start, with the programs of the wheel. Called as root with PostgreSQL's command.
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R 10001:10001 /var/lib/postgresql
    exec setpriv --reuid 10001 --regid 10001 --clear-groups /bin/sh "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # shellcheck disable=SC2086 - a list of options
    initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --encoding=UTF8 --locale=C \
        --auth-local=trust --auth-host=scram-sha-256 --no-instructions $POSTGRES_INITDB_ARGS
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres >/dev/null
fi
exec "$@" -D "$PGDATA" -k /tmp -c listen_addresses='*'

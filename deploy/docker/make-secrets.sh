#!/bin/sh
# Make the secrets of compose.yml in ./secrets, and the folder ./tls. What is there already is kept.
#
# The folder is closed to other accounts. The files can be read by everybody who is in it: Docker mounts each into a
# container, where another user than the owner reads it.
set -eu
cd "$(dirname "$0")"
mkdir -p -m 700 secrets
mkdir -p tls
umask 022

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ ! -e secrets/postgres_password ]; then
    random > secrets/postgres_password
    printf 'postgresql+psycopg://diffmsr:%s@postgres/diffmsr\n' "$(cat secrets/postgres_password)" > secrets/database_url
fi
if [ ! -e secrets/orthanc_users.json ]; then
    printf '{"RegisteredUsers": {"admin": "%s"}}\n' "$(random)" > secrets/orthanc_users.json
fi
echo "secrets are in $PWD/secrets; the password of Orthanc's user admin is in orthanc_users.json"

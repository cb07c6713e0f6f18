#!/bin/sh
# Checks that every file of the bundle is as it was made, and that none was added. Exit 0 if so.
set -eu
cd "$(dirname "$0")"
sha256sum --check --strict --quiet SHA256SUMS
listed=$(cut -c 67- SHA256SUMS | LC_ALL=C sort)
there=$(find . -type f ! -name SHA256SUMS | cut -c 3- | LC_ALL=C sort)
if [ "$listed" != "$there" ]; then
    echo "there are files that SHA256SUMS does not list, or the other way round" >&2
    exit 1
fi
[ "$(sha256sum entries/000000.body | cut -c 1-64)" = "$(cat fleet-id)" ] || {
    echo "fleet-id is not the SHA-256 of entries/000000.body" >&2
    exit 1
}
echo "files: all are as listed; fleet id $(cat fleet-id)"

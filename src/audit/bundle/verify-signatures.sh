#!/bin/sh
# Checks every signature of every entry with gpg, in a home of its own, and that each key belongs to the member that it
# stands for. Exit 0 if all are right.
set -eu
cd "$(dirname "$0")"
GNUPGHOME=$(mktemp -d)
export GNUPGHOME
trap 'gpgconf --kill all > /dev/null 2>&1 || true; rm -rf "$GNUPGHOME"' EXIT
gpg --batch --quiet --import signing.pgp

count=0 wrong=0
for signature in entries/*.sig; do
    name=${signature#entries/}
    number=${name%%-*}
    member=${name#"$number"-*-}
    member=${member%.sig}
    said=$(gpg --batch --no-tty --status-fd 1 --verify "$signature" "entries/$number.body" 2> /dev/null || true)
    key=$(printf '%s\n' "$said" | sed -n 's/^\[GNUPG:\] VALIDSIG \([0-9A-F]*\) .*/\1/p')
    if [ -z "$key" ] || ! grep -qxF "$key $member" signers; then
        echo "$signature: not a good signature of $member" >&2
        wrong=$((wrong + 1))
    fi
    count=$((count + 1))
done
if [ "$wrong" -gt 0 ]; then
    echo "signatures: $wrong of $count are wrong" >&2
    exit 1
fi
echo "signatures: all $count are good, each by a key of the member it names"

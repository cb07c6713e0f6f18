#!/bin/sh
# Checks the OpenPGP signatures of an entry, with gpg and nothing of ours.
#
#   check-entry.sh ENTRY RING
#
# ENTRY is an entry's bytes, RING the certificates (binary or armored), for example the ring.pgp of 'keys ring export'.
# Prints who signed, with which key, and whose user id it bears. Exit 0 if every signature is good and was made by the key
# that its line names; else 1. Whether those who signed may do this, the policy says; whether the certificates are whose
# they claim to be, the web of trust.
set -eu
LC_ALL=C
export LC_ALL

no() {
    echo "NOT good: $*" >&2
    exit 1
}

[ $# = 2 ] || no "usage: check-entry.sh ENTRY RING"
entry=$1 ring=$2
work=$(mktemp -d)
chmod 700 "$work"
trap 'GNUPGHOME=$work gpgconf --kill all 2> /dev/null || :; rm -rf "$work"' EXIT
gpg() { command gpg --homedir "$work" --batch --no-tty --quiet --no-auto-key-retrieve "$@"; }

# An entry: one line that is signed, an empty line, signature lines.
head -n 1 "$entry" > "$work/body"
[ -z "$(sed -n 2p "$entry")" ] || no "the body is not one line"
sed '1,2d' "$entry" > "$work/lines"
[ -s "$work/lines" ] || no "there is no signature line"
[ "$(cat "$work/body"; echo; cat "$work/lines")" = "$(cat "$entry")" ] || no "ENTRY is not an entry"
gpg --import "$ring" 2> /dev/null || no "gpg does not import $ring"

# A line: a dash, a name, and in base64 four bytes that name the key, then the signature packet.
while IFS=' ' read -r dash name payload rest; do
    [ "$dash" = "$(printf '\342\200\224')" ] && [ -z "$rest" ] || no "a line is not a signature line"
    printf '%s' "$payload" | openssl base64 -d -A > "$work/payload"
    tail -c +5 "$work/payload" > "$work/signature"
    gpg --status-fd 3 --verify "$work/signature" "$work/body" 3> "$work/status" 2> /dev/null ||
        no "the signature of $name"
    key=$(sed -n 's/^\[GNUPG:\] VALIDSIG \([0-9A-F]*\) .*/\1/p' "$work/status")
    who=$(sed -n 's/^\[GNUPG:\] GOODSIG [0-9A-F]* //p' "$work/status")
    [ -n "$key" ] && [ -n "$who" ] || no "the signature of $name"
    # SHA-256 of the name, a line feed, the byte 255, 'keys/openpgp/v1', a line feed, and the key's fingerprint.
    {
        printf '%s\n\377keys/openpgp/v1\n' "$name"
        for byte in $(echo "$key" | sed 's/../& /g'); do
            # shellcheck disable=SC2059
            printf "\\$(printf '%03o' "0x$byte")"
        done
    } | openssl dgst -sha256 -binary | head -c 4 > "$work/named"
    head -c 4 "$work/payload" | cmp -s - "$work/named" || no "the line of $name names another key than signed"
    echo "good: $name, key $key, $who"
done < "$work/lines"
echo "id: $(sha256sum < "$work/body" | cut -d ' ' -f 1)"

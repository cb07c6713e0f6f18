#!/bin/sh
# Checks that a log has an entry, with openssl and nothing of ours.
#
#   check-proof.sh PROOF ENTRY VKEY
#
# PROOF is a C2SP tlog-proof, ENTRY the entry's bytes, VKEY the log's verifier key (name+hash+base64), which has to come
# from somebody you believe. Exit 0 and one line if the log has the entry; else 1 and the reason.
set -eu
LC_ALL=C
export LC_ALL

no() {
    echo "NOT proven: $*" >&2
    exit 1
}

[ $# = 3 ] || no "usage: check-proof.sh PROOF ENTRY VKEY"
proof=$1 entry=$2 vkey=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sha256() { openssl dgst -sha256 -binary; }
decode() { printf '%s' "$1" | openssl base64 -d -A; }
is_number() { case $1 in '' | *[!0-9]* | 0?* | ???????????????????*) return 1 ;; esac; }
bytes() { wc -c < "$1" | tr -d ' '; }

# The verifier key: its name, four bytes that name it in signature lines, and the byte 1 (Ed25519) with the key.
name=${vkey%%+*}
rest=${vkey#*+}
hash=${rest%%+*}
decode "${rest#*+}" > "$work/key"
[ "$(bytes "$work/key")" = 33 ] || no "the verifier key does not have 33 bytes"
[ "$(head -c 1 "$work/key" | od -An -tx1 | tr -d ' \n')" = 01 ] || no "the verifier key is not one of Ed25519"
found=$({ printf '%s\n' "$name"; cat "$work/key"; } | sha256 | head -c 4 | od -An -tx1 | tr -d ' \n')
[ "$found" = "$hash" ] || no "the verifier key's hash is not its own"
{ printf '\060\052\060\005\006\003\053\145\160\003\041\000'; tail -c 32 "$work/key"; } |
    openssl pkey -pubin -inform DER -out "$work/key.pem" 2> /dev/null || no "openssl does not take the verifier key"

# The proof: a header, perhaps something extra, the index, the path; an empty line; the checkpoint: three lines; an empty
# line; signature lines.
[ "$(head -n 1 "$proof")" = c2sp.org/tlog-proof@v1 ] || no "PROOF is not a C2SP tlog-proof"
sed '/^$/,$d' "$proof" | sed '1d; 2{/^extra /d;}' > "$work/head"
sed '1,/^$/d' "$proof" > "$work/checkpoint"
index=$(sed -n '1s/^index //p' "$work/head")
is_number "$index" || no "PROOF has no index"
head -n 3 "$work/checkpoint" > "$work/text"
[ -z "$(sed -n 4p "$work/checkpoint")" ] || no "the checkpoint has more than three lines"
origin=$(sed -n 1p "$work/text")
size=$(sed -n 2p "$work/text")
root=$(sed -n 3p "$work/text")
is_number "$size" || no "the checkpoint has no size"
[ "$index" -lt "$size" ] || no "the log has $size entries, and none with index $index"

# The checkpoint's signature, by this key, for the log that bears the key's name.
[ "$origin" = "$name" ] || no "the checkpoint is of the log $origin, the verifier key of $name"
sed '1,4d' "$work/checkpoint" > "$work/lines"
! grep -qv "^$(printf '\342\200\224') [^ ]* [^ ]*\$" "$work/lines" || no "what follows the checkpoint is no signature line"
signed=
for line in $(grep -F "$(printf '\342\200\224') $name " "$work/lines" | cut -d ' ' -f 3); do
    decode "$line" > "$work/line"
    [ "$(bytes "$work/line")" = 68 ] || continue
    [ "$(head -c 4 "$work/line" | od -An -tx1 | tr -d ' \n')" = "$hash" ] || continue
    tail -c 64 "$work/line" > "$work/signature"
    if openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin -in "$work/text" -sigfile "$work/signature" \
        > /dev/null 2>&1; then
        signed=1
    fi
done
[ -n "$signed" ] || no "the checkpoint is not signed by the verifier key"

# The path: RFC 6962, hashed from the leaf upwards as RFC 9162, section 2.1.3.2 has it.
{ printf '\000'; cat "$entry"; } | sha256 > "$work/hash"
at=$index last=$((size - 1))
for step in $(sed 1d "$work/head"); do
    decode "$step" > "$work/step"
    [ "$(bytes "$work/step")" = 32 ] || no "a hash of the path does not have 32 bytes"
    [ "$last" -gt 0 ] || no "the path is too long"
    if [ $((at & 1)) = 1 ] || [ "$at" = "$last" ]; then
        { printf '\001'; cat "$work/step" "$work/hash"; } | sha256 > "$work/next"
        while [ $((at & 1)) = 0 ] && [ "$at" != 0 ]; do
            at=$((at >> 1)) last=$((last >> 1))
        done
    else
        { printf '\001'; cat "$work/hash" "$work/step"; } | sha256 > "$work/next"
    fi
    mv "$work/next" "$work/hash"
    at=$((at >> 1)) last=$((last >> 1))
done
[ "$last" = 0 ] || no "the path is too short"
[ "$(openssl base64 -A < "$work/hash")" = "$root" ] || no "the path does not lead to the checkpoint's root"
echo "proven: entry $index of $size in $origin"

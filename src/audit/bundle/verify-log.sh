#!/bin/sh
# Hashes all entries into a Merkle tree (RFC 6962, section 2.1), compares its root with the checkpoint's, and checks the
# log's Ed25519 signature on the checkpoint. Exit 0 if both are right.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*" >&2; exit 1; }

size=$(sed -n 2p checkpoint)
root=$(sed -n 3p checkpoint)

# The peaks of the tree lie in files named after their level; a carry joins two of one level, like binary addition.
index=0
while [ "$index" -lt "$size" ]; do
    entry=entries/$(printf '%06d' "$index").entry
    [ -f "$entry" ] || fail "$entry is missing"
    # The entry's parts are those of its files: the body, an empty line, the signature lines.
    body=${entry%.entry}.body
    if [ -f "$body" ]; then
        head -c "$(wc -c < "$body")" "$entry" | cmp -s - "$body" || fail "$body is not the body of $entry"
    fi
    { printf '\000'; cat "$entry"; } | openssl dgst -sha256 -binary > "$work/new"
    level=0 rest=$index
    while [ $((rest % 2)) -eq 1 ]; do
        { printf '\001'; cat "$work/peak.$level" "$work/new"; } | openssl dgst -sha256 -binary > "$work/joined"
        rm "$work/peak.$level"
        mv "$work/joined" "$work/new"
        level=$((level + 1)) rest=$((rest / 2))
    done
    mv "$work/new" "$work/peak.$level"
    index=$((index + 1))
done
[ ! -e "entries/$(printf '%06d' "$size").entry" ] || fail "there are more entries than the checkpoint says"

# The root: the peaks from the smallest to the largest, the larger one on the left.
rm -f "$work/root"
level=0
while [ "$level" -lt 64 ]; do
    if [ -f "$work/peak.$level" ]; then
        if [ -f "$work/root" ]; then
            { printf '\001'; cat "$work/peak.$level" "$work/root"; } | openssl dgst -sha256 -binary > "$work/joined"
            mv "$work/joined" "$work/root"
        else
            cp "$work/peak.$level" "$work/root"
        fi
    fi
    level=$((level + 1))
done
[ "$(openssl base64 -A -in "$work/root")" = "$root" ] || fail "the entries do not hash to the root of the checkpoint"

# The signature: of the three lines of the checkpoint, by a key of vkeys (NAME+HASH+KEY; KEY is a 1 and the raw key).
head -n 3 checkpoint > "$work/text"
signed=
while IFS= read -r vkey; do
    # Base64 has plus signs of its own.
    name=${vkey%%+*} rest=${vkey#*+}
    hash=${rest%%+*} key=${rest#*+}
    { printf '\060\052\060\005\006\003\053\145\160\003\041\000'
      printf '%s' "$key" | openssl base64 -d -A | tail -c 32; } > "$work/key.der"
    sed -n "s|^— $name ||p" checkpoint > "$work/lines"
    while IFS= read -r line; do
        printf '%s' "$line" | openssl base64 -d -A > "$work/raw"
        [ "$(head -c 4 "$work/raw" | od -An -tx1 | tr -d ' \n')" = "$hash" ] || continue
        tail -c 64 "$work/raw" > "$work/sig"
        if openssl pkeyutl -verify -pubin -inkey "$work/key.der" -keyform DER -rawin -in "$work/text" -sigfile "$work/sig" \
            > /dev/null 2>&1; then
            signed=$name
        fi
    done < "$work/lines"
done < vkeys
[ -n "$signed" ] || fail "no key of vkeys signed the checkpoint"
echo "log: $size entries hash to the root of the checkpoint, which $signed signed"

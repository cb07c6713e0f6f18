# gpg as it is: a key server over hkps, and a Web Key Directory, whose client knows no port but 443 and no CAs but the system's.
# Runs in a network and a mount namespace of its own. Needs ca.pem, stranger.pem, one.pem, one.key and fleet/ beside it.
set -eu
here=$PWD
mount -t tmpfs none /mnt
echo '127.0.0.1 localhost keys.cdn.example openpgpkey.fra1.cdn.example' > /mnt/hosts
mount --bind /mnt/hosts /etc/hosts
ip link set lo up
setpriv --pdeathsig KILL -- "$KEYS" --fleet fleet serve --listen 127.0.0.1:443 --tls-cert one.pem --tls-key one.key > serving 2> said &
server=$!
trap 'kill $server; for home in /mnt/g.*; do gpgconf --homedir "$home" --kill all; done' EXIT
tries=0
until grep -q 'serving at https://' serving; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { cat said >&2; exit 1; }
    sleep 0.1
done
gpg() {
    status=0
    /usr/bin/gpg --homedir "$home" --batch --no-tty "$@" || status=$?
    echo "$what $ca $status"
    /usr/bin/gpg --homedir "$home" --batch --no-tty --with-colons --list-keys
}
for what in hkps wkd; do
    for ca in stranger ca; do
        home=/mnt/g.$what.$ca
        mkdir -m 700 "$home"
        if [ $what = hkps ]; then
            printf 'standard-resolver\nhkp-cacert %s\n' "$here/$ca.pem" > "$home/dirmngr.conf"
            gpg --keyserver hkps://keys.cdn.example:443 --recv-keys "$FINGERPRINT"
        else
            echo standard-resolver > "$home/dirmngr.conf"
            mount --bind "$here/$ca.pem" /etc/ssl/certs/ca-certificates.crt
            gpg --auto-key-locate clear,wkd --locate-keys pop@fra1.cdn.example
        fi
    done
done

#!/bin/sh
# The Android Debug Bridge's daemon, the part of adb that runs on a phone, as a program of this machine: Debian 13's
# adbd with the libraries that it needs, unpacked and not installed.
#
#   tests/support/adbd.sh DIR          makes DIR; needs apt-get, dpkg-deb and the network, but no rights of root
#   ADBD_PORT=N DIR/adbd       listens on every address without asking who is there: start it in a network namespace
#
# This machine's own apt is left alone: its lists, cache and status lie in DIR. DIR appears whole or not at all.
set -eu
[ $# = 1 ] || { sed -n 2,8p "$0" | cut -c3-; exit 2; }
[ ! -x "$1/adbd" ] || { echo "$1 is there: reused"; exit 0; }
for program in apt-get dpkg-deb; do
    command -v $program >/dev/null || { echo "no $program: adbd is unpacked on Debian and its kin only" >&2; exit 1; }
done
mkdir -p "$(dirname "$1")"
made=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d "$made.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

. "$(dirname "$0")/unpack.sh"
unpack trixie "$(dpkg --print-architecture)" "$work/root" adbd

cat >"$work/adbd" <<'END'
#!/bin/sh
root=$(cd "$(dirname "$0")" && pwd)/root
set -- "$root"/usr/lib/*-linux-gnu*/android "$@"
libraries=$1
shift
exec "$root"/usr/lib/*-linux-gnu*/ld-linux-*.so.* --library-path "$libraries:${libraries%/android}" \
    "$root/usr/lib/android-sdk/platform-tools/adbd" "$@"
END
chmod +x "$work/adbd"
chmod 755 "$work"
mv "$work" "$made"
trap - EXIT
echo "$made is made: ADBD_PORT=5555 $made/adbd"

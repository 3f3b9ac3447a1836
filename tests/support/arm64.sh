#!/bin/sh
# An ARM64 userland for programs under emulation: Debian's Python 3.11, the locked LiteRT and NumPy, and a QEMU that
# computes their 8-bit instructions right (Debian 12's own, 7.2, ends in a segmentation fault or in wrong numbers).
#
#   tests/support/arm64.sh DIR         makes DIR; needs apt-get, dpkg-deb and the network, but no rights of root
#   DIR/python MODEL FILE ...  Python as on that processor; MODEL: cortex-a53, cortex-a72, cortex-a76, ...
#
# This machine's own apt is left alone: its lists, cache and status lie in DIR. DIR appears whole or not at all.
set -eu
[ $# = 1 ] || { sed -n 2,8p "$0" | cut -c3-; exit 2; }
[ ! -x "$1/python" ] || { echo "$1 is there: reused"; exit 0; }
for program in apt-get dpkg-deb; do
    command -v $program >/dev/null || { echo "no $program: an ARM64 userland is made on Debian and its kin only" >&2; exit 1; }
done
project=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$project/.venv/bin/python}
mkdir -p "$(dirname "$1")"
made=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d "$made.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

. "$project/tests/support/unpack.sh"
unpack bookworm arm64 "$work/root" python3.11 libstdc++6 libgomp1
unpack trixie "$(dpkg --print-architecture)" "$work/trixie" qemu-user
cp "$work/trixie/usr/bin/qemu-aarch64" "$work/qemu-aarch64" # linked statically: needs nothing else of trixie
rm -rf "$work/trixie"

# Of the locked packages those that LiteRT needs to run a file, as their ARM64 wheels.
awk '/^[a-z]/ { keep = /^(ai-edge-litert|backports-strenum|flatbuffers|numpy|protobuf|tqdm|typing-extensions)==/ } keep' \
    "$project/requirements.txt" >"$work/wheels.txt"
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
    --target "$work/wheels" -r "$work/wheels.txt"

cat >"$work/python" <<'END'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
model=$1
shift
export PYTHONPATH="$here/wheels${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
exec "$here/qemu-aarch64" -cpu "$model" -L "$here/root" "$here/root/usr/bin/python3.11" "$@"
END
chmod +x "$work/python"
said=$("$work/python" cortex-a53 -c 'import numpy, platform; print(platform.machine())')
[ "$said" = aarch64 ] || { echo "the ARM64 Python does not start: it said '$said'" >&2; exit 1; }
chmod 755 "$work"
mv "$work" "$made"
trap - EXIT
echo "$made is made: $made/python cortex-a76 FILE ..."

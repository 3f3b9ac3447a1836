# Sourced by what makes a userland of Debian's packages: they are unpacked, nothing is installed, and this machine's own
# apt is left alone. Needs apt-get, dpkg-deb and the network, but no rights of root. $work: a folder of the caller's.

# unpack SUITE ARCHITECTURE INTO PACKAGE ...: the packages and all that they depend on.
unpack() {
    suite=$1 architecture=$2 into=$3
    shift 3
    apt=$work/apt-$architecture
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/none" "$into"
    : >"$apt/status"
    cat >"$apt/sources.list" <<END
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN:-http://deb.debian.org/debian} $suite main
END
    cat >"$apt/apt.conf" <<END
APT::Architecture "$architecture";
APT::Architectures "$architecture";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::Cache "$apt";
Dir::Etc::preferencesparts "$apt/none";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/none";
Dir::State "$apt";
Dir::State::status "$apt/status";
END
    APT_CONFIG=$apt/apt.conf apt-get -qq update
    APT_CONFIG=$apt/apt.conf apt-get -qq -y --download-only install "$@"
    for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$into"; done
    rm -rf "$apt"
}

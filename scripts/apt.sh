# Sourced: `apt_install PACKAGE...` installs by apt, with sudo where needed, and does nothing when given nothing.
# (Debian and Ubuntu; elsewhere it says what is missing and stops.)

apt_install() {
    [ "$#" -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "Please install these (Debian's names) with your system's package manager: $*" >&2
        return 1
    fi
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "Installing by apt: $*"
    # An old package list is the usual reason for a failed install: refresh it only then.
    local install="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    $sudo $install "$@" </dev/null || { $sudo apt-get update && $sudo $install "$@" </dev/null; }
}

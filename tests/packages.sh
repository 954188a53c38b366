#!/bin/bash
# Debian packages that Basalt, its build, its tests and its bench need, in one place.
#   tests/packages.sh run build ovn test bench    installs what is missing of those groups (root)
#   tests/packages.sh --list run ...          only prints them
set -euo pipefail

run="lxc liblxc-common dnsmasq-base nftables iproute2 util-linux procps busybox-static squashfs-tools"
build="gcc libc6-dev make pkg-config ca-certificates"
# No part of `run`: a cluster without networks of type ovn needs none of it.
ovn="openvswitch-switch ovn-central ovn-host ethtool"
test="$ovn bind9-dnsutils lxd-client incus-client/backports openssl curl openssh-client python3-venv xz-utils ansible prometheus"
bench="etcd-server etcd-client incus-base/backports incus-agent/backports libcowsql0/backports libraft0/backports incus-client/backports"

# The host's own ZFS where its kernel has it, else zfs-fuse. Without either, pools are plain folders.
[ -e /dev/zfs ] || run="$run zfs-fuse"

list_only=
[ "${1:-}" = --list ] && { list_only=1; shift; }
wanted=
for group in "$@"; do
    case $group in run | build | ovn | test | bench) wanted="$wanted ${!group}" ;; *) echo "no group $group" >&2; exit 2 ;; esac
done
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
missing=
backports=
for package in $wanted; do
    # "installed" in full: a package removed but not purged is known as well.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "${package%/*}" 2>/dev/null)" = installed ] && continue
    case $package in
        # Only Debian 12 needs its backports for these; later releases have them of their own.
        */backports) backports="$backports ${package%/*}$([ "$release" != bookworm ] || echo "/$release-backports")" ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$list_only" ] && { echo ${wanted//\/backports/}; exit 0; }
[ -n "$missing$backports" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "these packages are missing, and only root can install them:$missing$backports" >&2; exit 1; }

# No service is to start because a test wanted its program. A policy of the machine's own is left as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi

# The suite of backports, from the mirror that this machine takes Debian itself from; nothing if it is not known.
add_backports() {
    local suite=$release-backports mirror
    apt-cache policy | grep -q "$suite" && return
    # Either form of sources may be absent, which is no error.
    mirror=$(sed -nE 's|^URIs: *(\S+/debian)/? *$|\1|p; s|^deb (\[[^]]*\] )?(\S+/debian)/? .*|\2|p' \
        $(ls /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null) \
        </dev/null | sed -n 1p)
    [ -n "$mirror" ] || return 0
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
        >"/etc/apt/sources.list.d/$suite.list"
}

export DEBIAN_FRONTEND=noninteractive
[ -z "$backports" ] || [ "$release" != bookworm ] || add_backports
apt-get -q update
if [ -n "$missing" ]; then
    echo "installing:$missing"
    apt-get -q -y --no-install-recommends install $missing
fi
if [ -n "$backports" ]; then
    echo "installing:$backports"
    # A test that needs them says so itself when they cannot be had.
    apt-get -q -y --no-install-recommends install $backports || echo "not to be had here:$backports" >&2
fi

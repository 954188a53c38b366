#!/bin/bash
# Debian packages that Basalt, its build, its tests and its bench need, in one place.
#   tests/packages.sh run build test bench    installs what is missing of those groups (root)
#   tests/packages.sh --list run ...          only prints them
set -euo pipefail

run="lxc liblxc-common dnsmasq-base nftables iproute2 util-linux procps busybox-static"
build="gcc libc6-dev make pkg-config ca-certificates"
test="lxd-client openssl curl"
bench="etcd-server etcd-client"

# The host's own ZFS where its kernel has it, else zfs-fuse. Without either, pools are plain folders.
[ -e /dev/zfs ] || run="$run zfs-fuse"

list_only=
[ "${1:-}" = --list ] && { list_only=1; shift; }
wanted=
for group in "$@"; do
    case $group in run | build | test | bench) wanted="$wanted ${!group}" ;; *) echo "no group $group" >&2; exit 2 ;; esac
done
missing=
for package in $wanted; do
    # "installed" in full: a package removed but not purged is known as well.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$list_only" ] && { echo $wanted; exit 0; }
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "these packages are missing, and only root can install them:$missing" >&2; exit 1; }

# No service is to start because a test wanted its program. A policy of the machine's own is left as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y --no-install-recommends install $missing

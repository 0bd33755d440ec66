#!/bin/bash
# Makes the root of the containers that run a real systemd: a small Debian of the suite that runs here.
#
#   tests/lab/nspawn/root.sh           makes it unless that is done, and prints where it lies
#   tests/lab/nspawn/root.sh --where   only prints where it would lie
#
# Packages come from the mirror that apt uses here, checked with Debian's keys. The root is never written again: each
# container lays a directory of its own over it. It lies outside the clone and is made once: PBX_FAILOVER_TESTS_CACHE,
# or pbx-failover-tests in XDG_CACHE_HOME or ~/.cache. Needs root and debootstrap. About a minute, 180 MB.
set -euo pipefail

# One more when what this script makes changes: the older ones are removed.
recipe=1
# polkitd lets the robot's user start one unit (it wants a logind, which debootstrap does not find by itself); kamailio is
# the PBX that is a unit. No ca-certificates: the program must do without where it needs none.
packages=systemd,systemd-sysv,libpam-systemd,dbus,polkitd,kamailio

cache=${PBX_FAILOVER_TESTS_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/pbx-failover-tests}
# The same suite as here, so that a program that was built here finds its libraries there.
suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:?}")
root=$cache/systemd-$suite-$recipe

say() { printf '%s\n' "root.sh: $*" >&2; }

# The whole is renamed into place last.
if [ "${1:-}" = --where ] || [ -d "$root" ]; then
    printf '%s\n' "$root"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/systemd-$suite.lock"
flock 9
if [ -d "$root" ]; then # somebody else made it while we waited
    printf '%s\n' "$root"
    exit 0
fi

say "making a root of $suite in $root"
# What was left by one that was killed, and older recipes.
rm -rf --one-file-system "$cache/systemd-$suite"-*
new=$cache/systemd-$suite-new

mirror=$("${BASH_SOURCE[0]%/*}/../suite/mirror.sh")
debootstrap --variant=minbase --include="$packages" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$suite" "$new" "$mirror" >&2

# What no test reads, and what must differ between containers: an empty machine-id is filled at the first boot.
rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/* "$new"/usr/share/{doc,man,locale}/*
: >"$new/etc/machine-id"
rm -f "$new/etc/hostname" "$new/etc/resolv.conf" "$new/var/lib/dbus/machine-id"
: >"$new/etc/resolv.conf"
# What a test does not ask for does not run: its PBX is a unit of its own, and nobody logs in.
for unit in kamailio.service getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-timesyncd.service; do
    ln -sf /dev/null "$new/etc/systemd/system/$unit"
done
mkdir -p "$new/var/log/journal"
mv -T "$new" "$root"
printf '%s\n' "$root"

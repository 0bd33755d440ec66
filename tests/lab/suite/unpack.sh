#!/bin/bash
# Unpacks programs of another Debian suite that this one does not have: Asterisk, and a sipp with SHA-256 and TLS.
#
#   tests/lab/suite/unpack.sh SUITE           unpacks it unless that is done, and prints where it lies
#   tests/lab/suite/unpack.sh --where SUITE   only prints where it would lie
#
# Packages come from the mirror that apt uses here, checked by apt with Debian's keys, with all that they depend on down
# to the C library; none is installed and none of their scripts runs. SUITE/run PROGRAM ARGUMENTS… starts a program by
# that suite's own loader, so that no chroot and no root is needed. It lies outside the clone and is made once:
# PBX_FAILOVER_TESTS_CACHE, or pbx-failover-tests in XDG_CACHE_HOME or ~/.cache. About 20 s, 90 MB of download, 190 MB.
set -euo pipefail

# One more when what this script makes changes: the older ones are removed.
recipe=1
where=
if [ "${1:-}" = --where ]; then
    where=yes
    shift
fi
suite=${1:?which suite}
cache=${PBX_FAILOVER_TESTS_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/pbx-failover-tests}
root=$cache/$suite-$recipe
case $suite in
bullseye) packages=(asterisk asterisk-modules) ;; # Asterisk 16
*) packages=(asterisk asterisk-modules sip-tester) ;; # forky: Asterisk 22, sipp 3.8
esac

say() { printf '%s\n' "unpack.sh: $*" >&2; }

# `run` is written last, and then the whole is renamed into place.
if [ -n "$where" ] || [ -e "$root/run" ]; then
    printf '%s\n' "$root"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/$suite.lock"
flock 9
if [ -e "$root/run" ]; then # somebody else made it while we waited
    printf '%s\n' "$root"
    exit 0
fi

say "unpacking ${packages[*]} of $suite into $root"
# What was left by one that was killed, and older recipes.
rm -rf "$cache/$suite"-*
new=$cache/$suite-new
mkdir -p "$new"/apt/{lists/partial,archives/partial} "$new"/usr/{bin,sbin,lib,lib64}
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$new/$dir"; done

mirror=$("${BASH_SOURCE[0]%/*}/mirror.sh")
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$new/apt/sources.list"
: >"$new/apt/status" # nothing is installed there: apt resolves down to the C library
options=(
    -q -o Dir::Etc::sourcelist="$new/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o Dir::State="$new/apt" -o Dir::State::status="$new/apt/status" -o Dir::Cache="$new/apt"
    -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o Acquire::Languages=none
    -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false # a suite that is no longer kept goes stale
)
apt-get "${options[@]}" update >&2
apt-get "${options[@]}" --yes --download-only install "${packages[@]}" >&2

# What no program of ours reads: half of the size.
leave=()
for path in doc man locale i18n perl perl5 icons gtk-doc pixmaps snmp; do leave+=(--exclude="./usr/share/$path"); done
leave+=(--exclude='./usr/lib/*/perl*' --exclude='./usr/lib/*/gconv' --exclude='./usr/lib/python*' --exclude='./dev/*')
for package in "$new"/apt/archives/*.deb; do
    # Older packages still carry /lib and /bin, which are links here.
    dpkg-deb --fsys-tarfile "$package" |
        tar --extract --directory "$new" --keep-directory-symlink --no-same-owner --delay-directory-restore "${leave[@]}"
done
rm -rf "$new/apt"

libraries=$(cd "$new" && find usr/lib -mindepth 2 -maxdepth 2 -name libc.so.6 -printf '%h\n' | head -n 1)
loader=$(cd "$new" && find "$libraries" -maxdepth 1 -name 'ld-linux*.so.*' | head -n 1)
[ -n "$loader" ] || {
    say "there is no C library among the packages"
    exit 1
}
cat >"$new/run" <<END
#!/bin/sh
# run PROGRAM ARGUMENTS…: starts usr/bin/sipp, usr/sbin/asterisk and so on with the libraries that lie here.
here=\${0%/*}
program=\$here/\$1
shift
exec "\$here/$loader" --library-path "\$here/$libraries:\$here/usr/lib" "\$program" "\$@"
END
chmod 0755 "$new/run"
mv -T "$new" "$root"
printf '%s\n' "$root"

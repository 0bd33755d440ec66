#!/bin/bash
# Prints the mirror of Debian that apt uses here; also where apt has no lists yet.
set -euo pipefail

mirror() {
    apt-get indextargets "$@" --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 == "Debian" && !found { print $3; found = 1 }'
}
mirror=$(mirror)
if [ -z "$mirror" ]; then # it gets some lists of its own for this
    lists=$(mktemp -d)
    trap 'rm -rf "$lists"' EXIT
    mkdir "$lists/partial"
    here=(-o Dir::State::lists="$lists" -o APT::Sandbox::User="$(id -un)")
    apt-get -q "${here[@]}" update >&2
    mirror=$(mirror "${here[@]}")
fi
[ -n "$mirror" ] || {
    printf '%s\n' "mirror.sh: apt knows no mirror of Debian here" >&2
    exit 1
}
printf '%s\n' "$mirror"

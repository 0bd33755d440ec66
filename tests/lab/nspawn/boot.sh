#!/bin/sh
# boot.sh NAME ROOT DIR ARGUMENTS…: systemd as PID 1 in a container whose root is ROOT with DIR/upper laid over it.
#
# It becomes systemd-nspawn, so the process id stays. To be started in a mount and a process namespace of its own: the
# overlay goes with the last process in it, and all processes with this one, also when that is killed.
set -eu
name=$1
root=$2
dir=$3
shift 3

# Its own control group in every hierarchy. Without it the container shares the group of whoever started it, reads the
# ids of strangers there as 0, and can neither list nor end its own.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then hierarchies=/sys/fs/cgroup; else hierarchies=$(echo /sys/fs/cgroup/*); fi
for hierarchy in $hierarchies; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$name"
    # Hierarchies that want to be told about processors first (cpuset of version 1) are not needed.
    echo $$ 2>/dev/null >"$hierarchy/$name/cgroup.procs" || true
done

# volatile: the end of the machine does not wait until the whole disk below is written. It refuses a second mount over
# the work directory of a first one, which holds nothing else.
rm -rf "$dir/work"
mkdir -p "$dir/upper" "$dir/work" "$dir/merged"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work,volatile" "$dir/merged"

# Nothing that this machine's systemd would have to know of: no registration, no scope, no journal linked.
exec systemd-nspawn --quiet --settings=no --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \
    --directory="$dir/merged" --machine="$name" "$@" --boot

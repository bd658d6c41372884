#!/usr/bin/env bash
# Puts on a Debian machine what launcher "stargz" needs beyond Debian 12: a Docker that keeps its images in containerd,
# and the snapshotters "stargz" and "soci" that let containers start before their image is there. About 2 minutes on two
# cores, nearly all of it for compiling one program; once it is there, nothing is done.
#
# usage: install_stargz.sh [PREFIX]         PREFIX is /opt/slurm-gha-tools/stargz where none is given; its bin
#                                           directory belongs on PATH of the nodes ([slurm] node_path).
#
# Why not the system's packages: Docker can use containerd's images from version 24 on, and Debian 12 has version 20.
# Debian 13's programs need nothing newer than Debian 12's libc, so they are unpacked into PREFIX, and used only by who
# puts it on PATH. runc, iptables and slirp4netns stay the system's.
#
# Why compile: Debian ships soci's daemon, and of stargz only the library and a converter. The daemon around the library
# is tools/stargz/*.go. Compiler and libraries are unpacked into a temporary directory, and thrown away again.
#
# Run as root: the prefix is for all users, who can only read it.
set -euo pipefail
tools=$(cd -- "${BASH_SOURCE[0]%/*}" && pwd)
# shellcheck source=tools/debian_packages.sh
source "$tools/debian_packages.sh"

prefix=${1:-/opt/slurm-gha-tools/stargz}
[[ $prefix == /* ]] || give_up "the prefix must be an absolute path, not '$prefix'"
suite=trixie

# What the prefix is made from: another daemon's source, or another suite, makes it anew.
made_from=$(printf '%s\n' "$suite" | cat - "$tools"/stargz/*.go | sha256sum)

# is_there: whether the prefix is whole; it is moved to its place only when it is.
is_there() {
  [[ -f $prefix/made-from && $(<"$prefix/made-from") == "$made_from" ]] || return 1
  echo "Docker $(sed -n 's/^docker.io //p' "$prefix/packages") with stargz and soci is in $prefix"
}
! is_there || exit 0

need_debian_and_root
umask 022
work=$(mktemp -d)
trap 'rm -rf -- "$work" "$prefix.new"' EXIT
one_at_a_time "$prefix.lock"
! is_there || exit 0
rm -rf -- "$prefix.new"

PATH=$PATH:/usr/sbin:/sbin
install_missing runc runc iptables iptables slirp4netns slirp4netns newuidmap uidmap fusermount3 fuse3

echo "Unpacking Docker of Debian $suite into $prefix"
private_apt "$work" "$suite"
unpack_packages "$work/root" docker.io containerd rootlesskit tini stargz-snapshotter soci-snapshotter
mkdir -p -- "${prefix%/*}" "$prefix.new/bin"
cp -a -t "$prefix.new/bin" -- "$work"/root/usr/sbin/{dockerd,docker-proxy} \
  "$work"/root/usr/bin/{containerd,containerd-shim-runc-v2,ctr,rootlesskit,rootlesskit-docker-proxy} \
  "$work"/root/usr/bin/{ctr-remote,soci,soci-snapshotter-grpc}
# What "docker run --init" starts. The other one in the package needs a newer libc; this one needs none.
cp -a -- "$work/root/usr/bin/tini-static" "$prefix.new/bin/docker-init"

echo "Compiling the stargz snapshotter: about a minute and a half"
go_version=$(APT_CONFIG=$PRIVATE_APT apt-cache depends golang-go | sed -n 's/.*Depends: \(golang-[0-9.]*\)-go$/\1/p' | head -n 1)
[[ -n $go_version ]] || give_up "Debian $suite names no Go compiler"
unpack_closure "$work/go" "$suite" 'golang-*.deb' golang-github-containerd-stargz-snapshotter-dev "$go_version-go"
# Debian's Go libraries lie in one tree, without modules, so this is GOPATH's old way, and asks no network for anything.
mkdir -p -- "$work/own/src/containerd-stargz-grpc"
cp -- "$tools"/stargz/*.go "$work/own/src/containerd-stargz-grpc/"
(
  export GOROOT=$work/go/usr/lib/${go_version/lang/} GOPATH=$work/own:$work/go/usr/share/gocode
  export GOCACHE=$work/cache-of-go GO111MODULE=off GOTOOLCHAIN=local GOFLAGS='' GOTMPDIR='' CGO_ENABLED=0
  exec "$GOROOT/bin/go" build -trimpath -ldflags='-s -w' -o "$prefix.new/bin/containerd-stargz-grpc" \
    containerd-stargz-grpc
) || give_up "the stargz snapshotter could not be compiled (see above)"

# Each program has to run here: a libc that is too old shows at once.
for program in dockerd containerd rootlesskit docker-init ctr ctr-remote soci soci-snapshotter-grpc; do
  "$prefix.new/bin/$program" --version >"$work/log" 2>&1 || {
    cat -- "$work/log" >&2
    give_up "Debian $suite's $program does not run on this machine (see above)"
  }
done
# This one has no version of its own, and says how it wants to be called.
"$prefix.new/bin/containerd-stargz-grpc" </dev/null >"$work/log" 2>&1 || true
grep -q '^usage: ' "$work/log" || give_up "the stargz snapshotter does not run on this machine"
cp -- "$work/versions" "$prefix.new/packages"
printf '%s\n' "$made_from" >"$prefix.new/made-from"
chmod -R a+rX -- "$prefix.new"
rm -rf -- "$prefix"
mv -T -- "$prefix.new" "$prefix"
is_there

#!/usr/bin/env bash
# Puts a working Apptainer on a Debian machine, for launcher "apptainer" and its tests. About 15 s; once it is there,
# nothing is done.
#
# usage: install_apptainer.sh [PREFIX]      PREFIX is /opt/slurm-gha-tools/apptainer where none is given; its bin
#                                           directory belongs on PATH of the nodes ([slurm] node_path).
#
# A machine that has Apptainer keeps it. Debian 12 has none, and no backport: the only package is in sid, made for sid's
# libc. It is unpacked into PREFIX, with the few libraries that it needs beside it, and its two programs are told to
# use these. The system's own libc stays what it is, and PREFIX can be removed like any directory.
#
# Run as root: the prefix is for all users, who can only read it.
set -euo pipefail
# shellcheck source=tools/debian_packages.sh
source "${BASH_SOURCE[0]%/*}/debian_packages.sh"

prefix=${1:-/opt/slurm-gha-tools/apptainer}
[[ $prefix == /* ]] || give_up "the prefix must be an absolute path, not '$prefix'"

if version=$(apptainer version 2>/dev/null); then
  echo "Apptainer $version is installed: $(command -v apptainer)"
  exit 0
fi
if version=$("$prefix/bin/apptainer" version 2>/dev/null); then
  echo "Apptainer $version is in $prefix"
  exit 0
fi

need_debian_and_root
umask 022
work=$(mktemp -d)
trap 'rm -rf -- "$work" "$prefix.new"' EXIT
one_at_a_time "$prefix.lock"
# Another run may have done the work while this one waited; anything else that is there is not whole.
rm -rf -- "$prefix.new"
if version=$("$prefix/bin/apptainer" version 2>/dev/null); then
  echo "Apptainer $version is in $prefix"
  exit 0
fi

# patchelf is for this script. The others are Apptainer's: for SIF files (squashfuse), for overlays (fuse-overlayfs,
# and fuse2fs for one in a file), for making both (mksquashfs, mkfs.ext3), for --fakeroot (newuidmap).
PATH=$PATH:/usr/sbin:/sbin
install_missing patchelf patchelf squashfuse_ll squashfuse fuse-overlayfs fuse-overlayfs fuse2fs fuse2fs \
  fusermount3 fuse3 mksquashfs squashfs-tools mkfs.ext3 e2fsprogs newuidmap uidmap

echo "Unpacking Apptainer into $prefix"
private_apt "$work" sid
unpack_packages "$work/root" apptainer/sid libc6/sid libseccomp2/sid libsqlite3-0/sid

# Apptainer finds its directories from where its programs are: what is in /usr elsewhere has to be in the prefix itself.
# The second program, "starter", counts from a directory further down, because Debian keeps it in lib/ARCHITECTURE: the
# two links are for it.
mkdir -p -- "${prefix%/*}" "$prefix.new/bin" "$prefix.new/lib"
cp -a -- "$work/root/etc" "$work/root/var" "$prefix.new/"
cp -a -- "$work/root/usr/bin/apptainer" "$prefix.new/bin/"
starter=("$work"/root/usr/lib/*/apptainer/bin/starter)
[[ -f ${starter[0]} ]] || give_up "Debian's package has its starter at another place than this script knows"
triplet=${starter[0]#"$work/root/usr/lib/"}
triplet=${triplet%%/*}
mkdir -p -- "$prefix.new/lib/$triplet"
cp -a -- "$work/root/usr/lib/$triplet/apptainer" "$prefix.new/lib/$triplet/"
ln -s -- ../etc "$prefix.new/lib/etc"
ln -s -- ../var "$prefix.new/lib/var"
# Containers are mounted here, in a mount namespace of their own; it has to exist, and stays empty.
mkdir -p -- "$prefix.new/var/lib/apptainer/mnt/session"

# sid's libc and the rest, in a directory that no other program looks into.
mkdir -p -- "$prefix.new/libraries"
find "$work/root/usr/lib/$triplet" -maxdepth 1 -name '*.so*' -exec cp -a -t "$prefix.new/libraries" -- {} +
loader=("$prefix.new/libraries"/ld-linux*)
[[ -f ${loader[0]} ]] || give_up "Debian's libc has its loader at another place than this script knows"

# A program names its loader by an absolute path, and libc and loader must be of one build. --force-rpath, because the
# newer kind of path (RUNPATH) does not hold for libraries that libraries need.
for program in "$prefix.new/bin/apptainer" "$prefix.new/lib/$triplet/apptainer/bin/starter"; do
  patchelf --set-interpreter "$prefix/libraries/${loader[0]##*/}" --force-rpath --set-rpath "$prefix/libraries" \
    "$program" || give_up "patchelf could not change ${program##*/}"
done
cp -- "$work/versions" "$prefix.new/packages"
chmod -R a+rX -- "$prefix.new"
# The paths in the programs are those of the final place, so only there can they be tried.
rm -rf -- "$prefix"
mv -T -- "$prefix.new" "$prefix"
trap 'rm -rf -- "$work"' EXIT

# Try both programs: a container out of the system's own /usr, as a user without rights, as on a node.
probe=$work/probe
mkdir -p -- "$probe"/{dev,etc,home,proc,root,sys,tmp,usr,var/tmp}
ln -s -t "$probe" -- usr/bin usr/lib usr/lib64
touch -- "$probe"/etc/{group,hosts,localtime,passwd,resolv.conf}
chmod a+rx -- "$work"
if ! version=$("$prefix/bin/apptainer" version 2>&1) ||
  ! told=$(cd / && setpriv --reuid=65534 --regid=65534 --clear-groups \
    env -i PATH=/usr/bin:/bin HOME=/ "$prefix/bin/apptainer" --quiet exec --containall --no-home --bind /usr \
    "$probe" /usr/bin/env 2>&1); then
  rm -rf -- "$prefix"
  printf '%s\n%s\n' "$version" "${told:-}" >&2
  give_up "what was unpacked does not run on this machine (see above)"
fi
echo "Apptainer $version is in $prefix"

#!/usr/bin/env bash
# Installs the system packages that tests and the demo need, and only those that are lacking (Debian, Ubuntu).
# Run as root, or as a user who may use sudo. No daemon of theirs is started.
set -euo pipefail

# command that must be there, and the package that brings it
needed='
sbatch slurm-client
squeue slurm-client
slurmctld slurmctld
slurmd slurmd
slurmdbd slurmdbd
munged munge
mariadbd mariadb-server
mariadb-install-db mariadb-server
node nodejs
npm npm
git git
curl curl
setpriv util-linux
getfattr attr
ssh openssh-client
sshd openssh-server
flock util-linux
ps procps
debootstrap debootstrap
dockerd docker.io
docker docker.io
rootlesskit rootlesskit
slirp4netns slirp4netns
newuidmap uidmap
fuse-overlayfs fuse-overlayfs
runc runc
podman podman
/usr/lib/podman/netavark netavark
/usr/lib/podman/aardvark-dns aardvark-dns
skopeo skopeo
docker-registry docker-registry
ctr-remote stargz-snapshotter
squashfuse squashfuse
mksquashfs squashfs-tools
fusermount3 fuse3
mkfs.erofs erofs-utils
ip iproute2
nft nftables
iptables iptables
zstd zstd
busybox busybox-static
jq jq
openssl openssl
'

# Daemons are often outside an ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

venv_works() {
  local python="${PYTHON:-python3}"
  "$python" -c 'import ensurepip, venv' 2>/dev/null
}

missing=()
if ! venv_works; then
  missing+=(python3-venv)
fi
while read -r command package; do
  if [[ -n "$command" ]] && ! command -v "$command" >/dev/null; then
    missing+=("$package")
  fi
done <<<"$needed"
# curl, pip and npm check certificates by it.
if [[ ! -e /etc/ssl/certs/ca-certificates.crt ]]; then
  missing+=(ca-certificates)
fi
if ((${#missing[@]} == 0)); then
  exit 0
fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if ! command -v apt-get >/dev/null; then
  echo "These are missing, and there is no apt-get to install them with: ${missing[*]}" >&2
  exit 1
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "These are missing; install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

# Debian starts daemons when it installs them, unless this script says no (101). It is taken away again at the end.
policy=/usr/sbin/policy-rc.d
if [[ ! -e "$policy" ]]; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 0755 "$policy"
fi

echo "Installing system packages: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -q -y --no-install-recommends "${missing[@]}"

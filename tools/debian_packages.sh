# shellcheck shell=bash
# For the scripts beside it: packages of another Debian suite, unpacked into a directory, on a machine that goes on
# knowing only its own suite.
#
# Installing a newer suite's packages would drag its libc along, and with it most of the system. So apt gets a
# configuration of its own: other sources, other lists, another cache, and an empty list of installed packages. Nothing
# under /etc/apt or /var/lib is touched.

# private_apt DIRECTORY SUITE...: make that configuration in an empty directory, and read the suites' package lists.
private_apt() {
  local directory=$1
  shift
  PRIVATE_APT=$directory/apt.conf
  mkdir -p -- "$directory/sources" "$directory/lists/partial" "$directory/cache/archives/partial"
  : >"$directory/status"
  {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$(debian_host)" "$*"
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n'
  } >"$directory/sources/debian.sources"
  cat >"$PRIVATE_APT" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$directory/sources";
Dir::State::lists "$directory/lists";
Dir::State::status "$directory/status";
Dir::Cache "$directory/cache";
# The directory is private, and apt's own user could not write to it.
APT::Sandbox::User "root";
APT::Install-Recommends "false";
# Descriptions in other languages are half of what would be downloaded.
Acquire::Languages "none";
# The lists of sid are valid for a week; a mirror that is behind is still good enough.
Acquire::Check-Valid-Until "false";
END
  APT_CONFIG=$PRIVATE_APT apt-get -q update >"$directory/log" 2>&1 || {
    cat -- "$directory/log" >&2
    give_up "the package lists of Debian $* could not be read (see above)"
  }
}

# debian_host: where this machine gets Debian from; Debian's own host where that is not to be found out.
debian_host() {
  local found
  # shellcheck disable=SC2016 # apt-get's own variables
  found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n 's/^Debian \(http.*\)/\1/p' | sort -u | head -n 1) || true
  printf '%s\n' "${found:-http://deb.debian.org/debian}"
}

# unpack_packages DIRECTORY PACKAGE/SUITE...: download these packages, without what they depend on, and unpack them.
unpack_packages() {
  local directory=$1 work package
  shift
  work=${PRIVATE_APT%/*}
  mkdir -p -- "$directory" "$work/debs"
  (cd -- "$work/debs" && APT_CONFIG=$PRIVATE_APT apt-get -q download "$@" >"$work/log" 2>&1) || {
    cat -- "$work/log" >&2
    give_up "these packages could not be downloaded (see above): $*"
  }
  for package in "$work"/debs/*.deb; do
    dpkg-deb -x "$package" "$directory"
    # What a prefix was made of is kept beside it.
    # shellcheck disable=SC2016 # dpkg-deb's own variables
    dpkg-deb -W --showformat='${Package} ${Version}\n' "$package" >>"$work/versions"
  done
  rm -rf -- "$work/debs"
}

# install_missing COMMAND PACKAGE...: install the package of each command that this machine lacks, of its own suite.
install_missing() {
  local log
  local -a missing=()
  while (($# > 1)); do
    command -v "$1" >/dev/null || missing+=("$2")
    shift 2
  done
  ((${#missing[@]} > 0)) || return 0
  echo "Installing ${missing[*]}"
  log=$(mktemp)
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}"; } \
    >"$log" 2>&1 || {
    cat -- "$log" >&2
    give_up "these packages could not be installed (see above): ${missing[*]}"
  }
  rm -f -- "$log"
}

# unpack_closure DIRECTORY SUITE PATTERN PACKAGE...: download these packages with all that they depend on, and unpack those
# whose names match the pattern.
unpack_closure() {
  local directory=$1 suite=$2 pattern=$3 work package
  shift 3
  work=${PRIVATE_APT%/*}
  mkdir -p -- "$directory"
  APT_CONFIG=$PRIVATE_APT apt-get -q -y --download-only -t "$suite" install "$@" >"$work/log" 2>&1 || {
    cat -- "$work/log" >&2
    give_up "these packages could not be downloaded (see above): $*"
  }
  # shellcheck disable=SC2086 # the pattern is one
  for package in "$work"/cache/archives/$pattern; do
    dpkg-deb -x "$package" "$directory"
  done
  rm -rf -- "$work/cache/archives"
}

# need_debian_and_root: or end with a sentence.
need_debian_and_root() {
  ((EUID == 0)) || give_up "root is needed: run it by root, or with sudo"
  type apt-get dpkg-deb >/dev/null 2>&1 ||
    give_up "this is for Debian, and here is no apt-get; install the program with your system's own packages"
}

# one_at_a_time FILE: wait for another run of the script, which may be at the same work.
one_at_a_time() {
  mkdir -p -- "${1%/*}"
  exec {only_one}>"$1"
  flock "$only_one"
}

# give_up SENTENCE
give_up() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# How a check of the node speaks: one line an answer, as "slurm-gha check" does.

SG_LACKS=0    # how many things are wrong
SG_SAID=      # output of the command run last
SG_VERSION=   # of the command asked last
SG_CHECK_DIR= # a directory of its own in node_dir, to try things in

good() {
  answer '✓' "$1" "$2"
}

bad() {
  SG_LACKS=$((SG_LACKS + 1))
  answer '✗' "$1" "$2"
}

# doubtful: works but is not wise, or cannot be told from here.
doubtful() {
  answer '!' "$1" "$2"
}

answer() {
  printf '%s %s: %s\n' "$1" "$2" "${3//[[:cntrl:]]/ }"
}

# quietly COMMAND...: run it for its status; its words, on one line, into SG_SAID.
quietly() {
  local status=0
  SG_SAID=$("$@" 2>&1 </dev/null) || status=$?
  SG_SAID=${SG_SAID//$'\n'/; }
  SG_SAID=${SG_SAID:0:300}
  return "$status"
}

# has COMMAND
has() {
  command -v "$1" >/dev/null 2>&1
}

# first_version COMMAND...: the first number with a dot in what it says, into SG_VERSION.
first_version() {
  SG_VERSION=
  quietly timeout 20 "$@" || true
  [[ $SG_SAID =~ [0-9]+\.[0-9]+[0-9A-Za-z.+~-]* ]] || return 1
  SG_VERSION=${BASH_REMATCH[0]}
}

# at_least VERSION WANTED: by the first two numbers.
at_least() {
  local major minor wanted_major wanted_minor
  IFS=. read -r major minor _ <<<"${1//[^0-9.]/}"
  IFS=. read -r wanted_major wanted_minor _ <<<"$2"
  major=$((10#${major:-0})) minor=$((10#${minor:-0}))
  ((major > wanted_major || (major == wanted_major && minor >= wanted_minor)))
}

# program COMMAND WANTED PACKAGE [ARGUMENT...]: that it is there, in that version or a later one; ARGUMENT makes it tell.
program() {
  local name=$1 wanted=$2 package=$3
  shift 3
  if ! has "$name"; then
    bad "$name" "not found on PATH ($PATH): install $package"
    return 1
  fi
  if ! first_version "$name" "${@:---version}"; then
    doubtful "$name" "is there, but does not tell its version: ${SG_SAID:-no output}"
  elif [[ -n $wanted ]] && ! at_least "$SG_VERSION" "$wanted"; then
    bad "$name" "version $SG_VERSION; $wanted or later is needed"
    return 1
  else
    good "$name" "version $SG_VERSION"
  fi
}

# seconds_since MILLISECONDS: into SG_SECONDS.
seconds_since() {
  now
  printf -v SG_SECONDS '%d.%d' "$(((SG_NOW - $1) / 1000))" "$(((SG_NOW - $1) % 1000 / 100))"
}

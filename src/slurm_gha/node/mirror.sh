# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Pull-through caches, by registry. One that does not answer costs a direct pull, never the job.

SG_MIRROR_URL= # of the registry asked for last

# find_mirror REGISTRY: its mirror's URL into SG_MIRROR_URL, if there is one that answers.
find_mirror() {
  local pair
  SG_MIRROR_URL=
  for pair in "${SG_MIRRORS[@]}"; do
    [[ $pair == "$1="* ]] || continue
    if mirror_answers "${pair#*=}"; then
      SG_MIRROR_URL=${pair#*=}
      return 0
    fi
    say "the mirror ${pair#*=} of $1 does not answer; pulling from $1 itself"
    return 1
  done
  return 1
}

# mirror_answers URL: any status but a server's error; a registry may ask for a login.
mirror_answers() {
  local status
  status=$(curl --disable --silent --output /dev/null --write-out '%{http_code}' --max-time 3 --proto '=http,https' "$1/v2/") ||
    return 1
  [[ $status == [234]?? ]]
}

# registry_of REFERENCE: into SG_REGISTRY, the rest into SG_REPOSITORY. The first part is a host if it looks like one.
registry_of() {
  local first=${1%%/*}
  if [[ $1 == */* && ($first == *.* || $first == *:* || $first == localhost) ]]; then
    SG_REGISTRY=$first SG_REPOSITORY=${1#*/}
  else
    SG_REGISTRY=docker.io SG_REPOSITORY=$1
    [[ $1 == */* ]] || SG_REPOSITORY=library/$1
  fi
}

# dockerd_mirrors: arguments of dockerd into SG_DOCKERD_MIRRORS. It knows mirrors of docker.io only; it goes to the registry
# itself when they fail. Mirrors of others are asked by rewritten references, over HTTP where their URL says so.
dockerd_mirrors() {
  local pair host
  SG_DOCKERD_MIRRORS=()
  if find_mirror docker.io; then SG_DOCKERD_MIRRORS+=(--registry-mirror "$SG_MIRROR_URL"); fi
  for pair in "${SG_MIRRORS[@]}"; do
    [[ $pair == *=http://* ]] || continue
    host=${pair#*=http://}
    SG_DOCKERD_MIRRORS+=(--insecure-registry "${host%%/*}")
  done
}

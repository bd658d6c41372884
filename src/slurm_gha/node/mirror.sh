# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Pull-through caches, by registry. One that does not answer costs a direct pull, never the job.

SG_MIRROR_URL= # of the registry asked for last
SG_REGISTRY=   # of the reference looked at last
SG_REPOSITORY= # the rest of it
readonly SG_MIRROR_PATIENCE=3

# find_mirror REGISTRY: its mirror's URL into SG_MIRROR_URL, if there is one that answers; asked after registry_of, for the
# image as well: a cache whose own registry is down answers for itself, and then leaves a pull waiting.
find_mirror() {
  local pair image=''
  SG_MIRROR_URL=
  for pair in "${SG_MIRRORS[@]}"; do
    [[ $pair == "$1="* ]] || continue
    [[ $1 != "$SG_REGISTRY" ]] || image=$SG_REPOSITORY
    if mirror_answers "${pair#*=}" "$image" "$1"; then
      SG_MIRROR_URL=${pair#*=}
      return 0
    fi
    say "the mirror ${pair#*=} of $1 ${SG_MIRROR_SAYS}; pulling from $1 itself"
    return 1
  done
  return 1
}

# mirror_answers URL [REPOSITORY REGISTRY]: whether it does, and has the image; if not, what it does instead into
# SG_MIRROR_SAYS. It may ask for a login, which the engine knows how to answer; and what it does not have of docker.io, the
# engine gets from there by itself.
mirror_answers() {
  local status path=
  [[ -z ${2:-} ]] || manifest_path "$2"
  status=$(curl --disable --silent --head --output /dev/null --write-out '%{http_code}' --max-time "$SG_MIRROR_PATIENCE" \
    --proto '=http,https' --header 'Accept: application/vnd.docker.distribution.manifest.list.v2+json' \
    --header 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
    --header 'Accept: application/vnd.oci.image.index.v1+json' \
    --header 'Accept: application/vnd.oci.image.manifest.v1+json' "$1/v2/$path") || true
  case $status in
    2?? | 3?? | 401 | 403) return 0 ;;
    000 | '') SG_MIRROR_SAYS="does not answer within $SG_MIRROR_PATIENCE s" ;;
    404)
      [[ -n $path && ${3:-} != docker.io ]] || return 0
      SG_MIRROR_SAYS="does not have $2"
      ;;
    4??)
      [[ -n $path && ${3:-} != docker.io ]] || return 0
      SG_MIRROR_SAYS="answers with HTTP status $status"
      ;;
    *) SG_MIRROR_SAYS="answers with HTTP status $status" ;;
  esac
  return 1
}

# manifest_path NAME[:TAG][@DIGEST]: into the caller's path; of tag and digest, the digest counts.
manifest_path() {
  local name=${1%%@*} version=latest
  if [[ ${name##*/} == *:* ]]; then version=${name##*:} name=${name%:*}; fi
  [[ $1 != *@* ]] || version=${1#*@}
  path=$name/manifests/$version
}

# registry_of REFERENCE: into SG_REGISTRY, the rest into SG_REPOSITORY. The first part is a host if it looks like one.
registry_of() {
  local first=${1%%/*}
  if [[ $1 == */* && ($first == *.* || $first == *:* || $first == localhost) ]]; then
    SG_REGISTRY=$first SG_REPOSITORY=${1#*/}
  else
    SG_REGISTRY=docker.io SG_REPOSITORY=$1
  fi
  case $SG_REGISTRY in docker.io | index.docker.io | registry-1.docker.io) SG_REGISTRY=docker.io ;; *) return 0 ;; esac
  [[ $SG_REPOSITORY == */* ]] || SG_REPOSITORY=library/$SG_REPOSITORY
}

# dockerd_mirrors: arguments of dockerd into SG_DOCKERD_MIRRORS. It knows mirrors of docker.io only; it goes to the registry
# itself when they fail. Mirrors of others are asked by rewritten references, over HTTP where their URL says so.
dockerd_mirrors() {
  local pair host image=$SG_IMAGE
  SG_DOCKERD_MIRRORS=() SG_REGISTRY='' SG_REPOSITORY=''
  if [[ -n $SG_IMAGE_HOME ]]; then
    image=
    if image_value image.env PULL; then image=$SG_VALUE; fi
  fi
  [[ -z $image ]] || registry_of "$image"
  if find_mirror docker.io; then SG_DOCKERD_MIRRORS+=(--registry-mirror "$SG_MIRROR_URL"); fi
  for pair in "${SG_MIRRORS[@]}"; do
    [[ $pair == *=http://* ]] || continue
    host=${pair#*=http://}
    SG_DOCKERD_MIRRORS+=(--insecure-registry "${host%%/*}")
  done
}

# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# The runner as a container of the job's own engine, which its steps use too, through the socket at its usual place: what the
# launchers docker, podman and stargz share. They differ in the engine, and so in launcher_prepare.
#
# Steps make sibling containers and mount directories into them by path, and it is the engine that looks the path up: so
# the runner's directory has the same path outside, where the engine looks, as inside, where the step writes.

SG_CLIENT=()    # the command that talks to the engine
SG_IMAGE_READY= # what the engine calls the image
SG_GETTER=

launcher_start() {
  await_image
  make_runner_root
  start_runner run_in_container
}

launcher_stop() {
  [[ -z $SG_GETTER ]] || end_helper "$SG_GETTER"
  stop_engine
}

launcher_clean() {
  unmark_image
}

# get_image_early: in the background, while the claim goes on.
get_image_early() {
  (
    trap - EXIT
    exec {SG_LOCK}>&-
    await_engine
    mark 'engine up'
    get_image
    mark 'image there'
    printf '%s' "$SG_IMAGE_READY" >"$SG_ENGINE/image.new"
    mv -- "$SG_ENGINE/image.new" "$SG_ENGINE/image"
  ) &
  SG_GETTER=$!
}

# await_image: end with the getter's status if it could not get it; its reason is in the output.
await_image() {
  attend "$SG_GETTER" TERM
  SG_GETTER=
  end_if_stopped
  ((SG_STATUS == 0)) || fail "$SG_STATUS" "image $SG_IMAGE cannot be used on node $SG_NODE (see above)"
  SG_IMAGE_READY=$(<"$SG_ENGINE/image")
}

# get_image: from the store that was linked, the registry, or the archive in the catalogue; its name into SG_IMAGE_READY.
get_image() {
  if [[ -z $SG_IMAGE_HOME ]]; then
    pull_image "$SG_IMAGE" || fail "$SG_EXIT_IMAGE" "image $SG_IMAGE cannot be pulled on node $SG_NODE (see above)"
    return 0
  fi
  SG_IMAGE_READY=sha256:$SG_IMAGE_DIGEST
  if has_image "$SG_IMAGE_READY"; then return 0; fi
  if image_value image.env PULL && pull_image "$SG_VALUE"; then return 0; fi
  SG_IMAGE_READY=sha256:$SG_IMAGE_DIGEST
  if [[ -r $SG_IMAGE_HOME/archive.tar ]] && "${SG_CLIENT[@]}" load --quiet --input "$SG_IMAGE_HOME/archive.tar" >/dev/null; then
    if has_image "$SG_IMAGE_READY"; then return 0; fi
  fi
  fail "$SG_EXIT_IMAGE" "image $SG_IMAGE ($SG_IMAGE_HOME) can neither be pulled nor loaded on node $SG_NODE"
}

has_image() {
  "${SG_CLIENT[@]}" image inspect "$1" >/dev/null 2>&1
}

# pull_image REFERENCE: through a mirror of its registry where there is one, otherwise directly; what the engine then calls it
# into SG_IMAGE_READY. What comes from a mirror under its host's name gets its own as well, but by its digest only an image is
# known that came from that host: so it is called by the engine's own identity.
pull_image() {
  local host
  registry_of "$1"
  if [[ $SG_REGISTRY != docker.io ]] && find_mirror "$SG_REGISTRY"; then
    host=${SG_MIRROR_URL#*://}
    host=${host%%/*}
    if "${SG_CLIENT[@]}" pull --quiet "$host/$SG_REPOSITORY" >/dev/null &&
      SG_IMAGE_READY=$("${SG_CLIENT[@]}" image inspect --format '{{.Id}}' "$host/$SG_REPOSITORY"); then
      [[ $1 == *@* ]] || "${SG_CLIENT[@]}" tag "$SG_IMAGE_READY" "$1"
      return 0
    fi
    say "the mirror $SG_MIRROR_URL does not give $1; pulling from $SG_REGISTRY itself"
  fi
  SG_IMAGE_READY=$1
  "${SG_CLIENT[@]}" pull --quiet "$1" >/dev/null
}

# make_runner_root: the runner's directory: a copy of runner_dir, or empty, for the image's own runner to be copied into.
make_runner_root() {
  local root=$SG_JOB_DIR/runner
  if [[ -n $SG_RUNNER_DIR ]]; then
    copy_runner
  else
    mkdir -- "$root"
    setup_info >"$root/.setup_info"
    link_externals "$root"
  fi
  chmod 0755 "$root"
}

# link_externals ROOT: the image's externals, several Node.js, are not copied: they are where the engine keeps that layer.
link_externals() {
  local layers layer
  layers=$("${SG_CLIENT[@]}" image inspect --format '{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}' \
    "$SG_IMAGE_READY" 2>/dev/null) || return 0
  local -a copies=()
  while IFS= read -r -d : layer; do
    [[ $layer != /* || ! -d $layer$SG_IMAGE_RUNNER/externals ]] || copies+=("$layer$SG_IMAGE_RUNNER/externals")
  done <<<"$layers:"
  # In parts over several layers, it has to be copied after all.
  ((${#copies[@]} != 1)) || ln -s -- "$(readlink -f -- "${copies[0]}")" "$1/externals"
}

# run_in_container: become the client, attached to the runner's container.
run_in_container() {
  local root=$SG_JOB_DIR/runner pair name
  local -a arguments=(run --rm --interactive --name "$SG_NAME" --network host --user 0:0 --stop-timeout 60 --pull never)
  arguments+=(--volume "$root:$root" --volume "$SG_ENGINE/docker.sock:/var/run/docker.sock" --workdir "$root")
  if [[ -L $root/externals ]]; then
    name=$(readlink -f -- "$root/externals")
    arguments+=(--volume "$name:$(readlink -- "$root/externals"):ro")
  fi
  for pair in "${SG_ENVIRONMENT[@]}"; do
    export "${pair?}"
    arguments+=(--env "${pair%%=*}")
  done
  # Values stay out of the arguments.
  while IFS= read -r name; do
    arguments+=(--env "$name")
  done < <(job_variables)
  arguments+=(--entrypoint bash "$SG_IMAGE_READY" -c "$(declare -f enter_container); enter_container \"\$@\"" runner)
  # The configuration goes in on standard input: arguments and environment can be seen from outside.
  exec "${SG_CLIENT[@]}" "${arguments[@]}" "$root" "$SG_IMAGE_RUNNER" < <(printf '%s\n' "$SG_JIT")
}

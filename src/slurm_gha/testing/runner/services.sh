#!/bin/bash
# Starts the service containers of a job that itself runs on the machine, waits until they are healthy, and gives their
# ports as the step's output. Everything about them is in the environment; the job's end removes them by their names.
set -euo pipefail

network=stand-in-$STAND_IN_MARK

# value NUMBER WHAT: what is said of a service.
value() {
  local name=STAND_IN_$1_$2
  printf '%s' "${!name:-}"
}

# start NUMBER
start() {
  local number=$1 line name given
  local -a arguments options
  arguments=(--name "$network-$number" --network "$network" --network-alias "$(value "$number" ID)")
  while IFS= read -r line; do
    [[ -z $line ]] || arguments+=(--publish "$line")
  done <<<"$(value "$number" PORTS)"
  while IFS= read -r line; do
    [[ -z $line ]] || arguments+=(--volume "$line")
  done <<<"$(value "$number" VOLUMES)"
  while IFS= read -r name; do
    [[ -n $name ]] || continue
    given=STAND_IN_${number}_ENV_$name
    arguments+=(--env "$name")
    export "$name=${!given:-}"
  done <<<"$(value "$number" ENV)"
  mapfile -t options < <(value "$number" OPTIONS | xargs -r printf '%s\n')
  "$docker" create "${arguments[@]}" "${options[@]}" "$(value "$number" IMAGE)" >/dev/null
  "$docker" start "$network-$number" >/dev/null
}

# await NUMBER: until it is healthy, or has no opinion.
await() {
  local health
  while :; do
    health=$(docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' "$network-$1")
    case $health in
      'running starting') sleep 0.2 ;;
      'running healthy' | 'running ') return 0 ;;
      *)
        docker logs "$network-$1" 2>&1 || true
        echo "::error::Service $(value "$1" ID) does not run as it should: $health"
        return 1
        ;;
    esac
  done
}

# described NUMBER: as a member of the context job.services.
described() {
  local port at ports=
  while read -r port _ at; do
    [[ -z $port || $at == \[* ]] || ports+="${ports:+, }\"${port%/*}\": \"${at##*:}\""
  done <<<"$(docker port "$network-$1")"
  printf '"%s": {"id": "%s", "network": "%s", "ports": {%s}}' \
    "$(value "$1" ID)" "$(docker inspect --format '{{.Id}}' "$network-$1")" "$network" "$ports"
}

docker=$(command -v docker)
docker network create "$network" >/dev/null
started=()
for ((number = 0; number < STAND_IN_COUNT; number++)); do
  if [[ -n $(value "$number" IMAGE) ]]; then
    echo "Starting service $(value "$number" ID) from image $(value "$number" IMAGE)"
    (start "$number")
    started+=("$number")
  fi
done
all=
for number in "${started[@]}"; do
  await "$number"
  all+="${all:+, }$(described "$number")"
done
echo "services={$all}" >>"$GITHUB_OUTPUT"

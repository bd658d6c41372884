#!/bin/bash
# Runs a step of a job that itself runs on the machine in a container of its own, with the workspace at its own path.
# What the job adds to the machine's environment goes in, by name.
set -euo pipefail

workspace=$(pwd -P)
files=$(dirname -- "$GITHUB_OUTPUT")
export GITHUB_WORKSPACE=$workspace
arguments=(--rm --name "stand-in-$STAND_IN_MARK-step-$$" --workdir "$workspace")
arguments+=(--volume "$workspace:$workspace" --volume "$files:$files")
while IFS= read -r name; do
  case " $STAND_IN_MACHINE HOME PATH PWD OLDPWD SHLVL _ " in
    *" $name "*) ;;
    *) [[ $name == STAND_IN_* ]] || arguments+=(--env "$name") ;;
  esac
done < <(compgen -e)
[[ -z $STAND_IN_ENTRYPOINT ]] || arguments+=(--entrypoint "$STAND_IN_ENTRYPOINT")
mapfile -t words < <(printf '%s' "$STAND_IN_ARGUMENTS" | xargs -r printf '%s\n')
exec docker run "${arguments[@]}" "$STAND_IN_IMAGE" "${words[@]}"

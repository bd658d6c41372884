# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# Who may run, once more: GitHub gives a job to any runner that has its labels, whoever was meant to have it. So the runner
# asks before the job's first step, by its job-started hook, which is the text of what follows here and of SG_ALLOW*.

# install_hook ROOT: write the hook into the runner's directory, which is the same inside of a container.
install_hook() {
  local root=$1 pair theirs=
  [[ -n ${SG_ALLOW:-} ]] || return 0
  # A hook of the administrator's own comes after ours.
  for pair in "${SG_ENVIRONMENT[@]}"; do
    [[ $pair != ACTIONS_RUNNER_HOOK_JOB_STARTED=* ]] || theirs=${pair#*=}
  done
  {
    declare -p SG_ALLOW SG_ALLOW_FORKS SG_ALLOW_REPOSITORIES SG_ALLOW_BRANCHES SG_ALLOW_EVENTS SG_ALLOW_ACTORS
    declare -f judge_job refuse_job read_pull_request is_among matches_one
    printf 'judge_job\n'
    [[ -z $theirs ]] || printf 'exec bash -e %q\n' "$theirs"
  } >"$root/job-started.sh"
  chmod 0555 "$root/job-started.sh"
}

# judge_job: in the hook; ends the job unless it may run here.
judge_job() {
  local repository=${GITHUB_REPOSITORY:-} event=${GITHUB_EVENT_NAME:-} actor=${GITHUB_ACTOR:-} branch=${GITHUB_REF:-} fork=
  local SG_HEAD='' SG_HEAD_BRANCH=''
  branch=${branch#refs/heads/}
  branch=${branch#refs/tags/}
  if [[ -z $event || $event == pull_request* ]]; then
    # The workflow's text may be the base's (pull_request_target): it was still a pull request that set it going.
    read_pull_request "${GITHUB_EVENT_PATH:-}"
    branch=$SG_HEAD_BRANCH
    [[ -n $repository && ${SG_HEAD,,} == "${repository,,}" ]] || fork=yes
  fi
  ((${#SG_ALLOW_REPOSITORIES[@]} == 0)) || matches_one "${repository,,}" "${SG_ALLOW_REPOSITORIES[@]}" ||
    refuse_job "repository $repository is not among its repositories"
  ((${#SG_ALLOW_EVENTS[@]} == 0)) || is_among "$event" "${SG_ALLOW_EVENTS[@]}" ||
    refuse_job "event $event is not among its events"
  [[ -z $fork || -n $SG_ALLOW_FORKS ]] || refuse_job "it comes from a fork"
  if ((${#SG_ALLOW_BRANCHES[@]} > 0)); then
    [[ -z $fork ]] || refuse_job "its branch is a fork's, and so not among its branches"
    matches_one "$branch" "${SG_ALLOW_BRANCHES[@]}" || refuse_job "branch $branch is not among its branches"
  fi
  ((${#SG_ALLOW_ACTORS[@]} == 0)) || is_among "${actor,,}" "${SG_ALLOW_ACTORS[@]}" ||
    refuse_job "$actor is not among its actors"
  printf 'Pool %s lets this job run.\n' "$SG_ALLOW"
}

# refuse_job TEXT: a failed hook alone would leave steps with "if: always()" to run, so the process that runs steps goes as
# well; the runner then tells GitHub that the job has failed, with what that process said last.
refuse_job() {
  local text="The cluster's pool $SG_ALLOW does not let this job run: $1." pid=$PPID about
  text=${text//[[:cntrl:]]/ }
  printf '::error title=Refused::%s\n' "${text//%/%25}"
  while [[ $pid =~ ^[0-9]+$ ]] && ((pid > 1)); do
    about=$(<"/proc/$pid/stat") 2>/dev/null || break
    if [[ $about == *'(Runner.Worker)'* ]]; then
      printf '%s\n' "$text" >"/proc/$pid/fd/2" || true
      sleep 3 # its last lines are on their way
      kill -KILL "$pid"
      break
    fi
    about=${about##*) }
    about=${about#* }
    pid=${about%% *}
  done 2>/dev/null
  exit 1
}

# read_pull_request FILE: the head of the event's pull request: its repository into SG_HEAD, its branch into SG_HEAD_BRANCH.
# They stay empty unless the payload, as GitHub's JSON, names each once. Texts with an escape in them name nobody.
read_pull_request() {
  local token place='' expected='' heads=0 branches=0 depth=0
  local -a kinds=() keys=()
  [[ -f $1 ]] || return 0
  while IFS= read -r token; do
    case $token in
      '{' | '[')
        kinds[++depth]=$token keys[depth]=
        [[ $token == '{' ]] && expected=key || expected=value
        ;;
      '}' | ']') ((depth > 0)) && depth=$((depth - 1)) expected= ;;
      ',') [[ ${kinds[depth]:-} == '{' ]] && expected=key || expected=value ;;
      ':') expected=value ;;
      *)
        if [[ $expected == key ]]; then
          keys[depth]=$token
        elif ((depth == 3 || depth == 4)); then
          place="${keys[*]:1:depth}"
          if [[ $place == '"pull_request" "head" "repo" "full_name"' ]]; then
            heads=$((heads + 1)) SG_HEAD=${token:1:-1}
          elif [[ $place == '"pull_request" "head" "ref"' ]]; then
            branches=$((branches + 1)) SG_HEAD_BRANCH=${token:1:-1}
          fi
        fi
        ;;
    esac
  done < <(LC_ALL=C grep -aoE '"([^"\\]|\\.)*"|[][{},:]' "$1")
  ((heads == 1)) && [[ $SG_HEAD != *\\* ]] || SG_HEAD=
  ((branches == 1)) && [[ $SG_HEAD_BRANCH != *\\* ]] || SG_HEAD_BRANCH=
}

# is_among TEXT TEXT...
is_among() {
  local text=$1 other
  shift
  for other in "$@"; do
    [[ $text != "$other" ]] || return 0
  done
  return 1
}

# matches_one TEXT EXPRESSION...
matches_one() {
  local text=$1 expression
  shift
  for expression in "$@"; do
    [[ ! $text =~ $expression ]] || return 0
  done
  return 1
}

# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# The runner's JIT configuration: asked of the service, or read from standard input. It goes into SG_JIT.

SG_JIT=
SG_REPORT_TOKEN=
readonly SG_LONGEST_PAUSE=30

# claim: ask until there is an answer that settles it, or SG_CLAIM_PATIENCE seconds are over.
claim() {
  local give_up=$((SECONDS + SG_CLAIM_PATIENCE)) pause=1 wait_for said
  while :; do
    ask_for_claim
    case $SG_HTTP_STATUS in
      200) break ;;
      410)
        say 'the job this runner was for is gone: nothing to do'
        exit 0
        ;;
      403) fail "$SG_EXIT_REFUSED" "the service at $SG_NODE_URL refused the claim of $SG_NAME; its log says why" ;;
      000) said="cannot be reached: ${SG_CURL_ERROR:-no answer}" ;;
      429 | 5??) said="answered with HTTP status $SG_HTTP_STATUS" ;;
      *) fail "$SG_EXIT_REFUSED" "$SG_NODE_URL answered with HTTP status $SG_HTTP_STATUS: is that the service?" ;;
    esac
    ((SECONDS < give_up)) ||
      fail "$SG_EXIT_UNREACHABLE" "the service at $SG_NODE_URL $said; given up after $SG_CLAIM_PATIENCE s"
    # Half to one and a half times the pause, so that nodes do not come back all at once.
    wait_for=$((pause * (500 + RANDOM % 1001)))
    ((SG_RETRY_AFTER * 1000 <= wait_for)) || wait_for=$((SG_RETRY_AFTER * 1000 + RANDOM % 1000))
    pause=$((pause * 2 < SG_LONGEST_PAUSE ? pause * 2 : SG_LONGEST_PAUSE))
    sleep "$((wait_for / 1000)).$(printf '%03d' "$((wait_for % 1000))")" {SG_LOCK}>&- &
    attend "$!" TERM
    end_if_stopped
  done
  SG_SECRET=
  unset -v SG_SECRET
  if [[ ! $SG_HTTP_BODY =~ ^[A-Za-z0-9+/=_-]+$ || ! $SG_HTTP_TOKEN =~ ^[A-Za-z0-9._~+/=-]+$ ]]; then
    fail "$SG_EXIT_REFUSED" "$SG_NODE_URL answered with something that is not a configuration: is that the service?"
  fi
  SG_JIT=$SG_HTTP_BODY
  SG_REPORT_TOKEN=$SG_HTTP_TOKEN
  unset -v SG_HTTP_BODY SG_HTTP_TOKEN
}

# ask_for_claim: one request. Secrets travel in pipes and in the private directory, never in an argument.
ask_for_claim() {
  local answer=$SG_JOB_DIR/answer errors=$SG_JOB_DIR/curl-errors
  curl_config claim "$SG_SECRET" "slurm_job_id=$SG_SLURM_ID" "node=$SG_NODE" |
    call_curl --include --max-time 120 >"$answer" 2>"$errors" {SG_LOCK}>&- &
  attend "$!" TERM
  end_if_stopped
  SG_CURL_ERROR=
  IFS= read -r SG_CURL_ERROR <"$errors" || true
  read_answer <"$answer"
  # An answer that broke off is none.
  [[ $SG_STATUS -eq 0 ]] || SG_HTTP_STATUS=000
  rm -f -- "$answer" "$errors"
}

# call_curl ARGUMENT...: with its configuration on standard input, and without the user's own.
call_curl() {
  local arguments=(--disable --config - --silent --show-error --proto '=http,https' --connect-timeout 10)
  [[ -z $SG_CA_FILE ]] || arguments+=(--cacert "$SG_CA_FILE")
  exec curl "${arguments[@]}" "$@"
}

# curl_config ACTION TOKEN FIELD=VALUE...: a request to the service, as curl reads it.
curl_config() {
  local field
  config_line url "$SG_NODE_URL/v1/runners/$SG_NAME/$1"
  config_line header "Authorization: Bearer $2"
  config_line header 'Expect:'
  shift 2
  for field in "$@"; do
    config_line data-urlencode "$field"
  done
}

config_line() {
  local text=${2//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//[$'\n\r']/ }
  printf '%s = "%s"\n' "$1" "$text"
}

# read_answer: from what curl --include wrote; a status of 1xx is followed by another answer.
read_answer() {
  local line lower headers=yes
  SG_HTTP_STATUS=000 SG_HTTP_BODY='' SG_HTTP_TOKEN='' SG_RETRY_AFTER=0
  while IFS= read -r line || [[ -n $line ]]; do
    line=${line%$'\r'}
    if [[ -z $headers ]]; then
      SG_HTTP_BODY+=$line
      continue
    fi
    lower=${line,,}
    if [[ $line =~ ^HTTP/[0-9.]+\ ([0-9]{3}) ]]; then
      SG_HTTP_STATUS=${BASH_REMATCH[1]}
    elif [[ $lower == x-report-token:* ]]; then
      SG_HTTP_TOKEN=${line#*:}
      SG_HTTP_TOKEN=${SG_HTTP_TOKEN//[[:space:]]/}
    elif [[ $lower =~ ^retry-after:[[:space:]]*([0-9]{1,4})[[:space:]]*$ ]]; then
      SG_RETRY_AFTER=$((10#${BASH_REMATCH[1]}))
    elif [[ -z $line && $SG_HTTP_STATUS != 1?? ]]; then
      headers=
    fi
  done
}

# read_configuration: from standard input, a private file of the service's, which has then served its purpose.
read_configuration() {
  local file
  IFS= read -r SG_JIT || true
  file=$(readlink /proc/self/fd/0) || file=
  exec </dev/null
  if [[ $file == /* && -f $file && -O $file ]]; then
    rm -f -- "$file" 2>/dev/null || { : >"$file"; } 2>/dev/null || true
  fi
  if [[ ! $SG_JIT =~ ^[A-Za-z0-9+/=_-]+$ ]]; then
    fail "$SG_EXIT_NO_INPUT" 'no configuration on standard input: it was taken back, or used by an earlier start'
  fi
}

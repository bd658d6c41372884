#!/usr/bin/env bash
# One share of the counts that are known: shard.sh NUMBER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

case $1 in
  1) pairs=(10 4 100 25 1000 168) ;;
  2) pairs=(2000 303 3000 430 5000 669) ;;
  3) pairs=(10000 1229 20000 2262) ;;
  4) pairs=(50000 5133 100000 9592) ;;
  *)
    echo "no shard $1" >&2
    exit 2
    ;;
esac
for ((index = 0; index < ${#pairs[@]}; index += 2)); do
  ./count.sh "${pairs[index]}" "${pairs[index + 1]}"
done

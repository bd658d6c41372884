#!/usr/bin/env bash
# Is the number of primes up to a limit what it should be? count.sh LIMIT NUMBER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit=$1 expected=$2
found=$(./primes.sh "$limit" | wc -l)
if [[ $found -ne $expected ]]; then
  echo "FAILED: up to $limit there are $expected primes; primes.sh printed $found:" >&2
  ./primes.sh "$limit" | head -5 | sed 's/^/  /' >&2
  exit 1
fi
echo "passed: $found primes up to $limit"

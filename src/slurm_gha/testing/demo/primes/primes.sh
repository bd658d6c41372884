#!/usr/bin/env bash
# Prints the prime numbers up to a limit, one a line, by the sieve of Eratosthenes: primes.sh LIMIT
set -euo pipefail

limit=${1:?"usage: primes.sh LIMIT"}

awk -v limit="$limit" 'BEGIN {
  print 2
  for (number = 3; number <= limit; number += 2) {
    if (number in composite) continue
    print number
    for (multiple = number * number; multiple <= limit; multiple += 2 * number) composite[multiple]
  }
}'

#!/bin/bash
# Runs suites two at a time, the tests of each one after the other: they mostly wait, and a testbed touches nothing outside
# of its own namespaces. What a suite says is shown when it has ended, and what failed once more at the end.
#
#   tests/suites.sh LOGS SUITE...      LOGS is the folder for one file per suite
set -uo pipefail
cd "$(dirname "$0")/.."

logs=$1
shift
rm -rf "$logs"
mkdir -p "$logs"
export logs

one() {
    local begun=$SECONDS
    ${CARGO:-cargo} test --workspace --test "$1" -- --test-threads=1 >"$logs/$1.log" 2>&1
    # One that is cut short has not passed.
    [ $? = 0 ] && touch "$logs/$1.passed"
    # In one piece: another suite may end at the same time.
    flock "$logs" printf '== suite %s, %d s\n%s\n' "$1" $((SECONDS - begun)) "$(cat "$logs/$1.log")"
    return 0
}
export -f one

printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'one {}'

failed=()
for suite in "$@"; do
    [ -e "$logs/$suite.passed" ] || failed+=("$suite")
done
[ ${#failed[@]} = 0 ] && exit
for suite in "${failed[@]}"; do
    echo "== $suite failed"
    grep -A 25 'panicked at' "$logs/$suite.log" | grep -v -e '^ *[0-9]*: ' -e '^ *at ' | head -60 || tail -30 "$logs/$suite.log"
done
echo "suites that failed: ${failed[*]}"
exit 1

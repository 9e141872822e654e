#!/bin/sh
# Runs every fuzz target of the module, one after the other, for a while each:
#   scripts/fuzz.sh 10m [more flags of go test]
# What a target finds stays as a file below its package's testdata/fuzz, which the
# test suite runs from then on.
set -eu
length=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
grep -rno --include='*_test.go' '^func Fuzz[A-Za-z]*' . | sort | while IFS=: read -r file _ declaration; do
	target=${declaration#func }
	package=$(dirname "$file")
	echo "== $package $target"
	{
		"${GO:-go}" test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$length" -fuzzminimizetime 2s -timeout 0 "$@" &&
			echo 0 >"$dir/code" || echo 1 >"$dir/code"
	} 2>&1 | tee "$dir/log"
	# Go may report the end of the time itself as a failure (golang/go#75804). A
	# finding is one that was written down, and anything else that fails is one too.
	if [ "$(cat "$dir/code")" != 0 ]; then
		if grep -q 'Failing input written' "$dir/log" || ! grep -q 'context deadline exceeded' "$dir/log"; then
			exit 1
		fi
	fi
done

#!/bin/bash
# The benchmarks of gpu.py on a machine that has a GPU and no network.
#
#   benchmarks/gpu.sh prepare [PACKAGE...]   download what is compared with, and packages named
#   benchmarks/gpu.sh run OUTPUT             install it there, without a network, and measure
set -eu
cd "$(dirname "$0")/.."
wheels=benchmarks/wheels
most=$((64 * 2**20))

case ${1:-} in
prepare)
    shift
    rm -rf "$wheels"
    python -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" \
        liger-kernel cut-cross-entropy lm-eval==0.4.13 "$@"
    size=$(du -sb "$wheels" | cut -f1)
    echo "$wheels: $size bytes"
    if [ "$size" -gt "$most" ]; then
        echo "more than $most bytes: name fewer packages" >&2
        exit 1
    fi
    ;;
run)
    output=${2:?run needs a new folder for the results}
    if [ -z "$(ls "$wheels" 2>/dev/null)" ]; then
        echo "no wheels in $wheels: gpu.sh prepare first, where there is a network" >&2
        exit 1
    fi
    python -m pip install --quiet --no-deps --no-index "$wheels"/*.whl
    PYTHONPATH=src python benchmarks/gpu.py --output "$output"
    ;;
*)
    echo "usage: gpu.sh prepare [PACKAGE...] | gpu.sh run OUTPUT" >&2
    exit 2
    ;;
esac

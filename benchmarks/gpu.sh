#!/bin/bash
# The benchmarks of gpu.py on a machine that has a GPU and no network.
#
#   benchmarks/gpu.sh prepare [PACKAGE...]   download what is compared with, what an image with torch,
#                                            transformers and peft lacks, and packages named
#   benchmarks/gpu.sh run OUTPUT             install it there, without a network, measure, and pack
#                                            OUTPUT.tar.gz
#
# PYTHON is the interpreter (python3), FOR the version of the other machine's (the same as here).
set -eu
cd "$(dirname "$0")/.."
wheels=benchmarks/wheels
most=$((64 * 2**20))
python=${PYTHON:-python3}
lacking="trl datasets dill multiprocess pydantic pydantic_core annotated-types typing-inspection
         httpx2 httpcore2 truststore"

case ${1:-} in
prepare)
    shift
    rm -rf "$wheels"
    target=${FOR:+--python-version $FOR --platform manylinux_2_28_x86_64
        --platform manylinux2014_x86_64}
    # shellcheck disable=SC2086  # several words each
    "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" \
        -c constraints.txt $target liger-kernel cut-cross-entropy lm-eval==0.4.13 $lacking "$@"
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
    "$python" -m pip install --quiet --no-deps --no-index "$wheels"/*.whl
    status=0
    PYTHONPATH=src "$python" benchmarks/gpu.py --output "$output" || status=$?
    if [ -d "$output" ]; then tar -czf "$output.tar.gz" "$output"; fi
    exit $status
    ;;
*)
    echo "usage: gpu.sh prepare [PACKAGE...] | gpu.sh run OUTPUT" >&2
    exit 2
    ;;
esac

#!/bin/sh
# Fuzz the native engine: ./run.sh [SECONDS] [further libFuzzer options]. Needs clang++ with its libFuzzer.
# Findings and the corpus stay in fuzz-output/, so that a later run goes on from there.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out="$root/fuzz-output"
seconds=${1:-60}
[ $# -gt 0 ] && shift
mkdir -p "$out/corpus"
# Unsigned overflow is meant in hashes; everything else that UBSan knows ends the run.
"${CXX:-clang++}" -std=c++17 -g -O1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
  -fno-sanitize-recover=all -I"$root/llmtool/core/bpe/native" "$root/tests/fuzz/fuzz_engine.cpp" -o "$out/fuzz_engine" -pthread
# The caches are large and zero: small limits would end the run, not find anything.
exec "$out/fuzz_engine" -max_total_time="$seconds" -max_len=2048 -timeout=25 -rss_limit_mb=4096 \
  -dict="$root/tests/fuzz/text.dict" -artifact_prefix="$out/" "$@" "$out/corpus"

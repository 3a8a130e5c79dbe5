#!/bin/sh
# The tests of the engine's Python module with its code under AddressSanitizer: ./asan.sh [pytest's options]. Skipped by
# name where the compiler brings no sanitizer. Leaks are not looked for: an interpreter keeps what it has until it ends.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
cxx=${CXX:-g++}
command -v "$cxx" > /dev/null || { echo "asan skipped: no $cxx"; exit 0; }
runtime=$("$cxx" -print-file-name=libasan.so)
case $runtime in /*) ;; *) echo "asan skipped: $cxx brings no libasan.so"; exit 0 ;; esac
place=$root/build/asan
rm -rf "$place"
mkdir -p "$place"
cp -r "$root/llmtool" "$place/llmtool"
ask() { "$python" -c "import nanobind, sysconfig; print($1)"; }
nanobind=$(ask 'nanobind.__path__[0]')
"$cxx" -std=c++17 -O1 -g -fno-omit-frame-pointer -fsanitize=address -shared -fPIC -fvisibility=hidden -fno-strict-aliasing \
  -I"$(ask 'sysconfig.get_path("include")')" -I"$nanobind/include" -I"$nanobind/ext/robin_map/include" \
  "$nanobind/src/nb_combined.cpp" "$root/llmtool/core/bpe/native/module.cpp" -pthread \
  -o "$place/llmtool/core/bpe/_engine$(ask 'sysconfig.get_config_var("EXT_SUFFIX")')"
# Both libraries, or the sanitizer does not know how to throw; -S and -P, or the engine of the environment were loaded.
cd "$root"
packages=$("$python" -c 'import os, sys; print(os.pathsep.join(path for path in sys.path if path.endswith("site-packages")))')
[ $# -gt 0 ] || set -- tests/core/bpe/test_engine.py tests/core/bpe/test_counting.py -k "spill or refused or limits or states or buffers or beyond"
LD_PRELOAD="$runtime $("$cxx" -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc PYTHONPATH=$place:$packages \
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 exec "$python" -S -P -c '
import sys
import pytest
from llmtool.core.bpe import _engine
assert "build/asan" in _engine.__file__, _engine.__file__
sys.exit(pytest.main(["-q", "-o", "addopts=--strict-markers", *sys.argv[1:]]))
' "$@"

#!/bin/sh
# SPDX-License-Identifier: MIT
# From a fresh Debian 12 (or Ubuntu) to a result. Run from anywhere:
#   sh cmake/bootstrap.sh deps    install what the build needs (asks for nothing; uses sudo unless root)
#   sh cmake/bootstrap.sh demo    build and run the demonstration; downloads no model
#   sh cmake/bootstrap.sh test    build preset release and run all its tests
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
jobs=$(nproc 2>/dev/null || echo 2)

# What every build needs, and what the sanitizer, clang and ARM builds of .ci/run need besides.
packages="cmake ninja-build g++ pkg-config libxsimd-dev libeigen3-dev nlohmann-json3-dev libpcre2-dev libcli11-dev
libxxhash-dev libhiredis-dev redis-server libutf8proc-dev catch2 libbenchmark-dev"
more_packages="clang libclang-rt-14-dev qemu-user g++-aarch64-linux-gnu"

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_missing PACKAGE...: leaves apt alone when there is nothing to do, so that it works offline on a ready machine.
install_missing() {
  missing=""
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || {
    echo "bootstrap: these packages are missing and there is no apt-get:$missing" >&2
    exit 1
  }
  echo "bootstrap: installing$missing"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

configure() {
  # shellcheck disable=SC2086
  install_missing $packages
  cd "$root"
  cmake --preset "$@"
}

case "${1-}" in
  deps)
    # shellcheck disable=SC2086
    install_missing $packages $more_packages
    ;;
  demo)
    configure release
    cmake --build --preset release --target blockattn_cli -j "$jobs"
    data=$root/examples/data
    exec "$root/build/release/examples/cli/blockattn" demo --model "$data/village.gguf" --passages "$data/village.jsonl" \
      --questions "$data/village_questions.txt" --edit "Mira lives in Ripley=Mira lives in Dale"
    ;;
  test)
    configure release -DBLOCKATTN_TESTS_AT_ONCE=ON
    cmake --build --preset release -j "$jobs"
    ctest --preset release
    ;;
  *)
    echo "usage: sh cmake/bootstrap.sh deps|demo|test" >&2
    exit 2
    ;;
esac

#!/bin/bash
# Make .venv with everything in requirements.lock. Called by the Makefile; needs nothing but a Python.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*"; }

find_python() {
    local candidate found
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        found=$(command -v "$candidate" 2>/dev/null) || continue
        if "$found" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$found"
            return
        fi
    done
    say "Windlass needs Python 3.11 or newer, and none was found." >&2
    say "Install one (Debian: apt-get install python3 python3-venv), or name it: make up PYTHON=/path/to/python3.11" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        printf 'env'
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        printf 'sudo -n env'
    fi
}

# apt_install PACKAGE...: quietly, and only where nobody has to be asked. Fails where that is not possible.
apt_install() {
    local root
    root=$(as_root)
    [ -n "$root" ] && command -v apt-get >/dev/null || return 1
    say "      installing $* with apt-get"
    local install=($root DEBIAN_FRONTEND=noninteractive timeout 180 apt-get install -y -q --no-install-recommends "$@")
    "${install[@]}" >/dev/null 2>&1 && return
    $root timeout 180 apt-get update -q >/dev/null 2>&1 && "${install[@]}" >/dev/null 2>&1
}

system_packages() {
    if ! command -v bwrap >/dev/null && ! apt_install bubblewrap; then
        say "      bubblewrap is missing and could not be installed here. Without it this machine cannot isolate"
        say "      uploaded scripts: they are refused, and the built-in recipes run without a cage."
        say "      Later: apt-get install bubblewrap (as root), then start again."
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        if ! apt_install "$package"; then
            say "This Python cannot make virtual environments. Install $package (as root): apt-get install $package" >&2
            exit 1
        fi
    fi
}

# Show every few seconds how far pip is: it says nothing by itself while it unpacks a gigabyte.
follow_pip() {
    local pid=$1 log=$2 begun=$SECONDS total collected installed line last=""
    total=$(grep -c '==' requirements.lock)
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        [ $(((SECONDS - begun) % 4)) = 0 ] || continue
        collected=$(grep -c '^Collecting' "$log" || true)
        if grep -q '^Installing collected packages' "$log"; then
            installed=$(find .venv/lib/python3*/site-packages -maxdepth 1 -name '*.dist-info' -not -name 'pip-*' \
                2>/dev/null | wc -l)
            line="unpacked $installed of $total packages"
        else
            line="fetched $collected of $total packages"
        fi
        [ "$line" = "$last" ] || say "      $line ($((SECONDS - begun)) s)"
        last=$line
    done
}

python=$(find_python)
say "Setting up Windlass (only now, and when requirements.lock has changed)"
say "[1/3] What the system must have"
system_packages
if ! .venv/bin/python -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "[2/3] A virtual environment in .venv, with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
else
    say "[2/3] The virtual environment in .venv is there"
fi
say "[3/3] The packages of requirements.lock, with pip"
log=.venv/install.log
.venv/bin/python -m pip install --progress-bar off --disable-pip-version-check --no-input --no-compile \
    -r requirements.lock >"$log" 2>&1 &
pip=$!
trap 'kill $pip 2>/dev/null || true' EXIT
follow_pip "$pip" "$log"
if ! wait "$pip"; then
    say "pip could not install the packages. The end of $log:" >&2
    tail -n 15 "$log" >&2
    say "If this machine cannot reach the package index, give pip another one, for example in PIP_INDEX_URL." >&2
    exit 1
fi
trap - EXIT
say "      compiling them"
# on every core, which pip would do on one; some packages carry files for other Pythons, so its result does not matter
.venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
cp requirements.lock .venv/installed.lock

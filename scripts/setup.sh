#!/bin/sh
# Set-up for the Makefile.
#   setup.sh venv   make .venv with the pinned versions of constraints.txt, or do nothing when it is up to date
#   setup.sh data   have Fashion-MNIST installed where the system's packages can be installed, or say that it is missing
#
# The stamp is written last, so an interrupted set-up is never mistaken for a finished one.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONHOME PYTHONPATH

STAMP=.venv/.stamp
UNFINISHED=.venv/.unfinished
NO_DATA=.venv/.no-fashion-mnist
DATA=/usr/share/datasets/fashion-mnist

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# One set-up at a time: a second make waits for the first and then finds nothing left to do.
lock() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9<scripts/setup.sh
    flock 9 || true
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif sudo -n true >/dev/null 2>&1; then
        as_root="sudo -n"
    else
        return 1
    fi
    # shellcheck disable=SC2086  # as_root is no word at all when already root
    for update in false true; do
        if $update; then
            timeout 300 $as_root apt-get -qq update >/dev/null 2>&1 </dev/null || return 1
        fi
        if timeout 600 $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
            -o DPkg::Lock::Timeout=60 install "$@" >/dev/null 2>&1 </dev/null; then
            return 0
        fi
    done
    return 1
}

# Versions for which every pinned package has a wheel. The name found may be a shim that does not run.
runs() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    without_venv=""
    for python in python3.14 python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        runs "$python" || continue
        has_venv "$python" && return 0
        without_venv=${without_venv:-$python}
    done
    [ -n "$without_venv" ] || die "equikernel needs Python 3.11 to 3.14, but no python3 found here is one:" \
        "install one (on Debian or Ubuntu: apt-get install python3 python3-venv) and run make again."
    python=$without_venv
    package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    say "Installing $package ..."
    if ! apt_install "$package" || ! has_venv "$python"; then
        die "$python cannot make virtual environments and $package could not be installed:" \
            "run 'apt-get install $package' as root and then make again."
    fi
}

# What the environment was made from: where it stands, and the files that say what belongs in it.
key() {
    pwd
    cat pyproject.toml constraints.txt | cksum
}

up_to_date() {
    [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(key)" ] && .venv/bin/python -c '' >/dev/null 2>&1
}

# An environment that is sound and stands where it was made is brought up to date in place.
reusable() {
    [ ! -e "$UNFINISHED" ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || return 1
    [ ! -f "$STAMP" ] || [ "$(head -n 1 "$STAMP")" = "$(pwd)" ]
}

pip_install() {
    if [ -t 1 ]; then quiet=""; else quiet="-q"; fi
    # shellcheck disable=SC2086  # no word at all on a terminal, where pip's progress is welcome
    .venv/bin/python -m pip install $quiet --no-input --disable-pip-version-check -c constraints.txt "$@" ||
        die "The packages could not be installed (pip says why above): mend that and run make again."
}

make_venv() {
    up_to_date && return 0
    lock
    up_to_date && return 0
    if reusable; then
        say "Bringing .venv up to date ..."
        : >"$UNFINISHED"
    else
        find_python
        say "Setting up .venv with $("$python" -V) (once; a few minutes) ..."
        rm -rf .venv
        mkdir .venv
        : >"$UNFINISHED"
        "$python" -m venv .venv || die "$python could not make a virtual environment in .venv (its message is above)."
    fi
    rm -f "$STAMP"
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        pip_install --extra-index-url "$TORCH_INDEX_URL" torch
    fi
    pip_install -e '.[all]'
    key >"$STAMP.new"
    rm -f "$UNFINISHED"
    mv "$STAMP.new" "$STAMP"
}

# Tried once for each .venv: a machine without it should not be asked again at every report.
have_data() {
    [ -d "$DATA" ] && return 0
    if [ ! -e "$NO_DATA" ]; then
        # only as root already: nobody expects a report to change the system through sudo
        [ "$(id -u)" = 0 ] && apt_install dataset-fashion-mnist && [ -d "$DATA" ] && return 0
        : >"$NO_DATA"
    fi
    say "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist); the report goes on without it."
}

case "${1:-}" in
    venv) make_venv ;;
    data) have_data ;;
    *) die "usage: scripts/setup.sh venv|data" ;;
esac

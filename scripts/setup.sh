# Sourced by scripts/kdx and scripts/test: sets ROOT (the repository) and VENV (its environment), which it builds when
# there is none or when pyproject.toml has changed. A second call only compares a stamp.
#   KDX_VENV        another place for the environment
#   KDX_EXTRA       which extra of pyproject.toml goes in: dev, or dev-all (scripts/test --all)
#   KDX_RESOLUTION  lowest-direct: the oldest versions that pyproject.toml allows (scripts/test --lowest)
#   KDX_NO_SETUP    set: build nothing, exit 1 (shell completion asks for this)
# Everything that is said goes to stderr: stdout belongs to the command.

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
VENV=${KDX_VENV:-$ROOT/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
EXTRA=${KDX_EXTRA:-dev}

kdx_die() {
    printf 'kdx: %s\n' "$@" >&2
    exit 1
}

# What the environment was made from. The path of the Python behind it holds its version, and costs no start of Python.
kdx_origin() { printf '%s\n' "$ROOT" "$VENV" "$(readlink -f "$VENV/bin/python")"; }
kdx_stamp() { printf '%s\n' "set-up 1, with $1${KDX_RESOLUTION:+, $KDX_RESOLUTION}" "$(kdx_origin)" "$(<"$ROOT/pyproject.toml")"; }
kdx_ready() { # dev-all has all that dev has
    local found
    [[ -x $VENV/bin/kdx && -f $VENV/.kdx-stamp ]] && found=$(<"$VENV/.kdx-stamp") || return
    [[ $found == "$(kdx_stamp "$EXTRA")" || $found == "$(kdx_stamp dev-all)" ]]
}
kdx_runs() { [[ -x $1 ]] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The first Python of version 3.11 or later, preferring the one that the user calls python3.
kdx_python() {
    local name path
    for name in python3 python3.13 python3.12 python3.11; do
        path=$(command -v "$name") && kdx_runs "$path" || continue
        [[ $path != "$VENV"/* ]] || path=$(readlink -f "$path") # it is activated, and may be about to go
        echo "$path"
        return
    done
    command -v uv >/dev/null && path=$(uv python find '>=3.11' 2>/dev/null) && kdx_runs "$path" && echo "$path"
}

# Held on descriptor 9 until this shell lets go of it. Locked by Python, as not every system has the command `flock`.
kdx_lock() {
    exec 9>>"$VENV/.kdx-lock"
    "$1" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("kdx: another set-up is at work in", sys.argv[1], "- waiting for it", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
' "$VENV"
}

kdx_create() {
    if command -v uv >/dev/null; then
        uv venv --quiet --allow-existing --seed --python "$1" "$VENV" && return
    fi
    "$1" -m venv "$VENV"
}

kdx_install() {
    local pip=("$VENV/bin/python" -m pip install --disable-pip-version-check)
    export PIP_USER=0
    cd "$ROOT" || return
    if [[ -z ${KDX_RESOLUTION:-} ]] && command -v uv >/dev/null; then
        uv pip install --python "$VENV/bin/python" --editable ".[$EXTRA]" && return
        echo "uv could not install; trying pip"
    fi
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip --upgrade
    if [[ -n ${KDX_RESOLUTION:-} ]]; then # which pip cannot do: uv does, from here or from the environment itself
        local uv=(uv)
        command -v uv >/dev/null || { "${pip[@]}" --target "$VENV/.uv" uv && uv=("$VENV/.uv/bin/uv"); } || return
        "${uv[@]}" pip install --python "$VENV/bin/python" --editable ".[$EXTRA]" --resolution "$KDX_RESOLUTION"
        return
    fi
    "${pip[@]}" --editable ".[$EXTRA]"
}

# Keeps all that the installers print in the log, and shows the lines that tell how far they are.
kdx_show() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line"
        if [[ $line =~ ^(Collecting|Processing|Downloading|Prepared|Install|ERROR|error) ]]; then printf '  %s\n' "${line:0:100}" >&2; fi
    done >"$1"
}

# One plain sentence for what usually goes wrong, from what was printed.
kdx_explain() {
    local log=$VENV/.kdx-setup.log
    local offline='name resolution|(could not|failed to) resolve|dns error|NewConnectionError|error sending request|timed out'
    offline+='|connection (refused|error|reset)|unreachable|proxy'
    if grep -qiE 'ensurepip is not|No module named (venv|ensurepip)' "$log"; then
        kdx_die "this Python has no venv module: install it (Debian, Ubuntu: apt install python3-venv) or install uv, then try again"
    elif grep -qiE 'No space left|disk quota' "$log"; then
        kdx_die "no space is left for the environment in $VENV: it takes about 7 GB; free some, or set KDX_VENV to another place"
    elif grep -qiE "$offline" "$log"; then
        rm -f "$VENV/.kdx-installing" # nothing was touched yet: an environment that works is not thrown away for being offline
        kdx_die "the packages could not be downloaded: the first set-up needs a network that reaches the Python package index"
    fi
    kdx_die "the set-up failed; its last lines:" "$(tail -n 5 "$log")" "all of them are in $log"
}

kdx_build() {
    local python strange marks=$VENV/.kdx
    [[ -z ${KDX_NO_SETUP:-} ]] || exit 1
    if ! python=$(kdx_python); then
        python=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null || echo missing)
        kdx_die "Python 3.11 or later is needed; python3 here is $python"
    fi
    # Listed before the lock is looked for: another set-up makes its lock first, so what it has made since is not taken for somebody's.
    strange=$(ls -A "$VENV" 2>/dev/null | grep -v '^\.kdx') || strange=
    if [[ -n $strange && ! -e $VENV/pyvenv.cfg && ! -e $marks-lock ]]; then
        kdx_die "$VENV has files in it and is no Python environment: empty it, or set KDX_VENV to another place"
    fi
    mkdir -p "$VENV" 2>/dev/null && [[ -w $VENV ]] ||
        kdx_die "the environment cannot be made in $VENV: set KDX_VENV to a folder that can be written"
    trap 'echo "kdx: the set-up was interrupted; the next call does it again" >&2; exit 130' INT TERM
    kdx_lock "$python" || kdx_die "the lock $marks-lock could not be taken"

    if ! kdx_ready; then # it may be by now: another set-up held the lock
        # What we made is thrown away if it is half-made, was made elsewhere or its Python is gone. What somebody else
        # made is used as it is.
        if [[ -e $marks-made ]]; then
            if [[ -e $marks-installing || $(cat "$marks-origin" 2>/dev/null) != "$(kdx_origin)" ]] || ! kdx_runs "$VENV/bin/python"; then
                find "$VENV" -mindepth 1 -maxdepth 1 ! -name .kdx-lock ! -name .kdx-made -exec rm -rf {} +
            fi
        elif [[ -e $VENV/pyvenv.cfg ]] && ! kdx_runs "$VENV/bin/python"; then
            kdx_die "$VENV is an environment without a working Python 3.11 or later: remove it, or set KDX_VENV to another place"
        else
            [[ -e $VENV/pyvenv.cfg ]] || : >"$marks-made"
        fi
        rm -f "$marks-stamp"
        : >"$marks-installing"
        echo "kdx: setting up its environment in $VENV, once; PyTorch is a download of up to 3 GB" >&2
        if [[ ! -e $VENV/pyvenv.cfg ]]; then
            kdx_create "$python" 2>&1 | kdx_show "$marks-setup.log" || kdx_explain
        fi
        kdx_install 2>&1 | kdx_show "$marks-setup.log" || kdx_explain
        kdx_origin >"$marks-origin"
        rm -f "$marks-installing"
        kdx_stamp "$EXTRA" >"$marks-stamp.new"
        mv "$marks-stamp.new" "$marks-stamp"
        echo "kdx: the environment is ready" >&2
    fi
    exec 9>&-
    trap - INT TERM
}

kdx_ready || kdx_build

# For scripts that run in the lab guest: `. /lab/lib.sh`.
set -u
note() { echo "## [$(cut -d' ' -f1 /proc/uptime)s] $*"; }
fail() { echo "FAIL: $*"; exit 1; }
# check WHAT COMMAND...: runs the command and fails the script if it fails.
check() { local w=$1; shift; if "$@"; then echo "ok: $w"; else fail "$w: $*"; fi; }
# refuse WHAT COMMAND...: the command must fail.
refuse() { local w=$1; shift; if "$@" > /tmp/refuse.out 2>&1; then fail "$w: did not fail: $*"; else echo "ok: refused: $w"; fi; }
# until_true SECONDS COMMAND...: repeats the command until it succeeds.
until_true() {
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}

# crash: the guest is gone at once, its connections without a word.
# Give the status that the script is to have (default 0).
crash() { echo "${1:-0}" > /lab/status; sync /lab; echo b > /proc/sysrq-trigger; }

# host ARG...: has `guest -H CMD` run CMD ARG... outside, with its output and status.
host() {
    local r; r=/lab/req/$$.$RANDOM$RANDOM
    printf '%s\0' "$@" > $r; : > $r.go
    until [ -e $r.rc ]; do sleep 0.1; done
    cat $r.out; return "$(cat $r.rc)"
}

# iscsi_login IQN PORTAL [SETTING=VALUE...]: makes the node record, sets
# settings (such as node.session.auth.authmethod=CHAP), logs in.
iscsi_login() {
    local iqn=$1 portal=$2 s; shift 2
    iscsiadm -m node -T "$iqn" -p "$portal" > /dev/null 2>&1 ||
        iscsiadm -m node -T "$iqn" -p "$portal" -o new > /dev/null || return
    for s in "$@"; do
        iscsiadm -m node -T "$iqn" -p "$portal" -o update -n "${s%%=*}" -v "${s#*=}" || return
    done
    iscsiadm -m node -T "$iqn" -p "$portal" --login
}
iscsi_logout() { iscsiadm -m node -T "$1" --logout; }
# iscsi_disks IQN [LUN]: the disks that sessions to IQN have (default LUN 1).
iscsi_disks() {
    local s h d
    for s in /sys/class/iscsi_session/session*; do
        [ "$(cat "$s/targetname" 2>/dev/null)" = "$1" ] || continue
        for d in "$s"/device/target*/*:"${2:-1}"/block/*; do [ -e "$d" ] && echo "/dev/${d##*/}"; done
    done
}
# iscsi_disk IQN [LUN]: waits for the first of them and prints it.
iscsi_disk() {
    local n d
    for ((n = 0; n < 150; n++)); do
        d=$(iscsi_disks "$@" | head -1)
        [ -n "$d" ] && [ -b "$d" ] && { udevadm settle -t 10; echo "$d"; return; }
        sleep 0.2
    done
    return 1
}

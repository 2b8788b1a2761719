# multipath.sh IQN LUN SECONDS PORTAL PORTAL...   (destroys the LUN's data)
# One dm-multipath map over all portals; fio writes and verifies over it while
# one path after the other goes away for some seconds and comes back:
# `host path-down N`, `host path-up N`. Two paths are drained in turn before
# that: `host drain N`, `host resume N`.
. /lab/lib.sh
iqn=$1 lun=$2 secs=$3; shift 3
paths=$# portals=("$@")
start_multipathd ' path_grouping_policy group_by_prio
 failback immediate
 no_path_retry 30' || fail multipathd
for p; do
    iscsi_login "$iqn" "$p" 'node.conn[0].timeo.noop_out_interval=1' \
        'node.conn[0].timeo.noop_out_timeout=2' node.session.timeo.replacement_timeout=3 > /dev/null ||
        fail "login at $p"
done
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
until_true 20 eval "[ \$(iscsi_disks $iqn $lun | wc -l) = $paths ]" || fail "not $paths disks"
find_map() {
    local d; d=$(iscsi_disks "$iqn" "$lun" | head -1)
    map=$(multipathd show paths raw format "%d %m" 2>/dev/null | awk -v d="${d##*/}" '$1 == d && $2 !~ /orphan/ {print $2}')
    [ -n "$map" ] && [ -b "/dev/mapper/$map" ]
}
until_true 20 find_map || { multipathd show paths; fail "no multipath map over $disk"; }
find_map
active() { multipathd show paths raw format "%d %m %t" | awk -v m="$map" '$2 == m && $3 ~ /^active/' | wc -l; }
until_true 20 eval "[ \$(active) = $paths ]" || { multipath -ll; fail "not $paths active paths"; }
multipath -ll
multipath -ll | grep -q 'prio=50' || fail "the paths have no priority of asymmetric access"
note "fio over /dev/mapper/$map, $paths paths"
fio --name=verify --filename="/dev/mapper/$map" --size=$((secs * 2))M --rate=2m --bs=16k \
    --rw=randwrite --direct=1 --ioengine=libaio --iodepth=4 --verify=crc32c --verify_fatal=1 \
    --do_verify=1 --output=/tmp/fio.out &
fio=$!
# drain N: the session leaves the portal, and logs in where it is sent; put back, it is made anew where it was.
drain() {
    local portal=${portals[$1]}
    note "draining $portal"
    host drain "$1" || fail "host drain"
    at "$portal" && fail "a session is still at $portal"
    until_true 30 eval "[ \$(active) = $paths ]" || { multipath -ll; fail "$portal drained: not $paths paths"; }
    host resume "$1" || fail "host resume"
    iscsiadm -m node -T "$iqn" -p "$portal" --logout > /dev/null && iscsiadm -m node -T "$iqn" -p "$portal" --login > /dev/null ||
        fail "logging in anew at $portal"
    at "$portal" || fail "no session at $portal"
    until_true 30 eval "[ \$(active) = $paths ]" || { multipath -ll; fail "$portal back: not $paths paths"; }
}
at() { cat /sys/class/iscsi_connection/connection*/address 2> /dev/null | grep -qFx "$1"; }
cuts=0 end=$((SECONDS + secs))
sleep 2
if [ "$paths" = 2 ]; then drain 1; drain 0; fi
while [ $SECONDS -lt $end ]; do
    path=$((cuts % paths))
    host path-down $path || fail "host path-down"
    until_true 30 eval "[ \$(active) = $((paths - 1)) ]" || { multipath -ll; fail "path $path was not seen to fail"; }
    sleep 1
    host path-up $path || fail "host path-up"
    until_true 60 eval "[ \$(active) = $paths ]" || { multipath -ll; fail "path $path did not come back"; }
    cuts=$((cuts + 1))
done
check "fio's writes and verification, with $cuts cuts" wait $fio
grep -E 'err=' /tmp/fio.out
dmesg | grep -iE 'dm-[0-9]+.*I/O error|Buffer I/O error on dev dm' && fail "the map saw an I/O error"
multipath -f "$map" || { sleep 1; multipath -f "$map"; }
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS multipath"

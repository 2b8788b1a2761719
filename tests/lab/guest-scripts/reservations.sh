# reservations.sh PORTAL IQN LUN ROLE   (ROLE a or b; writes to the LUN)
# Two guests fight over one LUN: all reservation types, fencing under write
# load, and a reservation that outlives the target's process. `host meet NAME`
# waits until both guests are there, `host crash` kills the target and starts
# it again.
. /lab/lib.sh
portal=$1 iqn=$2 lun=$3 me=$4
iscsi_login "$iqn" "$portal" node.session.timeo.replacement_timeout=60 > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
key=0xa1; [ "$me" = a ] || key=0xb1
meet() { host meet "$1" > /dev/null || fail "the other guest did not come to $1"; }
# (TEST UNIT READY first takes what unit attentions there are.)
ready() { local n; for n in 1 2 3 4 5 6; do sg_turs "$disk" > /dev/null 2>&1 && return; done; return 1; }
pr() { ready; sg_persist -n "$@" -d "$disk"; }
write() { ready; dd if=/dev/zero of="$disk" bs=4096 count=1 seek=${1:-0} oflag=direct conv=notrunc status=none; }
read1() { ready; dd if="$disk" of=/dev/null bs=4096 count=1 iflag=direct status=none; }
keys() { pr -i -k | grep -oE '0x[0-9a-f]+$' | sort | tr '\n' ' '; }
sees() { [ "$(keys)" = "$1" ] || fail "keys: $(keys), not $1"; }
# may VERB yes|no WHAT: the verb must succeed, or must be refused.
may() { if [ "$2" = yes ]; then check "$3" "$1"; else refuse "$3" "$1"; fi; }

# For a host that is not registered and one that is: reads, writes.
declare -A other=([1]="yes no" [3]="no no" [5]="yes no" [6]="no no" [7]="yes no" [8]="no no")
declare -A registrant=([1]="yes no" [3]="no no" [5]="yes yes" [6]="yes yes" [7]="yes yes" [8]="yes yes")
for type in 1 3 5 6 7 8; do
    if [ "$me" = a ]; then
        check "type $type: a registers" pr -o -I -S $key
        check "type $type: a reserves" pr -o -R -K $key -T $type
        check "type $type: a reads the reservation" eval "pr -i -r | grep -q LU_SCOPE"
        check "type $type: the holder writes" write
        meet "reserved-$type"; meet "tried-$type"; meet "registered-$type"
        check "type $type: a releases" pr -o -L -K $key -T $type
        meet "released-$type"
        check "type $type: a clears" pr -o -C -K $key
        meet "cleared-$type"
    else
        meet "reserved-$type"
        set -- ${other[$type]}
        may read1 "$1" "type $type: b, not registered, reads"
        may write "$2" "type $type: b, not registered, writes"
        meet "tried-$type"
        check "type $type: b registers" pr -o -I -S $key
        set -- ${registrant[$type]}
        may read1 "$1" "type $type: b, registered, reads"
        may write "$2" "type $type: b, registered, writes"
        meet "registered-$type"; meet "released-$type"
        check "type $type: b writes when it is released" write
        meet "cleared-$type"
    fi
done

note "fencing under write load"
pattern() { tr '\0' "$1" < /dev/zero | head -c $((16 << 20)); }
if [ "$me" = a ]; then
    check "a registers" pr -o -I -S $key
    check "a reserves for registrants" pr -o -R -K $key -T 5
    meet fence-ready
    fio --name=load --filename="$disk" --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 \
        --size=16M --time_based --runtime=60 --buffer_pattern='"A"' --output=/tmp/fio.out &
    fio=$!
    sleep 3
    kill -0 $fio 2> /dev/null || { cat /tmp/fio.out; fail "the load did not run"; }
    meet fence-now
    wait $fio && fail "a's load ended well although a was fenced"
    echo "ok: a's load ended with an error"
    refuse "a, fenced, writes" write
    meet fence-looked
    check "a comes back as a registrant" pr -o -I -S $key
    check "a writes again" write
    meet fence-over
else
    meet fence-ready
    check "b registers" pr -o -I -S $key
    meet fence-now
    check "b preempts and aborts a" pr -o -A -K $key -S 0xa1 -T 5
    pattern B | dd of="$disk" bs=1M oflag=direct conv=notrunc iflag=fullblock status=none || fail "b, the new owner, cannot write"
    sleep 3
    echo 3 > /proc/sys/vm/drop_caches
    dd if="$disk" bs=1M count=16 iflag=direct status=none | cmp - <(pattern B) || fail "a write of a landed after it was fenced"
    echo "ok: nothing of a landed after it was fenced"
    sees "0xb1 "
    meet fence-looked; meet fence-over
    check "b clears" pr -o -C -K $key
fi
meet fenced

note "the target dies and comes back"
if [ "$me" = a ]; then
    check "a registers, to last" pr -o -I -S $key -Z
    check "a reserves, to last" pr -o -R -K $key -T 5
    meet lasting
    host crash > /dev/null || fail "host crash"
    until_true 60 ready || fail "no target after the crash"
    sees "0xa1 "
    check "the reservation is still there" eval "pr -i -r | grep -q 'Key=0xa1'"
    check "the holder writes" write
    meet back; meet refused
    check "a clears" pr -o -C -K $key
    meet cleared
else
    meet lasting; meet back
    until_true 60 ready || fail "no target after the crash"
    refuse "b, not registered, writes" write
    meet refused; meet cleared
    check "b writes" write
fi
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS reservations"

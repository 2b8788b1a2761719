# reservations.sh PORTAL IQN LUN ROLE   (ROLE a or b; writes to the LUN)
# Two guests fight over one LUN: all reservation types, a takeover by Debian's
# fence_scsi under load, a reservation that outlives the target. `host meet NAME`
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

note "b takes over from a as fence_scsi does it, with a file system under load"
image() { echo 3 > /proc/sys/vm/drop_caches; dd if="$disk" bs=1M count=64 iflag=direct status=none | sha256sum; }
if [ "$me" = a ]; then
    check "a is unfenced" fence_scsi -o on -k a1 -d "$disk"
    check "a holds the reservation, for registrants" eval "pr -i -r | grep -q 'Key=0xa1'"
    # Whoever comes first reserves.
    meet fence-held; meet fence-ready
    # What is aborted is never answered; the kernel is not to wait half a minute for it.
    echo 6 > "/sys/block/${disk##*/}/device/timeout"
    mkfs.ext4 -q -F "$disk" 64M && mount "$disk" /mnt || fail "mkfs, mount"
    head -c 4000000 /dev/urandom > /mnt/kept && (cd /mnt && sha256sum kept > sum) && sync || fail "write"
    fio --name=load --directory=/mnt --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --fsync=200 \
        --size=16M --time_based --runtime=120 --output=/tmp/fio.out &
    fio=$!
    until_true 30 eval '[ "$(stat -c %b /mnt/load.0.0)" -gt 8000 ]' || fail "no load"
    sleep 2
    kill -0 $fio 2> /dev/null || { cat /tmp/fio.out; fail "the load did not run"; }
    meet fence-now
    wait $fio && fail "a's load ended well although a was fenced"
    echo "ok: a's load ended with an error"
    check "the kernel was told of a reservation conflict" eval "dmesg | grep -q 'reservation conflict'"
    refuse "a, fenced, writes" write
    umount /mnt
    meet fence-looked
    check "a is unfenced again" fence_scsi -o on -k a1 -d "$disk"
    check "a writes again" write 20000
    meet fence-over
else
    meet fence-held
    check "b is unfenced" fence_scsi -o on -k b1 -d "$disk"
    meet fence-ready; meet fence-now
    check "b fences a" fence_scsi -o off -k a1 -d "$disk"
    check "b holds the reservation" eval "pr -i -r | grep -q 'Key=0xb1'"
    sees "0xb1 "
    # For as long as a's kernel tries again.
    before=$(image); sleep 9
    [ "$(image)" = "$before" ] || fail "a write of a landed after it was fenced"
    echo "ok: nothing of a landed after it was fenced"
    e2fsck -fp "$disk" > /tmp/fsck.out || [ $? = 1 ] || { cat /tmp/fsck.out; fail "the file system cannot be recovered"; }
    mount "$disk" /mnt || fail mount
    check "what a had made durable is whole" eval "cd /mnt && sha256sum --quiet -c sum"
    umount /mnt
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

# sanitize.sh PORTAL IQN [LUN]   (sanitizes the LUN)
# sg_sanitize by BLOCK ERASE and by OVERWRITE, and what a host hears meanwhile.
. /lab/lib.sh
portal=$1 iqn=$2 lun=${3:-1}
iscsi_login "$iqn" "$portal" > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
bytes=$(blockdev --getsize64 "$disk")
last=$((bytes / 1048576 - 8))
at() { dd if="$disk" bs=1M skip="$1" count=8 iflag=direct status=none; }
head -c 8388608 /dev/urandom > /tmp/data
fill() { for place in 0 $last; do dd if=/tmp/data of="$disk" bs=1M seek=$place oflag=direct conv=notrunc status=none; done; }

note "BLOCK ERASE"
fill || fail "cannot write"
check "the service actions are reported" eval "sg_opcodes $disk | tee /dev/stderr | grep -ci sanitize | grep -qx 3"
check "sg_sanitize --block" sg_sanitize --block --wait --quick "$disk"
for place in 0 $last; do at $place | cmp -n 8388608 - /dev/zero || fail "something is left at $place MiB"; done
check "nothing is mapped" eval "sg_get_lba_status --lba=0 $disk | tee /dev/stderr | grep -q deallocated"

note "OVERWRITE"
fill || fail "cannot write after BLOCK ERASE"
printf gone > /tmp/pattern
check "sg_sanitize --overwrite" sg_sanitize --overwrite --early --quick --pattern=/tmp/pattern --ipl=4 "$disk"
seen=0
while sg_requests "$disk" > /tmp/sense 2>&1; grep -qi 'sanitize in progress' /tmp/sense; do
    grep -i 'progress indication' /tmp/sense && seen=$((seen + 1))
    refused=$(sg_turs "$disk" 2>&1) && [ -z "$refused" ] && break
    sleep 0.2
done
[ $seen -gt 0 ] || fail "sg_requests told of no progress: $(cat /tmp/sense)"
echo "ok: told $seen times how far it was"
sg_turs "$disk" > /dev/null 2>&1
check "ready afterwards" sg_turs "$disk"
yes gone | tr -d '\n' | head -c 8388608 > /tmp/overwritten
for place in 0 $last; do at $place | cmp - /tmp/overwritten || fail "no pattern at $place MiB"; done
echo "ok: the pattern is everywhere"
check "sg_sanitize --fail without a failure" sg_sanitize --fail --quick "$disk"
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS sanitize"

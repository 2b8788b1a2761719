# hot-add.sh PORTAL IQN HOST   (destroys the data of both volumes)
# One session to a target with `first` as LUN 0, which is written and checked all the time. The volume `second` is
# mapped, grows under a mounted ext4, becomes read-only and writable again, goes under load, and comes back: by
# `host palisade ARG...`, the command on the other side (see guest -H). HOST is what this guest is called there.
. /lab/lib.sh
portal=$1 iqn=$2 me=$3
grown=$((256 << 20))

# mark: what the kernel says is looked at from here on.
mark() { marks=$((${marks:-0} + 1)); echo "mark-$marks-" > /dev/kmsg; }
said() { dmesg | sed "1,/mark-$marks-/d" | grep -E "$1"; }
# told WHAT PATTERN: the kernel says it soon.
told() { until_true 20 said "$2" || { dmesg | tail -n 20; fail "the kernel did not say: $1"; }; echo "ok: $1: $(said "$2" | head -n 1)"; }
rescan() { check "rescan" timeout 30 iscsiadm -m session -r "$sid" -R > /dev/null; }
sha() { sha256sum "$1" | cut -d' ' -f1; }

iscsi_login "$iqn" "$portal" > /dev/null || fail login
base=$(iscsi_disk "$iqn" 0) || fail "no LUN 0"
sid=$(ls /sys/class/iscsi_session | sed 's/session//')
[ "$(iscsi_disks "$iqn" 1)" = "" ] || fail "LUN 1 is there already"

# LUN 0 is not to be disturbed by anything.
unstirred() {
    local n=0
    while [ ! -e /tmp/stop ]; do
        head -c 65536 /dev/urandom > /tmp/block
        dd if=/tmp/block of="$base" bs=64k seek=$((n % 64)) oflag=direct conv=notrunc status=none || return 1
        dd if="$base" bs=64k skip=$((n % 64)) count=1 iflag=direct status=none | cmp - /tmp/block || return 1
        n=$((n + 1)); echo $n > /tmp/rounds
        sleep 0.2
    done
}
unstirred > /tmp/unstirred.log 2>&1 & load=$!
alive() {
    local n; n=$(cat /tmp/rounds 2> /dev/null)
    until_true 20 eval "[ \"\$(cat /tmp/rounds 2> /dev/null)\" != '$n' ]" || { cat /tmp/unstirred.log; fail "LUN 0 was disturbed: $1"; }
    echo "ok: LUN 0 works on: $1"
}
alive "at first"

note "mapped"
mark
host palisade target map farm second || fail "map"
told "3Fh/0Eh arrived" 'sd .*:0: .*LUN assignments on this target have changed'
[ "$(iscsi_disks "$iqn" 1)" = "" ] || fail "Linux took it without a rescan; this script is wrong about Linux"
rescan
disk=$(iscsi_disk "$iqn" 1) || fail "the new LUN is not found"
wwid=$(cat "/sys/block/${disk##*/}/device/wwid")
check "REPORT LUNS lists both" eval "sg_luns $base | grep -i 'length = 16'"
alive "after the new LUN"

note "grown"
mkfs.ext4 -q -F "$disk" && mount "$disk" /mnt || fail "mkfs, mount"
head -c 8000000 /dev/urandom > /mnt/f; sum=$(sha /mnt/f); sync
mark
host palisade volume resize second "$grown" || fail "resize"
sg_turs "$disk" > /dev/null 2>&1; dd if="$disk" of=/dev/null bs=4096 count=1 iflag=direct status=none
told "2Ah/09h arrived" 'sd .*:1: .*[Cc]apacity data has changed'
said 'sd .*:0: .*[Cc]apacity' && fail "LUN 0 was told of it, too"
rescan
until_true 10 eval "[ \$(blockdev --getsize64 $disk) = $grown ]" || fail "size is $(blockdev --getsize64 "$disk")"
check "resize2fs of what is mounted" resize2fs "$disk"
[ "$(sha /mnt/f)" = "$sum" ] || fail "the file differs"
alive "while the other grew"

note "read-only"
umount /mnt
mark
host palisade volume grant second "$me" --read-only || fail "grant"
if dd if=/dev/zero of="$disk" bs=4096 count=1 seek=1 oflag=direct status=none 2> /tmp/write; then fail "a write went through"; fi
cat /tmp/write
told "2Ah/01h arrived" 'sd .*:1: .*[Mm]ode parameters changed'
told "a write is refused with WRITE PROTECTED" '[Ww]rite protected'
rescan
until_true 10 eval "[ \$(blockdev --getro $disk) = 1 ]" || fail "Linux does not see that the disk is read-only"
told "the disk is known as read-only" 'Write Protect is on'
check "MODE SENSE says so" eval "sg_modes -6 $disk | grep 'WP=1'"
check "it can be mounted read-only" mount -o ro "$disk" /mnt
[ "$(sha /mnt/f)" = "$sum" ] || fail "the file differs"
umount /mnt
mark
host palisade volume grant second "$me" || fail "grant"
rescan
until_true 10 eval "[ \$(blockdev --getro $disk) = 0 ]" || fail "the disk stayed read-only"
check "it can be mounted to write" mount "$disk" /mnt
head -c 1000000 /dev/urandom > /mnt/g; umount /mnt
alive "while the other was read-only"

note "unmapped under load, by somebody who did not ask"
mark
# Ends at the first error.
while dd if="$disk" of=/dev/null bs=64k count=16 iflag=direct status=none 2> /tmp/read; do :; done & reader=$!
sleep 1
host palisade target unmap farm second || fail "unmap"
until_true 30 eval "! kill -0 $reader" || fail "the reader hangs"
cat /tmp/read
told "the LUN is gone" '[Ll]ogical unit not supported'
told "3Fh/0Eh arrived" 'sd .*:0: .*LUN assignments on this target have changed'
check "the disk goes at once" timeout 30 sh -c "echo 1 > /sys/block/${disk##*/}/device/delete"
[ "$(iscsi_disks "$iqn" 1)" = "" ] || fail "the disk is still there"
alive "while the other went"

note "mapped again"
host palisade target map farm second --lun 1 || fail "map"
rescan
disk=$(iscsi_disk "$iqn" 1) || fail "the LUN is not found again"
again=$(cat "/sys/block/${disk##*/}/device/wwid")
[ "$again" = "$wwid" ] || fail "it was $wwid and is $again"
echo "ok: it is $wwid as before"
check "fsck" e2fsck -fn "$disk"
mount -o ro "$disk" /mnt && [ "$(sha /mnt/f)" = "$sum" ] || fail "the file differs"
umount /mnt

touch /tmp/stop
wait $load || { cat /tmp/unstirred.log; fail "LUN 0 was disturbed"; }
[ "$(ls /sys/class/iscsi_session)" = "session$sid" ] || fail "the session is another"
dmesg | grep -i 'detected conn error\|session recovery\|I/O error, dev '"${base##*/}" && fail "the session was not whole all the time"
echo "ok: one session, $(cat /tmp/rounds) rounds on LUN 0"
iscsi_logout "$iqn" > /dev/null
note "PASS hot-add"

# pauses.sh PORTAL IQN LUN SECONDS   (destroys the LUN's data)
# A file system under load while the target goes away and comes back: what was
# written reads back, and the kernel never reports an I/O error. Prints
# "load runs" when the target may begin to go.
. /lab/lib.sh
portal=$1 iqn=$2 lun=$3 seconds=$4
iscsi_login "$iqn" "$portal" > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
mkfs.ext4 -q -F "$disk" && mount "$disk" /mnt || fail "mkfs, mount"
dmesg -C
note "load runs"
end=$((SECONDS + seconds)) rounds=0 longest=0
while [ $SECONDS -lt $end ]; do
    begun=$SECONDS file=/mnt/f$((rounds % 8))
    head -c 4000000 /dev/urandom > /tmp/data || fail "no data"
    cp /tmp/data $file && sync -f $file || fail "write in round $rounds"
    echo 3 > /proc/sys/vm/drop_caches
    cmp /tmp/data $file || fail "file differs in round $rounds"
    (cd /mnt && sha256sum f* ) > /tmp/sums || fail "read in round $rounds"
    rounds=$((rounds + 1))
    [ $((SECONDS - begun)) -le $longest ] || longest=$((SECONDS - begun))
done
note "$rounds rounds, longest $longest s"
[ $rounds -gt 2 ] || fail "only $rounds rounds"
dmesg > /tmp/dmesg
grep -iE 'I/O error|Remounting|abort|lost page write|Medium Error' /tmp/dmesg && { cat /tmp/dmesg; fail "the kernel saw errors"; }
grep -q 'ext4 rw' <(sed -n 's/.* \/mnt \(ext4 rw\).*/\1/p' /proc/mounts) || fail "not writable any more"
umount /mnt
iscsiadm -m session | grep -q "$iqn" || fail "no session any more"
echo 3 > /proc/sys/vm/drop_caches
check "fsck" e2fsck -fn "$disk"
mount "$disk" /mnt && (cd /mnt && sha256sum --quiet -c /tmp/sums) || fail "files differ at the end"
umount /mnt
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS pauses"

# gigabyte.sh PORTAL IQN LUN MIB   (destroys the LUN's data; needs MIB + 25 %)
# A disk as people use it: found by discovery, partitioned, ext4 on one half,
# XFS on the other, MIB of files on both, every byte checked over a remount and
# a new login; then deleted and trimmed, which `host used` has to see.
. /lab/lib.sh
portal=$1 iqn=$2 lun=$3 mib=$4
iscsiadm -m discovery -t sendtargets -p "$portal" | grep -q " $iqn\$" || fail "not discovered"
iscsi_login "$iqn" "$portal" > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
half=$(($(blockdev --getsz "$disk") / 2 / 2048 * 2048))
printf '%s\n' 'label: gpt' "start=2048, size=$((half - 2048))" "start=$half" | sfdisk -q "$disk" || fail sfdisk
udevadm settle
check "two partitions" test -b "${disk}1" -a -b "${disk}2"
check "mkfs.ext4" mkfs.ext4 -q -F "${disk}1"
check "mkfs.xfs" mkfs.xfs -q -f "${disk}2"
mkdir -p /mnt/a /mnt/b
mounts() { mount "${disk}1" /mnt/a && mount "${disk}2" /mnt/b; }
check "mount both" mounts
empty=$(host used)
# Files that differ at every offset, made faster than /dev/urandom can: each is
# the same random data, begun at another place.
note "writing $mib MiB"
begun=$SECONDS base=/dev/shm/base
head -c 67108864 /dev/urandom > $base
for ((i = 0; i < mib / 64; i++)); do
    dir=/mnt/a; [ $((i % 2)) = 0 ] || dir=/mnt/b
    { tail -c +$((i * 1049088 + 1)) $base; head -c $((i * 1049088)) $base; } > $dir/part$i || fail "write of part $i"
    [ "$(stat -c %s $dir/part$i)" = 67108864 ] || fail "part $i is short"
done
rm $base
sync
note "written in $((SECONDS - begun)) s"
(cd /mnt && sha256sum a/part* b/part*) > /tmp/sums || fail sha256sum
full=$(host used)
echo "   used: $empty bytes with empty file systems, $full with $mib MiB"
[ $((full - empty)) -ge $((mib * 1048576 * 9 / 10)) ] || fail "the volume does not show what was written"
umount /mnt/a /mnt/b
iscsi_logout "$iqn" > /dev/null || fail logout
iscsi_login "$iqn" "$portal" > /dev/null || fail "second login"
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk after second login"
check "mount both again" mounts
begun=$SECONDS
(cd /mnt && sha256sum --quiet -c /tmp/sums) || fail "files differ"
note "checked in $((SECONDS - begun)) s"
rm -r /mnt/a/part* /mnt/b/part*
sync
check "fstrim ext4" fstrim -v /mnt/a
check "fstrim xfs" fstrim -v /mnt/b
until_true 20 eval '[ $(host used) -lt $((empty + 64 * 1048576)) ]' || fail "fstrim freed nothing: $(host used) bytes used"
echo "ok: fstrim left $(host used) bytes used"
umount /mnt/a /mnt/b
check "e2fsck" e2fsck -fn "${disk}1"
check "xfs_repair -n" xfs_repair -n "${disk}2"
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS gigabyte"

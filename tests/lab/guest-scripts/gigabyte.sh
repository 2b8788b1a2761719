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
# Blocks that differ everywhere, made faster than /dev/urandom can.
note "writing $mib MiB"
begun=$SECONDS
for dir in /mnt/a /mnt/b; do
    openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddee$((RANDOM % 90 + 10)) -iv 0 < /dev/zero 2> /dev/null |
        head -c $((mib / 2 * 1048576)) | split -b 64M - $dir/part
    [ "$(cat $dir/part* | wc -c)" = $((mib / 2 * 1048576)) ] || fail "short in $dir"
done
sync
note "written in $((SECONDS - begun)) s"
(cd /mnt && sha256sum a/* b/*) > /tmp/sums || fail sha256sum
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

# fs-verify.sh PORTAL IQN [LUN [FILESYSTEM...]]
# Finds the target by SendTargets discovery, logs in, and for each filesystem
# (default: ext4 xfs) makes it, writes files, logs out, logs in again and
# checks every byte and the filesystem's own checker's word.
. /lab/lib.sh
portal=$1 iqn=$2 lun=${3:-1}; shift $(($# < 3 ? $# : 3))
[ $# -gt 0 ] || set -- ext4 xfs

note "discovery at $portal"
iscsiadm -m discovery -t sendtargets -p "$portal" | tee /tmp/found || fail discovery
grep -q " $iqn\$" /tmp/found || fail "$iqn not among the targets found"
iscsi_login "$iqn" "$portal" || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
lsscsi -g -s
sg_inq "$disk" | head -12
check "VPD page 83 names the unit" sg_vpd -p di "$disk"
check "REPORT LUNS" sg_luns "$disk"
check "READ CAPACITY(16)" sg_readcap -16 "$disk"

for fs; do
    note "$fs"
    wipefs -qa "$disk"
    case $fs in
    ext4) mkfs.ext4 -q -F "$disk" ;;
    xfs) mkfs.xfs -q -f "$disk" ;;
    *) "mkfs.$fs" "$disk" ;;
    esac || fail "mkfs $fs"
    check "mount $fs" mount -t "$fs" "$disk" /mnt
    mkdir /mnt/d
    for i in 1 2 3 4; do head -c $((i * 1500000 + 17)) /dev/urandom > "/mnt/d/f$i"; done
    (cd /mnt && sha256sum d/*) > "/tmp/sums.$fs"
    sync
    check "umount $fs" umount /mnt
    iscsi_logout "$iqn" > /dev/null || fail logout
    [ -z "$(iscsi_disks "$iqn" "$lun")" ] || fail "disk still there after logout"
    iscsi_login "$iqn" "$portal" > /dev/null || fail "second login"
    disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk after second login"
    check "mount $fs again" mount -t "$fs" "$disk" /mnt
    (cd /mnt && sha256sum --quiet -c "/tmp/sums.$fs") || fail "$fs: files differ"
    umount /mnt
    case $fs in
    ext4) check "fsck" e2fsck -fn "$disk" ;;
    xfs) check "xfs_repair -n" xfs_repair -n "$disk" ;;
    esac > /tmp/fsck.out 2>&1 || { cat /tmp/fsck.out; fail "fsck $fs"; }
    echo "ok: $fs verified after logout and login"
done
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS fs-verify"

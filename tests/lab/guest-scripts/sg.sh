# sg.sh PORTAL IQN LUN   (writes to the LUN)
# What administrators look at a disk with.
. /lab/lib.sh
portal=$1 iqn=$2 lun=$3
iscsi_login "$iqn" "$portal" > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
bs=$(blockdev --getss "$disk")
for page in sv di sn bl bdc lbpv tpc; do
    check "VPD page $page" sg_vpd -p $page "$disk"
done
check "REPORT TARGET PORT GROUPS" sg_rtpg -d "$disk"
check "REPORT SUPPORTED OPERATION CODES" sg_opcodes "$disk"
check "supported log pages" sg_logs "$disk"
check "logical block provisioning log page" sg_logs --page=0xc "$disk"
check "mode pages" sg_modes -a "$disk"
dd if=/dev/urandom of="$disk" bs=1M count=4 oflag=direct status=none || fail write
check "written blocks are mapped" eval "sg_get_lba_status --lba=0 $disk | tee /dev/stderr | grep -q 'mapped'"
check "UNMAP" sg_unmap --lba=0 --num=$((1048576 / bs)) "$disk"
check "unmapped blocks are deallocated" eval "sg_get_lba_status --lba=0 $disk | tee /dev/stderr | grep -q 'deallocated'"
dd if="$disk" bs=1M count=1 iflag=direct status=none | cmp - <(head -c 1048576 /dev/zero) || fail "they are not zeros"
echo "ok: and read as zeros"
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS sg"

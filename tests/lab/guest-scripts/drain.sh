# drain.sh IQN LUN PORTAL PORTAL PORTAL   (destroys the LUN's data)
# A host with one path, and load on it: its portal is drained (`host drain N`),
# and drained back (`host resume N`), and moved for good (`host moved N M`,
# undone by `host back N`). Each time the session is asked to leave, logs in
# again, is sent on, and nothing above it sees an error.
. /lab/lib.sh
iqn=$1 lun=$2; shift 2
portals=("$@")
now() { cat /sys/class/iscsi_connection/connection*/address 2> /dev/null; }
# goes WHAT FROM TO HOST-ARGUMENTS...: the session leaves one portal for the other.
goes() {
    local what=$1 from=${portals[$2]} to=${portals[$3]}; shift 3
    [ "$(now)" = "$from" ] || fail "$what: the session is at $(now), not $from"
    host "$@" || fail "host $*"
    until_true 30 eval "[ \"\$(now)\" = $to ]" || fail "$what: the session is at $(now), not $to"
    check "$what: reading" dd if="$disk" of=/dev/null bs=4096 count=1 iflag=direct status=none
}
iscsi_login "$iqn" "${portals[1]}" > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
dmesg -C
fio --name=verify --filename="$disk" --size=40M --rate=2m --bs=16k --rw=randwrite --direct=1 --ioengine=libaio \
    --iodepth=4 --verify=crc32c --verify_fatal=1 --do_verify=1 --output=/tmp/fio.out &
fio=$!
sleep 1
goes "its portal is drained" 1 0 drain 1
host resume 1 || fail "host resume"
goes "drained back" 0 1 drain 0
host resume 0 || fail "host resume"
goes "moved for good" 1 2 moved 1 2
kill -0 $fio 2> /dev/null || fail "the load was over before the last move"
check "fio's writes and verification" wait $fio
host back 1 || fail "host back"
dmesg | grep -iE 'I/O error|Sense Key|rejecting I/O|Medium Error' && fail "the kernel saw errors"
[ "$(iscsi_disks "$iqn" "$lun")" = "$disk" ] || fail "the disk is another one"
iscsi_logout "$iqn" > /dev/null || fail logout
note "PASS drain"

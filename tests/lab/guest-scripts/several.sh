# several.sh NAME [ARG...] [-- NAME [ARG...]]...
# Small scripts one after the other, all in one boot, each from /lab/files
# (see guest -f). A script that fails does not keep the next one from running;
# `several: NAME STATUS` after each tells how it ended.
. /lab/lib.sh
status=0
while [ $# -gt 0 ]; do
    words=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    ended=0
    bash "/lab/files/${words[0]}" "${words[@]:1}" || { ended=$? status=1; }
    echo "several: ${words[0]} $ended"
    [ $ended = 0 ] || [ -z "$(ls /sys/class/iscsi_session)" ] || iscsiadm -m node --logoutall=all
done
exit $status

# database.sh PORTAL PARENT-IQN LUN SECONDS   (destroys the LUN's data)
# A database on a volume is cloned by `host clone`, which answers with the IQN and
# LUN of the clone; then transactions run on the clone for SECONDS while the host
# does what it likes to the parent. Every transaction that was committed must be
# there in the end, and the database whole.
. /lab/lib.sh
portal=$1 iqn=$2 lun=$3 seconds=$4
cat > /tmp/database.py <<'PY'
import hashlib, os, sqlite3, sys, time
action, path = sys.argv[1], sys.argv[2]
base = sqlite3.connect(path, isolation_level=None)
digest = lambda n: hashlib.sha256(str(n).encode()).hexdigest() * 20
if action == "make":
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, d TEXT)")
    base.execute("BEGIN")
    base.executemany("INSERT INTO t VALUES (?, ?)", ((n, digest(n)) for n in range(5000)))
    base.execute("COMMIT")
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
elif action == "load":
    assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    base.execute("PRAGMA synchronous=FULL")
    n, end = 5000, time.monotonic() + float(sys.argv[3])
    while time.monotonic() < end:
        base.execute("BEGIN")
        base.execute("INSERT INTO t VALUES (?, ?)", (n, digest(n)))
        base.execute("UPDATE t SET d = ? WHERE n = ?", (digest(n + 1), n * 7919 % 5000))
        base.execute("UPDATE t SET d = ? WHERE n = ?", (digest(n * 7919 % 5000), n * 7919 % 5000))
        base.execute("COMMIT")
        n += 1
    print(n)
else:
    rows = int(sys.argv[3])
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), "the database is damaged"
    found = base.execute("SELECT n, d FROM t ORDER BY n").fetchall()
    assert [n for n, _ in found] == list(range(rows)), f"{len(found)} rows, not {rows}"
    assert all(d == digest(n) for n, d in found), "a row is wrong"
base.close()
PY
iscsi_login "$iqn" "$portal" > /dev/null || fail login
disk=$(iscsi_disk "$iqn" "$lun") || fail "no disk"
check "mkfs.ext4" mkfs.ext4 -q -F "$disk"
mkdir -p /mnt/db
check "mount" mount "$disk" /mnt/db
check "a database is made" python3 /tmp/database.py make /mnt/db/base
check "umount" umount /mnt/db
iscsi_logout "$iqn" > /dev/null || fail logout
read -r clone lun <<< "$(host clone)" || fail "host clone"
iscsi_login "$clone" "$portal" > /dev/null || fail "login to the clone"
disk=$(iscsi_disk "$clone" "$lun") || fail "no clone"
check "mount the clone" mount "$disk" /mnt/db
rows=$(python3 /tmp/database.py load /mnt/db/base "$seconds") || fail "the load"
note "$((rows - 5000)) transactions"
check "the database is whole" python3 /tmp/database.py check /mnt/db/base "$rows"
check "umount" umount /mnt/db
iscsi_logout "$clone" > /dev/null || fail logout
iscsi_login "$clone" "$portal" > /dev/null || fail "second login"
disk=$(iscsi_disk "$clone" "$lun") || fail "no clone after the second login"
check "e2fsck" e2fsck -fn "$disk"
check "mount again" mount "$disk" /mnt/db
check "the database is whole after a new login" python3 /tmp/database.py check /mnt/db/base "$rows"
check "umount" umount /mnt/db
iscsi_logout "$clone" > /dev/null || fail logout
note "PASS database"

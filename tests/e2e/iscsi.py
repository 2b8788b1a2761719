"""A small iSCSI initiator (RFC 7143): enough to log in, send commands and look at every bit of the answers.

It is slow and keeps one command in flight, which is what tests of single answers and of broken PDUs want. Everything
it sends can be changed on the way: `Session.tamper` gets each PDU's bytes before they are sent.
"""

import collections
import os
import socket
import struct

NOP_OUT, SCSI_COMMAND, TASK_MANAGEMENT, LOGIN, TEXT, DATA_OUT, LOGOUT = 0, 1, 2, 3, 4, 5, 6
NOP_IN, SCSI_RESPONSE, TASK_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN, LOGOUT_RESPONSE = range(0x20, 0x27)
R2T, ASYNC_MESSAGE, REJECT = 0x31, 0x32, 0x3F
NO_TAG = 0xFFFFFFFF

# Status codes and sense keys of SAM-5 and SPC-4.
GOOD, CHECK_CONDITION, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL = 0, 2, 8, 0x18, 0x28
UNIT_ATTENTION, DATA_PROTECT = 6, 7
PERSISTENT_RESERVE_OUT = 0x5F
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE = range(7)

Result = collections.namedtuple("Result", "status sense data residual")


class Closed(Exception):
    """The target closed the connection."""


class LoginFailed(Exception):
    """The target answered the login with a status class other than success."""

    def __init__(self, status):
        super().__init__(f"login status {status >> 8}.{status & 255}")
        self.status = status


class Unanswered(Exception):
    """A command that only reads did not end with GOOD."""


def sense_code(result):
    """Sense key, ASC and ASCQ of a CHECK CONDITION in fixed or descriptor form; None for another status."""
    if result.status != CHECK_CONDITION or len(result.sense) < 4:
        return None
    sense = result.sense
    if sense[0] & 0x7E == 0x72:
        return sense[1] & 15, sense[2], sense[3]
    return sense[2] & 15, sense[12], sense[13]


def pdu(opcode, flags=0x80, data=b"", lun=0, tag=NO_TAG, fields=b"", immediate=False):
    """A PDU without digests. `fields` are bytes 20..48 of the basic header segment."""
    header = struct.pack(">BBH", opcode | (0x40 if immediate else 0), flags, 0) + b"\0" + len(data).to_bytes(3, "big")
    header += struct.pack(">BBHI", 0, lun, 0, 0) + struct.pack(">I", tag) + fields.ljust(28, b"\0")
    return header + data + b"\0" * (-len(data) % 4)


def keys_text(pairs):
    return b"".join(f"{k}={v}".encode() + b"\0" for k, v in pairs.items())


class Answer:
    """A PDU from the target."""

    def __init__(self, header, data):
        self.header, self.data = header, data
        self.opcode, self.flags = header[0] & 0x3F, header[1]
        self.tag, self.transfer_tag, self.stat_sn, self.exp_cmd_sn, self.max_cmd_sn = struct.unpack(">5I", header[16:36])


class Connection:
    """A TCP connection to a portal that sends and receives PDUs without regard to any state."""

    def __init__(self, host, port, seconds=20):
        self.socket = socket.create_connection((host, port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.socket.sendall(data)

    def receive_bytes(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.socket.recv(min(length - len(data), 1 << 20))
            if not part:
                raise Closed("the target closed the connection")
            data += part
        return bytes(data)

    def receive(self):
        """The next PDU."""
        header = self.receive_bytes(48)
        if header[4]:
            self.receive_bytes(header[4] * 4)
        length = int.from_bytes(header[5:8], "big")
        data = self.receive_bytes(length + (-length % 4))[:length]
        return Answer(header, data)

    def close(self):
        self.socket.close()


class Session(Connection):
    """A session of one connection without digests."""

    tamper = staticmethod(lambda data: data)

    def __init__(self, host, port, initiator, target=None, keys=None, isid=None, login=True, seconds=20):
        super().__init__(host, port, seconds)
        self.initiator, self.target = initiator, target
        self.isid = isid or b"\x80" + os.urandom(5)
        self.keys = {
            "HeaderDigest": "None", "DataDigest": "None", "InitialR2T": "No", "ImmediateData": "Yes",
            "MaxRecvDataSegmentLength": "262144", "MaxBurstLength": "1048576", "FirstBurstLength": "65536",
            "MaxOutstandingR2T": "1", "MaxConnections": "1", "ErrorRecoveryLevel": "0",
            "DefaultTime2Wait": "2", "DefaultTime2Retain": "0", **(keys or {}),
        }
        self.tag, self.cmd_sn, self.exp_stat_sn, self.tsih = 1, 1, 0, 0
        self.answers = {}
        if login:
            self.login()

    # ---- login -----------------------------------------------------------------

    def login_pdu(self, stage, next_stage, pairs, transit=True):
        flags = (0x80 if transit else 0) | stage << 2 | next_stage
        data = keys_text(pairs)
        header = struct.pack(">BBBBB", LOGIN | 0x40, flags, 0, 0, 0) + len(data).to_bytes(3, "big")
        header += self.isid + struct.pack(">HIHHII", self.tsih, self.tag, 0, 0, self.cmd_sn, self.exp_stat_sn)
        return header.ljust(48, b"\0") + data + b"\0" * (-len(data) % 4)

    def security_pairs(self):
        pairs = {"InitiatorName": self.initiator, "SessionType": "Normal" if self.target else "Discovery"}
        if self.target:
            pairs["TargetName"] = self.target
        return {**pairs, "AuthMethod": "None"}

    def operational_pairs(self):
        if self.target:
            return self.keys
        return {k: v for k, v in self.keys.items() if k in ("HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength")}

    def login(self):
        self._login_step(0, 1, self.security_pairs())
        self._login_step(1, 3, self.operational_pairs())
        return self

    def _login_step(self, stage, next_stage, pairs):
        text = b""
        for _ in range(16):
            self.send(self.tamper(self.login_pdu(stage, next_stage, pairs)))
            answer = self.receive()
            if answer.opcode != LOGIN_RESPONSE:
                raise LoginFailed(0xFFFF)
            status = struct.unpack(">H", answer.header[36:38])[0]
            self.exp_stat_sn = answer.stat_sn + 1
            text += answer.data
            for pair in text.split(b"\0"):
                key, _, value = pair.decode(errors="replace").partition("=")
                if key:
                    self.answers[key] = value
            if status:
                raise LoginFailed(status)
            if answer.flags & 0x80:
                self.tsih = struct.unpack(">H", answer.header[14:16])[0]
                return
            pairs = {}
        raise LoginFailed(0xFFFF)

    # ---- full feature phase ------------------------------------------------------

    def next_tag(self):
        self.tag += 1
        return self.tag

    def next_answer(self):
        """The next PDU that is an answer: pings of the target are answered on the way."""
        while True:
            answer = self.receive()
            if answer.opcode == NOP_IN and answer.tag == NO_TAG:
                if answer.transfer_tag != NO_TAG:
                    fields = struct.pack(">III", answer.transfer_tag, self.cmd_sn, self.exp_stat_sn)
                    self.send(pdu(NOP_OUT, 0x80, answer.data, fields=fields, immediate=True))
                continue
            has_status = answer.opcode != R2T and (answer.opcode != DATA_IN or answer.flags & 1)
            if has_status:
                self.exp_stat_sn = answer.stat_sn + 1
            return answer

    def _limit(self, key, default):
        value = self.answers.get(key, "")
        return int(value) if value.isdigit() else default

    def command_pdu(self, cdb, data_out=b"", read=0, lun=0, immediate_data=b""):
        flags = 0x81 | (0x40 if read else 0) | (0x20 if data_out else 0)
        fields = struct.pack(">III", read or len(data_out), self.cmd_sn, self.exp_stat_sn) + bytes(cdb).ljust(16, b"\0")
        return pdu(SCSI_COMMAND, flags, immediate_data, lun, self.tag, fields)

    def command(self, cdb, data_out=b"", read=0, lun=0):
        """Sends a SCSI command and returns its `Result`."""
        self.next_tag()
        immediate = 0
        if self.answers.get("ImmediateData", "Yes") == "Yes":
            immediate = min(len(data_out), self._limit("FirstBurstLength", 65536), self._limit("MaxRecvDataSegmentLength", 8192))
        self.send(self.tamper(self.command_pdu(cdb, data_out, read, lun, data_out[:immediate])))
        self.cmd_sn = (self.cmd_sn + 1) & 0xFFFFFFFF
        if immediate < len(data_out) and self.answers.get("InitialR2T", "Yes") == "No":
            # Unsolicited data would be permitted up to FirstBurstLength; this initiator waits for R2T instead.
            immediate = self._unsolicited(data_out, immediate, lun)
        return self._answers_of(data_out, read, lun)

    def _unsolicited(self, data_out, sent, lun):
        end = min(len(data_out), self._limit("FirstBurstLength", 65536))
        if sent < end:
            self._data_out(data_out, sent, end, NO_TAG, lun)
        return end

    def _data_out(self, data_out, start, end, transfer_tag, lun):
        step, number = self._limit("MaxRecvDataSegmentLength", 8192), 0
        while start < end:
            part = data_out[start:min(start + step, end)]
            final = 0x80 if start + len(part) == end else 0
            fields = struct.pack(">IIIIIII", transfer_tag, 0, self.exp_stat_sn, 0, number, start, 0)
            self.send(self.tamper(pdu(DATA_OUT, final, part, lun, self.tag, fields)))
            start, number = start + len(part), number + 1

    def _answers_of(self, data_out, read, lun):
        data_in = bytearray(read)
        got = 0
        while True:
            answer = self.next_answer()
            if answer.tag != self.tag and answer.opcode != REJECT:
                continue
            if answer.opcode == R2T:
                offset, length = struct.unpack(">II", answer.header[40:48])
                self._data_out(data_out, offset, offset + length, answer.transfer_tag, lun)
            elif answer.opcode == DATA_IN:
                offset = struct.unpack(">I", answer.header[40:44])[0]
                data_in[offset:offset + len(answer.data)] = answer.data
                got = max(got, offset + len(answer.data))
                if answer.flags & 1:
                    return Result(answer.header[3], b"", bytes(data_in[:got]), self._residual(answer))
            elif answer.opcode == SCSI_RESPONSE:
                length = int.from_bytes(answer.data[:2], "big")
                return Result(answer.header[3], answer.data[2:2 + length], bytes(data_in[:got]), self._residual(answer))
            else:
                raise Closed(f"opcode {answer.opcode:#x}, reason {answer.header[2]:#x} in answer to a command")

    @staticmethod
    def _residual(answer):
        count = struct.unpack(">I", answer.header[44:48])[0]
        return count if answer.flags & 6 else 0

    def ping(self, data=b"ping"):
        """A NOP-Out that wants an answer; returns the data of it."""
        self.send(pdu(NOP_OUT, 0x80, data, tag=self.next_tag(), fields=struct.pack(">III", NO_TAG, self.cmd_sn, self.exp_stat_sn), immediate=True))
        while True:
            answer = self.next_answer()
            if answer.opcode == NOP_IN and answer.tag == self.tag:
                return answer.data

    def send_targets(self, what="All"):
        """The SendTargets text as a list of (key, value)."""
        fields = struct.pack(">III", NO_TAG, self.cmd_sn, self.exp_stat_sn)
        self.send(pdu(TEXT, 0x80, keys_text({"SendTargets": what}), tag=self.next_tag(), fields=fields, immediate=True))
        answer = self.next_answer()
        pairs = [p.decode().partition("=") for p in answer.data.split(b"\0") if p]
        return [(key, value) for key, _, value in pairs]

    def logout(self):
        fields = struct.pack(">III", 0, self.cmd_sn, self.exp_stat_sn)
        self.send(pdu(LOGOUT, 0x80, tag=self.next_tag(), fields=fields, immediate=True))
        while self.next_answer().opcode != LOGOUT_RESPONSE:
            pass
        self.close()

    # ---- SCSI ------------------------------------------------------------------

    def ready(self, lun=0):
        """TEST UNIT READY until unit attentions are gone."""
        for _ in range(8):
            result = self.command(bytes(6), lun=lun)
            if not (result.status == CHECK_CONDITION and sense_code(result)[0] == UNIT_ATTENTION):
                return result
        return result

    def capacity(self, lun=0):
        """Blocks and block size, by READ CAPACITY (16)."""
        result = self.command(struct.pack(">BBQIBB", 0x9E, 0x10, 0, 32, 0, 0), read=32, lun=lun)
        last, size = struct.unpack(">QI", result.data[:12])
        return last + 1, size

    def read(self, block, blocks, block_size=512, lun=0):
        return self.command(struct.pack(">BBQIBB", 0x88, 0, block, blocks, 0, 0), read=blocks * block_size, lun=lun)

    def write(self, block, data, block_size=512, lun=0, fua=False):
        cdb = struct.pack(">BBQIBB", 0x8A, 8 if fua else 0, block, len(data) // block_size, 0, 0)
        return self.command(cdb, data, lun=lun)

    def unmap(self, block, blocks, lun=0):
        data = struct.pack(">HHIQII", 22, 16, 0, block, blocks, 0)
        return self.command(struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(data), 0), data, lun=lun)

    def flush(self, lun=0):
        return self.command(bytes([0x35]) + bytes(9), lun=lun)

    def reserve_out(self, action, kind=0, key=0, new_key=0, aptpl=False, lun=0):
        """PERSISTENT RESERVE OUT; returns its status."""
        data = struct.pack(">QQIBBH", key, new_key, 0, 1 if aptpl else 0, 0, 0)
        return self.command(struct.pack(">BBBHIB", PERSISTENT_RESERVE_OUT, action, kind, 0, len(data), 0), data, lun=lun).status

    def registered(self, lun=0):
        """The keys that READ KEYS finds past all unit attentions, sorted."""
        for _ in range(256):
            result = self.command(bytes([0x5E, 0, 0, 0, 0, 0, 0, 16, 0, 0]), read=4096, lun=lun)
            if result.status != CHECK_CONDITION or sense_code(result)[0] != UNIT_ATTENTION:
                break
        if result.status != GOOD:
            raise Unanswered(f"READ KEYS ended with {result.status:#x}, {sense_code(result)}")
        data = result.data
        length = int.from_bytes(data[4:8], "big")
        return sorted(int.from_bytes(data[at:at + 8], "big") for at in range(8, 8 + length, 8))

//! Numbers with names. Each keeps values it has no name for.

macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident($repr:ty) { $($(#[$vmeta:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub $repr);

        #[allow(non_upper_case_globals, reason = "constants stand where variants of an enum would")]
        impl $name {
            $($(#[$vmeta])* pub const $variant: Self = Self($value);)+
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match *self {
                    $(Self::$variant => f.write_str(stringify!($variant)),)+
                    Self(other) => write!(f, concat!(stringify!($name), "({:#x})"), other),
                }
            }
        }
    };
}

open_enum! {
    /// PDU type, the low six bits of byte 0 (RFC 7143 §11.2.1.2).
    Opcode(u8) {
        /// NOP-Out (§11.18).
        NopOut = 0x00,
        /// SCSI Command (§11.3).
        ScsiCommand = 0x01,
        /// SCSI Task Management Function Request (§11.5).
        TaskManagementRequest = 0x02,
        /// Login Request (§11.12).
        LoginRequest = 0x03,
        /// Text Request (§11.10).
        TextRequest = 0x04,
        /// SCSI Data-Out (§11.7).
        DataOut = 0x05,
        /// Logout Request (§11.14).
        LogoutRequest = 0x06,
        /// SNACK Request (§11.16).
        SnackRequest = 0x10,
        /// NOP-In (§11.19).
        NopIn = 0x20,
        /// SCSI Response (§11.4).
        ScsiResponse = 0x21,
        /// SCSI Task Management Function Response (§11.6).
        TaskManagementResponse = 0x22,
        /// Login Response (§11.13).
        LoginResponse = 0x23,
        /// Text Response (§11.11).
        TextResponse = 0x24,
        /// SCSI Data-In (§11.7).
        DataIn = 0x25,
        /// Logout Response (§11.15).
        LogoutResponse = 0x26,
        /// Ready To Transfer (§11.8).
        ReadyToTransfer = 0x31,
        /// Asynchronous Message (§11.9).
        AsyncMessage = 0x32,
        /// Reject (§11.17).
        Reject = 0x3f,
    }
}

open_enum! {
    /// Task attribute, ATTR of a SCSI Command (RFC 7143 §11.3.1).
    TaskAttribute(u8) {
        /// Untagged; treated as simple.
        Untagged = 0,
        /// Simple: any order among its like.
        Simple = 1,
        /// Ordered: after all older, before all newer.
        Ordered = 2,
        /// Head of queue: before all that has not started.
        HeadOfQueue = 3,
        /// ACA: runs while an auto contingent allegiance is in force.
        Aca = 4,
    }
}

open_enum! {
    /// Response field of a SCSI Response (RFC 7143 §11.4.3).
    ScsiResponseCode(u8) {
        /// The command ran to completion at the target; the status says how.
        CommandCompleted = 0x00,
        /// The target failed in delivering the command.
        TargetFailure = 0x01,
    }
}

open_enum! {
    /// SCSI status byte (SAM-5 §5.3.1), carried and not judged.
    ScsiStatus(u8) {
        /// GOOD.
        Good = 0x00,
        /// CHECK CONDITION; sense data goes with it.
        CheckCondition = 0x02,
        /// CONDITION MET.
        ConditionMet = 0x04,
        /// BUSY.
        Busy = 0x08,
        /// RESERVATION CONFLICT.
        ReservationConflict = 0x18,
        /// TASK SET FULL.
        TaskSetFull = 0x28,
        /// ACA ACTIVE.
        AcaActive = 0x30,
        /// TASK ABORTED.
        TaskAborted = 0x40,
    }
}

open_enum! {
    /// Function of a task management request (RFC 7143 §11.5.1).
    TaskManagementFunction(u8) {
        /// ABORT TASK: the one task referenced.
        AbortTask = 1,
        /// ABORT TASK SET: this nexus' tasks on the logical unit.
        AbortTaskSet = 2,
        /// CLEAR ACA.
        ClearAca = 3,
        /// CLEAR TASK SET: every nexus' tasks on the logical unit.
        ClearTaskSet = 4,
        /// LOGICAL UNIT RESET.
        LogicalUnitReset = 5,
        /// TARGET WARM RESET.
        TargetWarmReset = 6,
        /// TARGET COLD RESET: also drops every connection.
        TargetColdReset = 7,
        /// TASK REASSIGN: needs ErrorRecoveryLevel 2.
        TaskReassign = 8,
        /// QUERY TASK (RFC 7144).
        QueryTask = 9,
        /// QUERY TASK SET (RFC 7144).
        QueryTaskSet = 10,
        /// I_T NEXUS RESET (RFC 7144).
        NexusReset = 11,
        /// QUERY ASYNCHRONOUS EVENT (RFC 7144).
        QueryAsyncEvent = 12,
    }
}

open_enum! {
    /// Response to a task management request (RFC 7143 §11.6.1).
    TaskManagementResponse(u8) {
        /// Function complete.
        Complete = 0,
        /// Task does not exist.
        TaskDoesNotExist = 1,
        /// LUN does not exist.
        LunDoesNotExist = 2,
        /// Task still allegiant.
        TaskStillAllegiant = 3,
        /// Task allegiance reassignment not supported.
        ReassignmentNotSupported = 4,
        /// Task management function not supported.
        NotSupported = 5,
        /// Function authorization failed.
        AuthorizationFailed = 6,
        /// Function rejected.
        Rejected = 255,
    }
}

open_enum! {
    /// Reason of a Reject (RFC 7143 §11.17.1).
    RejectReason(u8) {
        /// Data (payload) digest error.
        DataDigestError = 0x02,
        /// SNACK reject.
        SnackReject = 0x03,
        /// Protocol error.
        ProtocolError = 0x04,
        /// Command not supported.
        CommandNotSupported = 0x05,
        /// Too many immediate commands.
        TooManyImmediateCommands = 0x06,
        /// A task with this tag is in progress.
        TaskInProgress = 0x07,
        /// Invalid data ack.
        InvalidDataAck = 0x08,
        /// Invalid PDU field.
        InvalidPduField = 0x09,
        /// Long operation reject: out of resources for a Target Transfer Tag.
        LongOperation = 0x0a,
        /// Negotiation reset (obsolete name: the text exchange was reset).
        NegotiationReset = 0x0b,
        /// Waiting for logout.
        WaitingForLogout = 0x0c,
    }
}

open_enum! {
    /// Reason of a Logout Request (RFC 7143 §11.14.1).
    LogoutReason(u8) {
        /// Close the session.
        CloseSession = 0,
        /// Close the connection.
        CloseConnection = 1,
        /// Remove the connection for recovery.
        RemoveForRecovery = 2,
    }
}

open_enum! {
    /// Response to a Logout Request (RFC 7143 §11.15.1).
    LogoutResponse(u8) {
        /// Closed successfully.
        Closed = 0,
        /// CID not found.
        CidNotFound = 1,
        /// Connection recovery is not supported.
        RecoveryNotSupported = 2,
        /// Cleanup failed.
        CleanupFailed = 3,
    }
}

open_enum! {
    /// Event of an Asynchronous Message (RFC 7143 §11.9.1).
    AsyncEvent(u8) {
        /// A SCSI asynchronous event; sense data goes with it.
        ScsiEvent = 0,
        /// The target asks for a logout within Parameter3 seconds.
        LogoutRequest = 1,
        /// The target will drop, or has dropped, the connection in Parameter1.
        ConnectionDrop = 2,
        /// The target will drop all connections of the session.
        SessionDrop = 3,
        /// The target asks for a parameter negotiation within Parameter3 seconds.
        NegotiationRequest = 4,
        /// All active tasks of a logical unit were ended (RFC 7143 §11.9.1).
        TasksTerminated = 5,
        /// Vendor specific.
        VendorSpecific = 255,
    }
}

open_enum! {
    /// Status of a Login Response, class in the high byte (RFC 7143 §11.13.5).
    LoginStatus(u16) {
        /// Login proceeds.
        Success = 0x0000,
        /// The target moved temporarily; TargetAddress says where.
        MovedTemporarily = 0x0101,
        /// The target moved permanently; TargetAddress says where.
        MovedPermanently = 0x0102,
        /// Initiator error.
        InitiatorError = 0x0200,
        /// Authentication failure.
        AuthenticationFailure = 0x0201,
        /// Authorization failure: this initiator may not use this target.
        AuthorizationFailure = 0x0202,
        /// Target not found.
        NotFound = 0x0203,
        /// Target removed.
        TargetRemoved = 0x0204,
        /// Unsupported version.
        UnsupportedVersion = 0x0205,
        /// Too many connections.
        TooManyConnections = 0x0206,
        /// Missing parameter.
        MissingParameter = 0x0207,
        /// Cannot include the connection in this session.
        CannotInclude = 0x0208,
        /// Session type not supported.
        SessionTypeNotSupported = 0x0209,
        /// Session does not exist.
        SessionDoesNotExist = 0x020a,
        /// Invalid request type during login.
        InvalidDuringLogin = 0x020b,
        /// Target error.
        TargetError = 0x0300,
        /// Service unavailable.
        ServiceUnavailable = 0x0301,
        /// Out of resources.
        OutOfResources = 0x0302,
    }
}

impl LoginStatus {
    /// The class byte: 0 success, 1 redirection, 2 initiator error, 3 target error.
    #[must_use]
    pub const fn class(self) -> u8 {
        let [class, _] = self.0.to_be_bytes();
        class
    }
}

open_enum! {
    /// Stage of a login, CSG and NSG (RFC 7143 §11.12.3).
    Stage(u8) {
        /// SecurityNegotiation.
        Security = 0,
        /// LoginOperationalNegotiation.
        Operational = 1,
        /// FullFeaturePhase.
        FullFeature = 3,
    }
}

open_enum! {
    /// Type of an additional header segment (RFC 7143 §11.2.2.1).
    AhsType(u8) {
        /// Extended CDB (§11.2.2.3).
        ExtendedCdb = 1,
        /// Expected bidirectional read data length (§11.2.2.4).
        BidirectionalReadLength = 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_kept_and_printed() {
        assert_eq!(format!("{:?}", Opcode(0x3f)), "Reject");
        assert_eq!(format!("{:?}", Opcode(0x1c)), "Opcode(0x1c)");
        assert_eq!(LoginStatus::NotFound.class(), 2);
        assert_eq!(LoginStatus(0x0102), LoginStatus::MovedPermanently);
    }
}

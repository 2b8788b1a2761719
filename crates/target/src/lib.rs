//! Sockets, reactors and sessions: joins iSCSI, SCSI and volumes.

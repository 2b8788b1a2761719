//! A software iSCSI initiator over sockets, and the load generator on top of it.

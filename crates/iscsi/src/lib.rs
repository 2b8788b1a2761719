//! RFC 7143: PDUs, negotiation, and the target and initiator state machines, without I/O.

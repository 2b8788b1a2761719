//! Entity status inquiries: a server asks whether a portal is still there (RFC 4171 §5.6.5.13).

use crate::pdu::{Frame, Function, Message};
use crate::status::Status;

/// The answer to a request of a server: that all is well (§5.7.5.13), or that the request is nothing for a client. None
/// for what is no request.
#[must_use]
pub fn answer(request: &Frame<'_>) -> Option<Vec<u8>> {
    if request.function.is_response() {
        return None;
    }
    let message = Message::new(request.function.response(), 0, request.transaction);
    let message = match request.function {
        // What the server sent goes back after the status.
        Function::INQUIRY => message.raw(&Status::SUCCESSFUL.0.to_be_bytes()).raw(request.payload),
        _ => message.raw(&Status::MESSAGE_NOT_SUPPORTED.0.to_be_bytes()),
    };
    message.finish()
}

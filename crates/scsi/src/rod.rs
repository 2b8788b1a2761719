//! ROD tokens: 512 bytes that stand for ranges of a volume as they were at one moment (SPC-4 5.17.6, SBC-4 4.28).
//!
//! [`RodTokens`] is the copy manager's memory of what each token stands for. Time and randomness come from outside.
//! The type of all tokens is *point in time copy, change vulnerable*: nothing is copied when a token is made, and a
//! write to what it stands for cancels it, as Windows expects.

mod format;
mod table;

pub(crate) use format::{
    CHANGE_VULNERABLE, INACTIVITY_SECONDS_DEFAULT, INACTIVITY_SECONDS_MAX, POINT_IN_TIME_ANY,
};
pub use format::{ROD_TOKEN_LEN, RodToken};
pub use table::{FoundToken, NewToken, RodTokens, TokenFault, TokenId, TokenLimits};

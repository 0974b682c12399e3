//! How rows are kept: in a log until a part holds them, then in a part. Both are written to and read from anything; which
//! files there are is the business of who records and who repairs.

mod chunk;
pub mod compact;
pub mod convert;
mod hybrid;
pub mod log;
pub mod loss;
pub mod part;
pub mod session;

//! What a store can do for those who come back to it.
//!
//! [`send`] sends recorded requests again and records the answers; [`compare`] tells in what two flows differ.

pub mod compare;
pub mod send;

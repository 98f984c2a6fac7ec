//! What a store can do for those who come back to it.
//!
//! [`send`] sends recorded requests again and records the answers; [`serve`] answers in the place of origins; [`compare`]
//! tells in what two flows differ.

pub mod compare;
pub mod send;
pub mod serve;

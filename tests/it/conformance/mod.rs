//! What RFCs and the record demand, by section: bytes in on one side, bytes out on the other, and the flow that is kept.

mod http1_forwarding;

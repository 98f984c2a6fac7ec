//! What goes wrong with stores: killed writers, full disks, files that cannot be written or are not what they were, records
//! that are none, and clocks that go back.

#[path = "../../faults/capture.rs"]
mod capture;
mod clock;
mod damage;
mod full_disk;
mod kill;
mod poison;
mod read_only;
mod visitor;
mod wal;

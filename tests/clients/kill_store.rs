//! A hundred kills of a recorder at work, at any place: whatever was announced is there, and whole.

#[path = "../faults/kill.rs"]
mod kills;

#[test]
fn announced_flows_survive_a_hundred_kills() {
    kills::survive("kill_store::announced_flows_survive_a_hundred_kills", 100);
}

//! A few kills of a recorder at work. The clients' program does a hundred.

#[path = "../../faults/kill.rs"]
mod kills;

#[test]
fn announced_flows_survive_kills_at_any_place() {
    kills::survive("faults::kill::announced_flows_survive_kills_at_any_place", 10);
}

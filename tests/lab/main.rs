//! What needs a kernel of its own: run inside the lab by `cargo xtask lab`.

#[test]
fn hello() {
    assert!(std::path::Path::new("/run/cenote-lab").exists(), "this runs in the lab: cargo xtask lab");
}

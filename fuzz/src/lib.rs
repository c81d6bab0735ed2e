//! The bodies of the fuzz targets, which the ordinary suite replays. Must never have a body of its own.

#[path = "../../tests/decoders/laws.rs"]
pub mod laws;

//! The benches: what they measure, and how the figures are shown.
pub mod flood;

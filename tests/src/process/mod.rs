//! Real programs as child processes: the harness that the demo and the process tests share.

pub mod child;
pub mod http;
pub mod run;
pub mod small;
pub mod text;

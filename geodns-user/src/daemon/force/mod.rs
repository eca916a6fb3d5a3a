//! The ground floor: a change is made, and comes in force. All features stand on this.
//!
//! - `change`: a change is made alone, where it may block; `disk`: a disk that does not answer
//! - `durably`: a change is on disk, then in force, else it is taken back
//! - `edit`: an edit of what the state keeps: prepared, kept, in force, told
//! - `upkeep`: when the kernel's tables are tidied or made anew; `tables`: they are edited as the plan is
//! - `service`: who is in service, in the plan in force and in the kernel
//! - `limits`: rate limits of the slow path
//! - `world`: one world in the place of another
//! - `tidy`: frees what edits have let go, and mends tables that are out of step

mod change;
mod disk;
mod durably;
mod edit;
pub mod limits;
mod service;
mod tables;
mod tidy;
mod upkeep;
mod world;

pub use change::{Changes, internal, milliseconds};
pub use durably::durably;
pub use edit::{Edit, Ready, Took};
pub use service::{InService, News, pools_of};
pub use upkeep::Upkeep;

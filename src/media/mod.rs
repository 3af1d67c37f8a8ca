//! Audio files.

pub mod error;
pub mod format;
pub mod scan;

pub use error::MediaError;
pub use scan::scan;

//! Power save of the radio, where the system has no nl80211 to ask: there is no such thing.

use std::io;

/// None can be asked.
#[derive(Debug)]
pub enum Radios {}

impl Radios {
    /// # Errors
    ///
    /// Always.
    pub fn open() -> io::Result<Radios> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    ///
    /// None: see [`Radios::open`].
    pub fn power_save(&self, _interface: u32) -> io::Result<bool> {
        match *self {}
    }

    /// # Errors
    ///
    /// None: see [`Radios::open`].
    pub fn set_power_save(&self, _interface: u32, _on: bool) -> io::Result<()> {
        match *self {}
    }
}

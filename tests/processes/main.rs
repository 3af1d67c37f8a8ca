//! Whole daemons, as people run them: real processes that talk over 127.0.0.1, each with a
//! null output whose crystal runs at a rate of its own, driven through the command line.
//!
//! | file | what |
//! |---|---|
//! | `house` | starts daemons, waits with a deadline, shows every log when a test fails |
//! | `daemon` | one process: its command line, its status, its end |
//! | `sound` | music to play, and what the recordings say of its sounding |
//! | `stalls` | when the machine itself stood still, so that nobody is blamed for it |
//! | `street` | devices with addresses of their own, whose cables can be pulled |
//! | `surviving` | pulled plugs on such a street: cuts, partitions, sleep, other addresses |
//! | `playing` | one song on all devices, and every order a person can give |
//! | `disk` | a disk that is full |
//! | `failing` | devices that die, return or come late |
//! | `formats` | the whole format table, on request: it takes ten minutes |
//! | `friends` | requests that wait, rooms for friends, a person on two devices |
//! | `gathering` | rooms: many devices at once, two side by side, a device that leaves |
//! | `stranger` | a locked room, and somebody who tries to get in |
//! | `governing` | people: the DJ, votes, the chat, the rules of the room |
//! | `service` | what a service manager hears, and what it makes of the unit |
//! | `outputs` | a sound server that dies and comes back |
//! | `newcomer` | what `./dev` asks of the package managers of many systems |
//! | `refusing` | broken files, wrong usage, a second daemon, no daemon |
//!
//! Nothing here sleeps for a while and hopes: every wait polls for a condition and fails with
//! the logs of all daemons once its deadline is over.

mod daemon;
#[cfg(target_os = "linux")]
mod disk;
mod evening;
mod failing;
mod formats;
mod friends;
mod gathering;
mod governing;
mod house;
mod newcomer;
#[cfg(target_os = "linux")]
mod outputs;
mod playing;
mod refusing;
#[cfg(target_os = "linux")]
mod service;
mod sound;
mod stalls;
mod stranger;
mod street;
mod surviving;

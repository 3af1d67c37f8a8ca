//! Which output: what a person writes, read into a choice, and the choice made a sink.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;

use super::cpal_sink::CpalSink;
use super::null_sink::NullSink;
use super::sink::{Feed, Format, Sink, SinkError, Stream};
use super::wav_sink::WavSink;
use crate::base::time::Clock;
use crate::base::{Ppm, Span};

/// Where the music of this device goes.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum OutputChoice {
    /// `default`: what the system calls its default sound device.
    #[default]
    Default,
    /// Anything else: a sound device by its id, or by the description that goes with it.
    Device(String),
    /// `null` or `null:+40`: nothing, at the pace of a crystal this much faster than nominal.
    Null {
        /// Of the crystal, within ±[`MAX_PPM`].
        ppm: f64,
    },
    /// `file:PATH`: a WAV file.
    File(PathBuf),
    /// `none`: no output; the device takes part without a loudspeaker.
    None,
}

/// Crystals are within 100 ppm; ten times that is surely a mistake of the writer.
pub const MAX_PPM: f64 = 1_000.0;

/// Why a text names no output.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The crystal is no number or beyond the range.
    #[error("{0:?} is no crystal error in ppm between -1000 and 1000; write for example null:+40")]
    Crystal(String),
    /// `file:` alone.
    #[error("the file has no name; write for example file:/tmp/out.wav")]
    NoPath,
    /// Nothing at all, or a control character.
    #[error(
        "an output is one of: default, none, null, null:PPM, file:PATH, or a device from \
         `groovebox outputs`"
    )]
    NoName,
}

impl FromStr for OutputChoice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<OutputChoice, ChoiceError> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("null", ppm)) => crystal(ppm),
            Some(("file", "")) => Err(ChoiceError::NoPath),
            Some(("file", path)) => Ok(OutputChoice::File(path.into())),
            _ => named(text),
        }
    }
}

fn crystal(text: &str) -> Result<OutputChoice, ChoiceError> {
    let ppm = text.parse().ok().filter(|ppm: &f64| ppm.abs() <= MAX_PPM);
    let ppm = ppm.ok_or_else(|| ChoiceError::Crystal(text.into()))?;
    Ok(OutputChoice::Null { ppm })
}

fn named(text: &str) -> Result<OutputChoice, ChoiceError> {
    match text {
        "default" => Ok(OutputChoice::Default),
        "none" => Ok(OutputChoice::None),
        "null" => Ok(OutputChoice::Null { ppm: 0.0 }),
        "file" => Err(ChoiceError::NoPath),
        _ if text.is_empty() || text.contains(char::is_control) => Err(ChoiceError::NoName),
        _ => Ok(OutputChoice::Device(text.into())),
    }
}

impl Display for OutputChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            OutputChoice::Default => f.write_str("default"),
            OutputChoice::Device(name) => f.write_str(name),
            OutputChoice::Null { ppm } if *ppm == 0.0 => f.write_str("null"),
            OutputChoice::Null { ppm } => write!(f, "null:{ppm:+}"),
            OutputChoice::File(path) => write!(f, "file:{}", path.display()),
            OutputChoice::None => f.write_str("none"),
        }
    }
}

/// Everything about the output that can be set.
#[derive(Clone, PartialEq, Debug)]
pub struct OutputSettings {
    /// Where to.
    pub choice: OutputChoice,
    /// From taking a frame to its sounding, about; 80 ms unless set. Shorter reacts sooner,
    /// longer survives a busier machine. A device may round it or insist on its own.
    pub buffer: Span,
    /// Where a null output writes down what it played and when. Others do not.
    pub record: Option<PathBuf>,
}

impl Default for OutputSettings {
    fn default() -> OutputSettings {
        OutputSettings {
            choice: OutputChoice::default(),
            buffer: Span::from_millis(80),
            record: None,
        }
    }
}

/// The sink for `settings`, not opened yet. `clock` is this device's.
#[must_use]
pub fn sink(settings: &OutputSettings, clock: Clock) -> Box<dyn Sink> {
    let buffer = settings.buffer;
    match &settings.choice {
        OutputChoice::Default => Box::new(CpalSink::new(None, buffer, clock)),
        OutputChoice::Device(name) => Box::new(CpalSink::new(Some(name.clone()), buffer, clock)),
        OutputChoice::Null { ppm } => {
            Box::new(NullSink::new(Ppm(*ppm), buffer, settings.record.clone(), clock))
        }
        OutputChoice::File(path) => Box::new(WavSink::new(path.clone(), buffer, clock)),
        OutputChoice::None => Box::new(NoSink),
    }
}

/// No output at all. It can never be opened.
#[derive(Clone, Copy, Debug)]
struct NoSink;

impl Sink for NoSink {
    fn open(&mut self, _: &mut dyn FnMut(Format) -> Feed) -> Result<Box<dyn Stream>, SinkError> {
        Err(SinkError::Missing(None))
    }

    fn name(&self) -> String {
        "none".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LocalTime;

    fn choice(text: &str) -> OutputChoice {
        text.parse().expect("a choice")
    }

    #[test]
    fn every_choice_is_read_and_written_back() {
        let cases = [
            ("default", OutputChoice::Default),
            ("none", OutputChoice::None),
            ("null", OutputChoice::Null { ppm: 0.0 }),
            ("null:+40", OutputChoice::Null { ppm: 40.0 }),
            ("null:-12.5", OutputChoice::Null { ppm: -12.5 }),
            ("file:/tmp/a b:c.wav", OutputChoice::File("/tmp/a b:c.wav".into())),
            ("hw:CARD=PCH,DEV=0", OutputChoice::Device("hw:CARD=PCH,DEV=0".into())),
            ("Null", OutputChoice::Device("Null".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(choice(text), expected);
            assert_eq!(expected.to_string(), text);
        }
        assert_eq!(choice(" null:0 ").to_string(), "null");
    }

    #[test]
    fn what_names_no_output_is_refused_with_what_would() {
        let refusal = |text: &str| text.parse::<OutputChoice>().expect_err("refused").to_string();
        for text in ["null:", "null:fast", "null:NaN", "null:inf", "null:-1000.5"] {
            assert!(refusal(text).contains("null:+40"), "{text}");
        }
        assert!(refusal("file:").contains("file:/tmp/out.wav"));
        assert!(refusal("file").contains("file:/tmp/out.wav"));
        for text in ["", "  ", "a\nb"] {
            assert!(refusal(text).contains("groovebox outputs"), "{text:?}");
        }
    }

    #[test]
    fn no_output_never_opens() {
        let settings = OutputSettings { choice: OutputChoice::None, ..OutputSettings::default() };
        let mut sink = sink(&settings, || LocalTime(0));
        let opened = sink.open(&mut |_| panic!("never opened"));
        assert_eq!(opened.err(), Some(SinkError::Missing(None)));
    }
}

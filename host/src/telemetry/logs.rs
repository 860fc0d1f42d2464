//! Log records: one JSON object, or one line for people, on stderr. Every record bears `brand` and `component`.
//!
//! `component` is the room that speaks. What is logged is chosen where it is logged; nothing is collected here that was
//! not a field of an event.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, filter};

use crate::model::redaction::mask_text;
use crate::model::style::{self, Style};
use crate::model::text::{escape, escape_json};
use crate::model::{LogFormat, LogLevel};

/// The field that holds the effective configuration.
const CONFIGURATION: &str = "configuration";

/// The brand of every record.
const BRAND: &str = "brAInwav";

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Off => LevelFilter::OFF,
    }
}

/// Sends the process's log records to stderr. Without a format: lines for people on a terminal, JSON elsewhere.
///
/// Only this crate's records are written: those of libraries may hold what must not be logged. A second call changes
/// nothing.
pub fn init_logs(level: LogLevel, format: Option<LogFormat>) {
    let format = format.unwrap_or(if std::io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json });
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(style::is_styled(&std::io::stderr()))
        .event_format(Records { format })
        .with_filter(filter::dynamic_filter_fn(|metadata, _| {
            metadata.target().starts_with(CRATE) && *metadata.level() <= filter_of(current_level())
        }));
    set_log_level(level);
    // Fails only if a subscriber was installed before, which then stays.
    let _ = Registry::default().with(layer).try_init();
}

const CRATE: &str = "cortex_mcp";

/// The level in force, as its place in [`LEVELS`].
static LEVEL: AtomicU8 = AtomicU8::new(0);

const LEVELS: [LogLevel; 6] =
    [LogLevel::Off, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

/// Writes records of this level and above from now on.
pub fn set_log_level(level: LogLevel) {
    let place = LEVELS.iter().position(|known| *known == level).unwrap_or(0);
    LEVEL.store(u8::try_from(place).unwrap_or(0), Ordering::Relaxed);
}

fn current_level() -> LogLevel {
    LEVELS.get(usize::from(LEVEL.load(Ordering::Relaxed))).copied().unwrap_or_default()
}

struct Records {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Records
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).map_err(|_| fmt::Error)?;
        let component = component(event.metadata().target());
        let mut fields = Fields::default();
        event.record(&mut fields);
        match self.format {
            LogFormat::Json => {
                let mut record = Map::new();
                record.insert("timestamp".into(), now.into());
                record.insert("level".into(), event.metadata().level().as_str().to_ascii_lowercase().into());
                record.insert("brand".into(), BRAND.into());
                record.insert("component".into(), component.into());
                record.insert("message".into(), fields.message.into());
                record.extend(fields.others);
                writeln!(writer, "{}", escape_json(&Value::Object(record).to_string()))
            }
            LogFormat::Pretty => {
                let level = event.metadata().level();
                let (on, off) =
                    if writer.has_ansi_escapes() { (style_of(*level).sequence(), style::RESET) } else { ("", "") };
                let message = escape(&fields.message);
                write!(writer, "{} {on}{level:>5}{off} {component}: {message}", &now[11..19])?;
                for (name, value) in &fields.others {
                    match value {
                        Value::String(text) => write!(writer, " {name}={}", escape(text))?,
                        other => write!(writer, " {name}={}", escape_json(&other.to_string()))?,
                    }
                }
                writeln!(writer)
            }
        }
    }
}

fn component(target: &str) -> &str {
    target.strip_prefix(CRATE).and_then(|rest| rest.split("::").nth(1)).unwrap_or("gateway")
}

fn style_of(level: Level) -> Style {
    match level {
        Level::ERROR => Style::Error,
        Level::WARN => Style::Warning,
        Level::INFO => Style::Success,
        _ => Style::Faint,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = mask_text(&format!("{value:?}"));
        } else {
            let text = format!("{value:?}");
            // The effective configuration, which holds no secrets, stays a document.
            let document = (field.name() == CONFIGURATION).then(|| serde_json::from_str(&text).ok()).flatten();
            self.put(field, document.unwrap_or_else(|| mask_text(&text).into()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, mask_text(value).into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn documents_of_others_are_masked_and_escaped_as_text() {
        for format in [LogFormat::Json, LogFormat::Pretty] {
            let written = Written::default();
            let writer = written.clone();
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(move || writer.clone())
                .with_ansi(false)
                .event_format(Records { format });
            tracing::subscriber::with_default(Registry::default().with(layer), || {
                let document = r#"{"token":"canary","text":"ghp_canary0123456789\u202e"}"#;
                tracing::info!(%document, text = document, "read {document}");
                tracing::info!(configuration = %r#"{"log-level":"info"}"#, "effective configuration");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("canary"), "{text}");
            let is_document =
                text.contains(r#"configuration":{"log-level"#) || text.contains(r#"configuration={"log-level"#);
            assert!(is_document && text.contains("***"), "{text}");
        }
    }
}

//! The text formats that metrics are served in, and which one a client gets.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use prometheus_client::encoding::{prometheus_text, text};

use super::MetricRegistry;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The Prometheus text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0, for clients that ask for it.
    OpenMetrics,
}

impl MetricsFormat {
    /// Returns the format that the `Accept` headers of a request ask for: OpenMetrics if it is named and nothing says
    /// that plain text is preferred.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let (mut open, mut plain) = (0.0, 0.0);
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let (mut quality, mut is_known_version) = (1.0, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim() {
                    "q" | "Q" => quality = value.parse::<f32>().unwrap_or(0.0),
                    "version" => is_known_version = value == OPEN_METRICS_VERSION,
                    _ => {}
                }
            }
            if media_type.eq_ignore_ascii_case("application/openmetrics-text") && is_known_version {
                open = f32::max(open, quality);
            } else if media_type.eq_ignore_ascii_case("text/plain") {
                plain = f32::max(plain, quality);
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the content type of a text in this format.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }
}

/// The version of OpenMetrics that is written.
const OPEN_METRICS_VERSION: &str = "1.0.0";

/// Returns everything in these registries, as one text.
pub(crate) fn encode(format: MetricsFormat, registries: [&MetricRegistry; 2]) -> String {
    let mut written = String::new();
    for registry in registries {
        // Writing to a string does not fail.
        let _ = match format {
            MetricsFormat::Prometheus => prometheus_text::encode(&mut written, registry),
            MetricsFormat::OpenMetrics => text::encode_registry(&mut written, registry),
        };
    }
    if format == MetricsFormat::OpenMetrics {
        let _ = text::encode_eof(&mut written);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    mod accepted {
        use super::*;

        fn of(values: &[&'static str]) -> MetricsFormat {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            MetricsFormat::accepted(&headers)
        }

        #[test]
        fn is_plain_text_unless_openmetrics_is_named() {
            for values in
                [&[][..], &["*/*"], &["text/plain"], &["application/json"], &["text/plain;version=0.0.4, */*"]]
            {
                assert_eq!(of(values), MetricsFormat::Prometheus, "{values:?}");
            }
        }

        #[test]
        fn is_openmetrics_where_a_scraper_prefers_it() {
            let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                              version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
            for values in
                [&[prometheus][..], &["application/openmetrics-text"], &["*/*", "Application/OpenMetrics-Text; q=1"]]
            {
                assert_eq!(of(values), MetricsFormat::OpenMetrics, "{values:?}");
            }
        }

        #[test]
        fn is_plain_text_where_that_is_preferred_or_the_version_is_unknown() {
            for values in [
                "application/openmetrics-text;q=0.2, text/plain;q=0.9",
                "application/openmetrics-text;q=0",
                "application/openmetrics-text; version=9.0.0",
                "application/openmetrics-text; version=\"0.0.1\"",
            ] {
                assert_eq!(of(&[values]), MetricsFormat::Prometheus, "{values}");
            }
        }
    }
}

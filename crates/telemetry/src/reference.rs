//! The reference pages that are generated from the code: `docs/close-reasons.md` and `docs/metrics.md`.
//! They are committed; the tests here compare them, and write them when `PORTCULLIS_WRITE_DOCS` is set.

use std::fmt::Write as _;

use crate::close::{CloseReason, Farewell};
use crate::names;

/// `docs/close-reasons.md`.
pub fn close_reasons() -> String {
    let mut page = String::from(
        "# Why connections end\n\n\
         Every client connection ends for exactly one of these reasons. It is the field `reason` of its line \
         in the access log and the label `reason` of `portcullis_connections_closed_total`. `client gets` is how \
         the client's socket ends: FIN after a whole stream and after a policy's refusal, RST after anything \
         else, so that a cut stream never looks complete. `next member` says whether another member of the pool \
         is tried first.\n\n\
         | reason | fault | level | client gets | next member | code |\n|---|---|---|---|---|---|\n",
    );
    for reason in CloseReason::ALL {
        let farewell = match reason.farewell() {
            Farewell::Fin => "FIN",
            Farewell::Reset => "RST",
        };
        let retry = if reason.retryable() { "yes" } else { "" };
        let code = reason
            .code()
            .map_or(String::new(), |code| format!("`{code}`"));
        let (fault, level) = (
            reason.fault().label(),
            reason.level().as_str().to_ascii_lowercase(),
        );
        writeln!(
            page,
            "| `{reason}` | {fault} | {level} | {farewell} | {retry} | {code} |"
        )
        .expect("writing to a String cannot fail");
    }
    page
}

/// `docs/metrics.md`.
pub fn metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         In the OpenMetrics text format. Counters have `_total` behind the name, histograms `_bucket`, `_sum` \
         and `_count`.\n\n| name | meaning |\n|---|---|\n",
    );
    for (name, help) in names::ALL {
        writeln!(page, "| `{}_{name}` | {help} |", names::PREFIX)
            .expect("writing to a String cannot fail");
    }
    page
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn same(name: &str, page: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs")
            .join(name);
        if std::env::var_os("PORTCULLIS_WRITE_DOCS").is_some() {
            std::fs::write(&path, page).expect("writable");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == page,
            "docs/{name} is not what the code says; set PORTCULLIS_WRITE_DOCS=1 and run again"
        );
    }

    #[test]
    fn committed_pages_are_what_the_code_says() {
        same("close-reasons.md", &close_reasons());
        same("metrics.md", &metrics());
    }
}

//! The report as one HTML file that needs nothing else.

use std::fmt::Write;

use crate::exchange::Exchange;
use crate::outcome::Verdict;
use crate::report::{CheckReport, Report};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#1b1f24;background:#fff}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #d0d7de}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25em .6em}\
details{border:1px solid #d0d7de;border-radius:6px;margin:.4em 0;padding:.4em .8em}\
summary{cursor:pointer}.v{display:inline-block;min-width:7.5em;font-weight:600}\
.passed{color:#1a7f37}.failed{color:#cf222e}.warning{color:#9a6700}.not-supported,.skipped{color:#57606a}\
code,pre{font:13px ui-monospace,monospace}pre{white-space:pre-wrap;word-break:break-all;margin:0}\
.x td{border-top:1px solid #eaeef2}.id{color:#57606a}\
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}h2,details,.x td{border-color:#30363d}}";

/// Text with what HTML reads as markup replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The class of a verdict in the style sheet.
fn class(verdict: Verdict) -> String {
    verdict.name().replace(' ', "-")
}

impl Report {
    /// The whole report as an HTML document.
    pub fn html(&self) -> String {
        let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        let _ = write!(
            html,
            "<title>Validation of {}</title><style>{STYLE}</style></head><body>",
            escape(&self.unit.product)
        );
        let _ = write!(html, "<h1>Storage validation</h1><pre>{}</pre>", escape(&self.heading()));
        let _ = write!(html, "<p><strong>{}</strong></p>", escape(&self.summary()));
        let _ = write!(html, "<p>{}</p>", escape(&self.permissions()));
        for (group, checks) in self.by_group() {
            let _ = write!(html, "<h2>{group}</h2>");
            checks.iter().for_each(|check| html.push_str(&check.html()));
        }
        html.push_str("</body></html>\n");
        html
    }

    fn permissions(&self) -> String {
        let reservations = if self.reservations {
            "Reservations were made and removed."
        } else {
            "No reservations were made."
        };
        let scratch = match self.scratch {
            Some((lba, blocks)) => format!("{blocks} blocks from block {lba} on were overwritten."),
            None => "Nothing was written.".to_owned(),
        };
        format!("{} nexuses as {}. {reservations} {scratch}", self.nexuses, self.initiators.join(", "))
    }
}

impl CheckReport {
    fn html(&self) -> String {
        let open = if self.verdict == Verdict::Failed { " open" } else { "" };
        let mut html = format!(
            "<details{open}><summary><span class=\"v {}\">{}</span> {} <code class=\"id\">{}</code></summary>",
            class(self.verdict),
            self.verdict.name(),
            escape(self.title),
            self.id
        );
        for detail in &self.details {
            let _ = write!(html, "<p>{}</p>", escape(detail));
        }
        let _ = write!(html, "<p>{} · {} ms</p>", escape(self.clause), self.milliseconds);
        if !self.exchanges.is_empty() {
            html.push_str("<table><tr><th>Nexus</th><th>Sent</th><th>Came back</th></tr>");
            self.exchanges.iter().for_each(|exchange| html.push_str(&exchange.html()));
            html.push_str("</table>");
        }
        if self.exchanges_not_kept > 0 {
            let _ = write!(html, "<p>and {} more</p>", self.exchanges_not_kept);
        }
        html.push_str("</details>\n");
        html
    }
}

impl Exchange {
    fn html(&self) -> String {
        format!(
            "<tr class=\"x\"><td>{}</td><td>{}<pre>{}\n{}</pre></td><td>{} {}<pre>{}</pre>{} µs</td></tr>",
            escape(&self.nexus),
            escape(&self.command),
            escape(&self.cdb),
            escape(&self.data_out),
            escape(&self.status),
            escape(&self.sense),
            escape(&self.data_in),
            self.microseconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_array_calls_itself_is_no_markup() {
        assert_eq!(escape("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(class(Verdict::NotSupported), "not-supported");
    }
}

//! The page: HTML, CSS and JS of the folder `page`, with the data between them.

use std::io;

use super::model::Timeline;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they use each other.
const SCRIPTS: [&str; 5] = [
    include_str!("page/data.js"),
    include_str!("page/axis.js"),
    include_str!("page/chart.js"),
    include_str!("page/panels.js"),
    include_str!("page/start.js"),
];

/// The page of a timeline: one file that needs nothing else.
///
/// # Errors
/// None for a timeline of this crate.
pub fn timeline_html(timeline: &Timeline) -> io::Result<String> {
    let data = in_script(&serde_json::to_string(timeline)?);
    let parts = [
        ("TITLE", escaped(&timeline.scenario)),
        ("STYLE", STYLE.to_owned()),
        ("DATA", data),
        ("SCRIPT", SCRIPTS.concat()),
    ];
    // One pass over the page, so that nothing in what is put in is taken for a place.
    let mut out = String::new();
    let mut rest = PAGE;
    for (name, text) in parts {
        let place = format!("<!--{name}-->");
        let (before, after) = rest.split_once(&place).unwrap_or((rest, ""));
        out.push_str(before);
        out.push_str(&text);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// JSON as it may stand in a script element: `</script>` and `<!--` are only there as
/// escapes, which JSON reads back as the same.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e")
}

/// Text as it may stand in an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_input_ends_an_element_or_begins_one() {
        let bad = "</script><script>alert(1)</script><!--STYLE--><!--DATA-->";
        let timeline = Timeline {
            scenario: bad.to_owned(),
            description: bad.to_owned(),
            nodes: vec![bad.to_owned()],
            ..Timeline::default()
        };
        let page = timeline_html(&timeline).unwrap();
        assert!(!page.contains("alert(1)</script>") && !page.contains("<script>alert"));
        assert_eq!(page.matches("</script>").count(), 2);
        let begin = page.find("application/json\">").unwrap() + "application/json\">".len();
        let end = begin + page[begin..].find("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(&page[begin..end]).unwrap();
        assert_eq!(data["nodes"][0], bad);
        assert_eq!(data["description"], bad);
    }

    #[test]
    fn the_page_has_all_its_parts_and_asks_nothing_of_a_network() {
        let page = timeline_html(&Timeline::default()).unwrap();
        for part in SCRIPTS.iter().chain([&STYLE]) {
            assert!(page.contains(part));
        }
        for place in ["TITLE", "STYLE", "DATA", "SCRIPT"] {
            assert!(!page.contains(&format!("<!--{place}-->")), "{place}");
        }
        // A namespace is a name that nobody fetches.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for far in ["http:", "https:", "src=", "url(", "@import", "fetch("] {
            assert!(!page.contains(far), "{far}");
        }
    }
}

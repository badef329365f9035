//! The status page as a browser shows it: a headless Chromium at two widths and in both colour schemes, in front of a relay with all
//! that the page can show. The pictures are left in target/tmp.

use crate::admin::start;
use crate::common::{Browser, Client, Relay, Setup, Sink, Stage, say};
use crate::message;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// Names as long as somebody may make them.
const LONG: &str = "international-holding-company-of-many-subsidiaries-and-more-7";
const REASON: &str = "ticket-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789";

struct Street {
    _next_hop: Sink,
    _archives: [Sink; 2],
    relay: Relay,
    admin: SocketAddr,
}

/// A relay with records that wait and others that failed, a switch that is off, and two archives of which one is down.
fn busy() -> Street {
    let next_hop = Sink::start();
    let refusing = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("550 5.1.1 there-is-no-such-journal-here-0123456789-0123456789-0123456789-0123456789"),
        _ => None,
    });
    let mut down = Sink::start();
    down.down();
    let mut setup = Setup::new(&next_hop, &refusing).and(&format!("b{LONG}"), &["globex.example"], &down);
    setup.organizations[0].name = LONG.into();
    setup.organizations[0].more = format!(
        "also = [{{ journaling_address = \"second-archive@vault.example\", journaling_route = {:?} }}]",
        down.route()
    );
    setup.organizations[1].more = format!("journaling = false\nswitch_reason = \"{REASON}\"");
    setup.listener =
        format!("[[listener]]\nname = \"{LONG}\"\naddress = \"127.0.0.1:0\"\nnext_hop = {:?}\n", next_hop.route());
    let (relay, admin) = start(setup);
    let mut client = Client::ehlo(relay.address());
    for number in 0..4 {
        client.mail("alice@example.org", &["bob@example.net"], &message(&format!("page-{number}"))).starts("250");
    }
    relay.wait_events("record.failed", 4);
    relay.wait_event("route.state", |event| event.text("state") == "down");
    Street { _next_hop: next_hop, _archives: [refusing, down], relay, admin }
}

/// Every text that is hard to read: its contrast with what is behind it is below 4.5 (WCAG 2, success criterion 1.4.3).
const PALE: &str = r#"
const channels = text => (text.match(/[\d.]+/g) || []).map(Number);
const luminance = rgb => { const [r, g, b] = rgb.slice(0, 3).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = element => { for (let e = element; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
const found = { looked: 0, pale: [] };
for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
    if (!text || !element.getClientRects().length) continue;
    found.looked += 1;
    const [one, other] = [luminance(channels(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) found.pale.push(`${element.tagName} ${element.className} ${contrast.toFixed(2)}: ${text.slice(0, 40)}`);
}
return found;
"#;

/// What stands out of the page at the right, and how wide that makes it.
const WIDE: &str = r#"
const root = document.documentElement;
const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > root.clientWidth + 0.5
    && getComputedStyle(e).position !== 'absolute' && !e.closest('thead'));
return { scroll: root.scrollWidth, client: root.clientWidth, out: out.map(e => `${e.tagName} ${e.className}: ${e.textContent.slice(0, 40)}`) };
"#;

fn width_of(browser: &Browser) -> Value {
    browser.devtools("Page.getLayoutMetrics", json!({}))["cssContentSize"]["width"].clone()
}

#[test]
fn the_page_fits_a_telephone_and_a_desk_in_light_and_dark_and_asks_nobody_else() {
    let Some(browser) = Browser::start() else { return };
    let street = busy();
    let url = format!("http://{}/", street.admin);
    street.relay.poll("the gap", || crate::admin::get(street.admin, "/status").1.contains(REASON).then_some(()));
    let mut papers = Vec::new();
    for (width, scheme) in [(360, "light"), (360, "dark"), (1_280, "light"), (1_280, "dark")] {
        let what = format!("{width} {scheme}");
        browser.look(width, scheme);
        browser.open(&url);
        for (number, octets) in (1..).zip(browser.pictures(1_200)) {
            let picture = format!("status-{width}-{scheme}-{number}.png");
            std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(picture), octets).unwrap();
        }
        let wide = browser.run(WIDE);
        assert_eq!(wide["client"], width, "{what}");
        assert!(wide["scroll"] == width && wide["out"] == json!([]), "{what}: {wide}");
        let pale = browser.run(PALE);
        assert!(pale["looked"].as_u64().unwrap() > 40 && pale["pale"] == json!([]), "{what}: {pale}");
        let text = browser.run("return document.body.innerText");
        for shown in [LONG, REASON, "there-is-no-such-journal-here", "down", "lasts"] {
            assert!(text.as_str().unwrap().contains(shown), "{what}: no {shown:?} in {text}");
        }
        let picture = browser.run(
            "const s = document.querySelector('svg'), r = s.getBoundingClientRect(); \
             return [s.getAttribute('role'), s.getAttribute('aria-label'), r.width > 300, r.height > 50]",
        );
        assert!(picture[0] == "img" && picture[2] == true && picture[3] == true, "{what}: {picture}");
        assert!(picture[1].as_str().unwrap().contains("4 now"), "{what}: {picture}");
        papers.push(browser.run("return getComputedStyle(document.body).backgroundColor").to_string());
        let requests = browser.requests();
        assert!(requests.iter().any(|asked| *asked == format!("{url}style.css")), "{requests:?}");
        let elsewhere: Vec<_> =
            requests.iter().filter(|asked| !asked.starts_with(&url) && !asked.starts_with("data:")).collect();
        assert!(elsewhere.is_empty(), "{what}: {elsewhere:?}");
        assert_eq!(browser.log("browser"), Vec::<Value>::new(), "{what}: the console");
    }
    assert!(papers[0] == papers[2] && papers[1] == papers[3] && papers[0] != papers[1], "{papers:?}");
    // Without scripts nothing is missing: it has none.
    assert_eq!(browser.run("return document.scripts.length"), 0);
    let text = browser.run("return document.body.innerText.length").as_u64().unwrap();
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    for width in [360, 1_280] {
        browser.look(width, "light");
        browser.open(&url);
        assert_eq!(width_of(&browser), width, "without scripts");
    }
    let root = browser.devtools("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
    let html = browser.devtools("DOM.getOuterHTML", json!({ "nodeId": root })).to_string();
    assert!(html.len() as u64 > text && html.contains(LONG) && html.contains("</footer>"), "{html}");
}

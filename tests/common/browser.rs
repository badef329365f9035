//! A headless Chromium, driven through chromedriver by plain WebDriver (<https://www.w3.org/TR/webdriver2/>), JSON over HTTP on
//! loopback. It asks nobody but the page's own host: what it asks is in its log.

use super::{PATIENCE, Program, free_port, gave_up, installed, pause};
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Nothing of its own: no updates, no accounts, no guesses what comes next.
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
];

/// The browser with its one page; it ends when this is dropped.
pub struct Browser {
    _driver: Program,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// None where it is not installed, which is said, or a failure where it is required.
    pub fn start() -> Option<Self> {
        if !installed(&["chromium", "chromedriver"]) {
            return None;
        }
        let profile = tempfile::tempdir().expect("a temporary directory");
        let address = free_port(Ipv4Addr::LOCALHOST);
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", address.port())).env("HOME", profile.path());
        let driver = Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let deadline = Instant::now() + PATIENCE;
        while !ask(address, "GET", "/status", None).is_ok_and(|status| status["value"]["ready"] == true) {
            if Instant::now() > deadline {
                gave_up("chromedriver", &address);
            }
            pause();
        }
        let directory = format!("--user-data-dir={}", profile.path().join("profile").display());
        let arguments: Vec<_> = ARGUMENTS.iter().map(|argument| (*argument).to_owned()).chain([directory]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let begun = ask(address, "POST", "/session", Some(&wanted)).expect("a session");
        let session = begun["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {begun}")).to_owned();
        let browser = Self { _driver: driver, address, session, _profile: profile };
        // What it shows of itself at its start is none of the page's.
        browser.open("about:blank");
        browser.requests();
        browser.log("browser");
        Some(browser)
    }

    /// Goes there and waits until all of it has come.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.call("url", &json!({ "url": url }));
    }

    /// What a function's body returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.call("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The window's width, and whether the reader likes it dark.
    #[track_caller]
    pub fn look(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        self.devtools("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", scheme);
    }

    /// The page as PNGs, from its top to its end, each of this height.
    #[track_caller]
    pub fn pictures(&self, height: u64) -> Vec<Vec<u8>> {
        let size = self.devtools("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let tops = (0..size["height"].as_f64().unwrap_or(0.0) as u64).step_by(height as usize);
        tops.map(|top| {
            let clip = json!({ "x": 0, "y": top, "width": size["width"], "height": height, "scale": 1 });
            let taken = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true, "clip": clip }));
            let text = taken["data"].as_str().unwrap_or_else(|| panic!("no picture: {taken}"));
            base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
        })
        .collect()
    }

    /// What was written to this log since the last look: `browser` (the console) or `performance` (DevTools' events).
    #[track_caller]
    pub fn log(&self, kind: &str) -> Vec<Value> {
        self.call("se/log", &json!({ "type": kind })).as_array().cloned().unwrap_or_default()
    }

    /// Every URL that was asked for since the last look.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        let events = self.log("performance");
        let events = events.iter().filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok());
        let sent = events.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| Some(event["message"]["params"]["request"]["url"].as_str()?.to_owned())).collect()
    }

    #[track_caller]
    fn call(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        let answer = ask(self.address, "POST", &path, Some(body)).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(answer["value"]["error"].is_null(), "{command}: {answer}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; it is itself ended behind this.
        let _ = ask(self.address, "DELETE", &format!("/session/{}", self.session), None);
    }
}

/// One request, one answer.
fn ask(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    let head = loop {
        let mut octets = [0; 16 * 1024];
        let count = stream.read(&mut octets)?;
        answer.extend_from_slice(&octets[..count]);
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let mut rest = vec![0; (head + length.unwrap_or(0)).saturating_sub(answer.len())];
    stream.read_exact(&mut rest)?;
    answer.extend(rest);
    serde_json::from_slice(&answer[head..]).map_err(std::io::Error::other)
}

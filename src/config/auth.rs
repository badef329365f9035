//! `listener.auth`: whether clients may authenticate.

/// `listener.auth`: when AUTH is passed through to the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerAuth {
    /// Under TLS.
    #[default]
    Tls,
    /// In plain text too.
    Always,
    /// Never.
    Off,
}

impl ListenerAuth {
    /// Whether a client may authenticate now.
    pub fn allows(self, encrypted: bool) -> bool {
        match self {
            Self::Tls => encrypted,
            Self::Always => true,
            Self::Off => false,
        }
    }
}

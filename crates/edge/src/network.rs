//! Socket options that the configuration chooses: for clients, agents and upstreams alike.
//!
//! Must never: fail a connection over an option that its start has checked.

use std::os::fd::AsFd;
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_net::socket::{set_congestion, set_user_timeout};

/// Options of every TCP socket of the node; what is absent is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The congestion control, such as `bbr` or `cubic`.
    pub congestion_control: Option<String>,
    /// How long sent bytes may stay without an answer before the connection counts as dead.
    pub user_timeout: Option<Duration>,
}

impl Network {
    /// Sets them on a socket; on a listener its connections inherit them.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID`, with what the kernel has instead.
    pub fn apply(&self, socket: impl AsFd) -> Result<(), Error> {
        let refused = |key: &str, error: &dyn std::error::Error| {
            Error::new(Code::ConfigInvalid, format!("network.{key}: {error}"))
        };
        let socket = socket.as_fd();
        if let Some(name) = &self.congestion_control {
            set_congestion(socket, name).map_err(|error| refused("congestion_control", &error))?;
        }
        if let Some(timeout) = self.user_timeout {
            set_user_timeout(socket, timeout).map_err(|error| refused("user_timeout", &error))?;
        }
        Ok(())
    }

    /// The same for a socket in use, which does without what it cannot have.
    pub(crate) fn try_apply(&self, socket: impl AsFd) {
        if let Err(error) = self.apply(socket) {
            tracing::debug!(%error, "socket option not set");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_not_is_named_with_its_key() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let network = |name: &str| Network {
            congestion_control: Some(name.to_owned()),
            user_timeout: Some(Duration::from_secs(30)),
        };
        network("reno").apply(&socket).expect("every kernel has it");
        let error = network("warp").apply(&socket).expect_err("no such thing");
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(
            error.message.contains("network.congestion_control") && error.message.contains("reno"),
            "{error}"
        );
    }
}

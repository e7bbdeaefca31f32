//! How connections of a session move between its carriers and its channels.
//!
//! Must never: wait; a connection that finds no channel stays where it is.

use std::sync::Arc;

use portcullis_net::channel::{AbortHandle, Channel, Exchange, OnCarrier, Settling};
use portcullis_net::task;
use portcullis_proto::Leg;
use tokio::runtime::Handle;

use crate::sessions::Session;

impl Exchange for Session {
    fn take(&self, again: bool) -> Option<Channel> {
        let channel = self.channels.take_now(again)?;
        self.carriers.promoted();
        Some(channel)
    }

    fn resume(&self, from: Leg) -> Option<OnCarrier> {
        let leg = self.carriers.resume(from)?;
        self.carriers.returned();
        Some(leg)
    }

    fn began(&self, at: Leg, handle: AbortHandle) {
        self.channels.began(at.link, at.open, handle);
    }

    fn give_back(self: Arc<Self>, settling: Settling) {
        settle(&self, settling);
    }
}

/// Settles an open on a channel with the agent, and gives the channel back. That takes as long as the
/// agent's upstream needs for its last bytes (bounded in `net`), so it runs in a task.
pub(crate) fn settle(session: &Arc<Session>, settling: Settling) {
    let session = Arc::clone(session);
    // Without a runtime there is nobody to settle it; the channel is dropped.
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    drop(task::spawn_on(&runtime, "recycle", async move {
        let channel = settling.channel();
        let finished = settling.finish().await;
        if let Some((channel, open)) = session.channels.finished(channel, finished) {
            session.abort(channel, open);
        }
    }));
}

//! Tells when addresses or interfaces change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::supervise::{Never, forever};

/// Changes come in bursts; what follows is read once, when one is over.
const SETTLE: Duration = Duration::from_millis(50);

/// A netlink connection: for questions, and for events.
#[derive(Debug)]
pub struct Follow {
    netlink: watch::Receiver<Handle>,
    changed: watch::Receiver<u64>,
    task: JoinHandle<Never>,
}

impl Follow {
    /// Connects, in the network namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let (handle, events) = connect()?;
        let (netlink, netlink_receiver) = watch::channel(handle);
        let (changes, changed) = watch::channel(0);
        let events = Arc::new(tokio::sync::Mutex::new(events));
        let (netlink, changes) = (Arc::new(netlink), Arc::new(changes));
        let task = tokio::spawn(forever("netlink", move || {
            let (netlink, changes) = (Arc::clone(&netlink), Arc::clone(&changes));
            let events = Arc::clone(&events);
            async move {
                let mut events = events.lock().await;
                loop {
                    while events.next().await.is_some() {
                        changes.send_modify(|count| *count += 1);
                    }
                    // The connection broke: a new one, and look at everything again.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    match connect() {
                        Ok((handle, new)) => {
                            *events = new;
                            netlink.send_replace(handle);
                            changes.send_modify(|count| *count += 1);
                        }
                        Err(error) => {
                            tracing::warn!("netlink: {error}; interfaces are not followed");
                        }
                    }
                }
            }
        }));
        Ok(Self {
            netlink: netlink_receiver,
            changed,
            task,
        })
    }

    /// Where to ask.
    pub fn netlink(&self) -> Handle {
        self.netlink.borrow().clone()
    }

    /// Returns when the kernel has told of a change since the last time, or after a while at the latest. Whether it has
    /// told.
    pub async fn changed(&mut self, at_most: Duration) -> bool {
        let told = tokio::time::timeout(at_most, self.changed.changed()).await;
        let has_changed = matches!(told, Ok(Ok(())));
        if has_changed {
            tokio::time::sleep(SETTLE).await;
            self.changed.mark_unchanged();
        }
        has_changed
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn connect() -> io::Result<(
    Handle,
    impl futures_util::Stream<Item = impl Sized> + Unpin + Send + use<>,
)> {
    let (connection, handle, events) = new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])?;
    tokio::spawn(connection);
    Ok((handle, events))
}

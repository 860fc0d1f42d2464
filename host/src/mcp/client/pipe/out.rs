//! The way out: lines that one writer writes in order, or posts of their own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use super::desk::Stage;
use super::lines::one_line;
use crate::mcp::client::tidying::Tidying;
use crate::mcp::client::transport::Transport;
use crate::mcp::client::{exchange, stream};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::limits::PIPE_POSTS;

/// A message that waits for the writer.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) bytes: Bytes,
    /// Whether it is still wanted; none: always.
    pub(super) stage: Option<Arc<Stage>>,
}

/// The way out of one pipe. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Out {
    /// To a child's standard input.
    Lines(mpsc::Sender<Line>),
    /// To where a stream of 2024-11-05 said.
    Posts(Arc<Posts>),
}

/// Where messages are posted.
#[derive(Debug)]
pub(super) struct Posts {
    transport: Arc<Transport>,
    target: Url,
    tidying: Tidying,
    places: Arc<Semaphore>,
}

impl Posts {
    pub(super) fn new(transport: Arc<Transport>, target: Url, tidying: Tidying) -> Self {
        Self { transport, target, tidying, places: Arc::new(Semaphore::new(PIPE_POSTS)) }
    }

    async fn post(&self, message: Bytes) -> Result<(), WireError> {
        let response = self.transport.post_to(&self.target, message).await?;
        if !response.status.is_success() {
            return Err(exchange::status_error(&response));
        }
        stream::finish(&self.transport, response.body);
        Ok(())
    }
}

impl Out {
    /// Sends a message, unless `stage` says meanwhile that it is not wanted any more. To a child, it is on its way when
    /// this returns; a post was taken.
    ///
    /// # Errors
    /// [`ProtocolFault::NotWritten`] if the way is closed, or what the post failed with.
    pub(super) async fn send(&self, message: Bytes, stage: Option<Arc<Stage>>) -> Result<(), WireError> {
        match self {
            Self::Lines(lines) => {
                let line = Line { bytes: one_line(message), stage };
                lines.send(line).await.map_err(|_| ProtocolFault::NotWritten.into())
            }
            Self::Posts(posts) => {
                if stage.is_some_and(|stage| !stage.write()) {
                    return Err(ProtocolFault::NotWritten.into());
                }
                posts.post(message).await
            }
        }
    }

    /// Sends a message without waiting; false if there is no room for it.
    pub(super) fn send_soon(&self, message: Bytes) -> bool {
        match self {
            Self::Lines(lines) => lines.try_send(Line { bytes: one_line(message), stage: None }).is_ok(),
            Self::Posts(posts) => match posts.places.clone().try_acquire_owned() {
                Ok(place) => {
                    let sending = posts.clone();
                    posts.tidying.in_background(async move {
                        // A server that does not take it will not go on either, which is its own affair.
                        drop(sending.post(message).await);
                        drop(place);
                    });
                    true
                }
                Err(_) => false,
            },
        }
    }
}

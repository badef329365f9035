//! Octets between a session and its client.
//!
//! Promises: what is to be said never waits for an answer that is still to come, and what needs no waiting goes out in one
//! write (RFC 2920, section 3.2); no more than [`MAX_OUTPUT`] octets and one reply gather; a client that does not read is waited for
//! so long and then left.

use super::Gone;
use crate::smtp::{MAX_FEED, Session};
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use zeroize::Zeroize as _;

/// Octets for the client that may gather; with more they are written whatever else is to be done.
pub(super) const MAX_OUTPUT: usize = 64 * 1024;
/// For the client to take what is written at once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Writes what the client is to know.
///
/// # Errors
/// [`Gone::Client`] when the connection is broken, [`Gone::Deaf`] when the client takes nothing for too long.
pub(super) async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, output: &mut Vec<u8>) -> Result<(), Gone> {
    if output.is_empty() {
        return Ok(());
    }
    let written = timeout(WRITE_TIMEOUT, async {
        stream.write_all(output).await?;
        stream.flush().await
    })
    .await;
    if output.capacity() > MAX_OUTPUT {
        *output = Vec::new();
    }
    output.clear();
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Gone::Client),
        Err(_) => Err(Gone::Deaf),
    }
}

/// Waits for an answer. Where it has to be waited for, what the client is to know before it goes out meanwhile. The answer is
/// waited for whatever becomes of the client: it may be that to a final dot.
///
/// # Errors
/// Those of [`flush`].
pub(super) async fn meanwhile<S: AsyncWrite + Unpin, T>(
    stream: &mut S,
    output: &mut Vec<u8>,
    answer: impl Future<Output = T>,
) -> Result<T, Gone> {
    let mut answer = pin!(answer);
    if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
        return Ok(answer);
    }
    let (flushed, answer) = tokio::join!(biased; flush(stream, output), answer);
    flushed.map(|()| answer)
}

/// Feeds the session what the client has sent; how many octets, 0 at the end of the connection. The octets pass through
/// the stack of the poll that finds them, so that an idle session holds no buffer.
pub(super) async fn feed<S: AsyncRead + Unpin>(stream: &mut S, session: &mut Session) -> std::io::Result<usize> {
    poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); MAX_FEED];
        let mut buffer = ReadBuf::uninit(&mut room);
        Pin::new(&mut *stream).poll_read(context, &mut buffer).map_ok(|()| {
            let octets = buffer.filled_mut();
            session.feed(octets);
            // Where no message comes it may be a password.
            if !session.in_data() {
                octets.zeroize();
            }
            octets.len()
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_that_has_to_be_waited_for_lets_out_what_came_before_it() {
        let (mut stream, mut client) = tokio::io::duplex(100);
        let mut output = b"250 one\r\n".to_vec();
        assert_eq!(meanwhile(&mut stream, &mut output, async { 1 }).await.ok(), Some(1));
        assert_eq!(output, b"250 one\r\n", "it goes out with what follows");
        let (heard, hear) = oneshot::channel();
        let hearing = async {
            let mut room = [0; 9];
            client.read_exact(&mut room).await.unwrap();
            heard.send(room).unwrap();
        };
        let waiting = async { meanwhile(&mut stream, &mut output, hear).await.ok().unwrap().unwrap() };
        assert_eq!(tokio::join!(waiting, hearing).0, *b"250 one\r\n");
        assert!(output.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_left_and_the_answer_is_waited_for_all_the_same() {
        let (mut stream, _client) = tokio::io::duplex(1);
        let mut output = b"250 one\r\n".to_vec();
        let mut answered = false;
        let answer = async {
            tokio::time::sleep(2 * WRITE_TIMEOUT).await;
            answered = true;
        };
        assert!(matches!(meanwhile(&mut stream, &mut output, answer).await, Err(Gone::Deaf)));
        assert!(answered && output.is_empty());
    }

    #[tokio::test]
    async fn the_room_of_a_large_reply_is_given_back() {
        let mut output = vec![b'x'; 2 * MAX_OUTPUT];
        assert!(flush(&mut tokio::io::sink(), &mut output).await.is_ok());
        assert_eq!(output.capacity(), 0);
    }
}

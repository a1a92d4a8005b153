//! Sockets between two processes: whole messages, each with the descriptors that belong to it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

/// The most bytes of one message.
pub(crate) const MAX_MESSAGE: usize = 192 * 1024;
/// The most descriptors of one message; the system's own limit is 253.
pub(crate) const MAX_FILES: usize = 128;

/// Two connected sockets that nobody else can connect to.
///
/// They keep the bounds of messages, so that there is no half of one: it was sent, or it was not.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&one, &other] {
        // Room for two of the largest; the system may grant less, and then the second one waits.
        sockopt::set_socket_send_buffer_size(end, 3 * MAX_MESSAGE)?;
    }
    Ok((one, other))
}

/// Whether a call waits until it can be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

/// Sends one message.
///
/// # Errors
/// `WouldBlock` if there is no room for it and it may not wait; otherwise the other end is gone.
pub(crate) fn send(
    socket: impl AsFd,
    message: &[u8],
    files: &[BorrowedFd<'_>],
    wait: Wait,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors in one message"));
    }
    let mut flags = SendFlags::NOSIGNAL;
    if wait == Wait::No {
        flags |= SendFlags::DONTWAIT;
    }
    retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(message)], &mut control, flags))?;
    Ok(())
}

/// Receives one message into `buffer` and its descriptors into `files`. `Ok(None)`: the other end is gone.
///
/// # Errors
/// `WouldBlock` if there is none and it may not wait; `InvalidData` if it is larger than any that this crate sends.
pub(crate) fn receive<'b>(
    socket: impl AsFd,
    buffer: &'b mut [u8],
    files: &mut Vec<OwnedFd>,
    wait: Wait,
) -> io::Result<Option<&'b [u8]>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if wait == Wait::No {
        flags |= RecvFlags::DONTWAIT;
    }
    let received = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags));
    let received = match received {
        Ok(received) => received,
        // It ended before it had read what was sent to it.
        Err(Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too large"));
    }
    Ok(if received.bytes == 0 { None } else { Some(&buffer[..received.bytes]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_their_files() {
        let (one, other) = pair().expect("sockets");
        let (file, _) = pair().expect("something to send");
        send(&one, b"first", &[file.as_fd(), file.as_fd()], Wait::No).expect("room");
        send(&one, b"second", &[], Wait::No).expect("room");
        let (mut buffer, mut files) = ([0; 16], Vec::new());
        assert_eq!(receive(&other, &mut buffer, &mut files, Wait::Yes).expect("sent"), Some(&b"first"[..]));
        assert_eq!(files.len(), 2);
        assert_eq!(receive(&other, &mut buffer, &mut files, Wait::Yes).expect("sent"), Some(&b"second"[..]));
        let none = receive(&other, &mut buffer, &mut files, Wait::No).expect_err("nothing more");
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(receive(&other, &mut buffer, &mut files, Wait::Yes).expect("the end"), None);
    }

    #[test]
    fn two_of_the_largest_fit() {
        let (one, _other) = pair().expect("sockets");
        let largest = vec![7; MAX_MESSAGE];
        send(&one, &largest, &[], Wait::No).expect("room for one");
        let second = send(&one, &largest, &[], Wait::No);
        assert!(
            second.as_ref().is_ok() || second.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        );
    }

    #[test]
    fn what_is_too_large_is_an_error() {
        let (one, other) = pair().expect("sockets");
        send(&one, &[1; 17], &[], Wait::No).expect("room");
        let error = receive(&other, &mut [0; 16], &mut Vec::new(), Wait::Yes).expect_err("17 bytes");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

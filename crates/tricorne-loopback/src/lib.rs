//! An HTTP/1.1 server on the loopback address that misbehaves on request, for the demo and tests

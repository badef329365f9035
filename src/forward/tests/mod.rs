//! Conversations with a scripted server.

//! The store against a model, with damage and with a disk that fails.

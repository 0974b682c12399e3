//! A little of every family; the scenario `families` runs them.

pub(crate) mod mq;
pub(crate) mod msg;
pub(crate) mod sem;
pub(crate) mod shm;
pub(crate) mod sig;

//! The store from outside: producers, readers, crashes, limits, against a folder, memory, and storage that fails.

mod crash;
mod faulty;
mod lifecycle;
mod limits;
mod live;
mod reading;
mod rig;
mod secrecy;

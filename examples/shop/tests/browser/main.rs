//! Drives the shop in a real browser. The shop is a process of its own, and webhooks come over HTTP.

mod chrome;
mod crash;
mod demonstration;
mod follow;
mod keyboard;
mod layout;
mod login;
mod many;
mod operator;
mod process;
mod security;
mod states;

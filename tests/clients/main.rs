//! Real clients through the real binary, and what the store holds afterwards: curl, wget, git, Python (urllib, requests,
//! httpx, aiohttp, pip, gRPC, websockets, mitmproxy), Node.js and npm, Java, Go, Ruby, PHP, cargo, Chromium and Firefox, with
//! servers that are none of ours where HTTP/2 is spoken. Also what is made for shells, for readers of the manual and for
//! systemd, as they read it.
//!
//! Not part of plain `cargo test`, which needs nothing but cargo: `tests/run` installs the clients and then runs
//! `cargo test --features clients --test clients`. Where a client is missing its tests fail and say what to install; they
//! never skip. Each test has its own origin, proxy, CA and store, on ports of their own, and talks to loopback only.

mod harness;

mod browsers;
mod chromium;
mod chromium_http2;
mod curl;
mod curl_http2;
mod env;
mod exported;
mod exported_files;
mod full_disk;
mod grpc;
mod har;
mod httpx;
mod kill;
mod kill_store;
mod mitmproxy;
mod modes;
mod node;
mod node_http2;
mod python;
mod quick_start;
mod run;
mod runtimes;
mod serve;
mod setup_page;
mod shell;
mod transparent;
mod trust;
mod websocket;

//! How it was measured.

use std::fmt::Write;

use crate::contender::ALL;
use crate::findings::Findings;
use crate::{foreign, machine};

pub fn section(text: &mut String, findings: &Findings) {
    let effort = findings.effort;
    text.push_str(
        "\n## How it was measured\n\n\
         - **Contenders.** All Rust contenders parse the same `PaymentRequest`. The others parse into untyped \
         values, which is less work. Every response is checked: 200 to a good call, 4xx to a forged one.\n",
    );
    for contender in &ALL {
        let _ = writeln!(text, "  - {}: {}.", contender.name, contender.how);
    }
    for foreign in &foreign::ALL {
        let _ = writeln!(text, "  - {}: {}.", foreign.name, foreign.how);
    }
    let _ = write!(
        text,
        "- **Rounds.** Each round runs all contenders one right after the other, in another order each time. \
         A ratio is taken within a round, so that a swing of the machine hits both sides of it. All processes \
         are started afresh {} times in a run, because each start gets another memory layout. Up to {} runs are \
         made, until all ratios of the last two agree within 5 %.\n\
         - **In process.** The routers are called without a socket, 4 calls at a time, in {} rounds. Making the \
         requests is not timed. HMAC + parse is a prepared HMAC-SHA1 and `serde_json::from_str`, and nothing else. \
         The cost of a byte is the slope of a line fitted to all sizes by least squares of the relative errors.\n\
         - **End to end.** The load generator (`load.rs`) keeps its connections open, each with one call in \
         flight. It checks each response, mixes good and forged calls, and costs less than any server here. \
         The server has one core, the client the other. There are {} rounds with windows of {} ms, each after {} ms \
         of warm-up, and Node and Python get {} s of practice after each start. CPU time is what the scheduler \
         counted for all threads of the server, including time in the kernel. A server that does not use its whole core \
         is faster than its client. Every server uses one thread.\n\
         - **Memory.** `RssAnon` of the server: the memory that the process has allocated and touched, including hyper's and the \
         allocator's, but not the kernel's socket buffers. For stalled senders, glibc is told to return freed \
         memory at once, so that only memory in use is counted.\n\n\
         To reproduce this, on Linux with two idle cores: \
         `cargo run --release --manifest-path benches/rivals/Cargo.toml -- report`.\n\n\
         Versions: {}.\n",
        effort.starts,
        effort.most_runs,
        findings.in_process.rounds(),
        findings.end_to_end.rounds(),
        effort.window.as_millis(),
        effort.warm_up.as_millis(),
        effort.practice.as_secs_f64(),
        machine::versions().join(", ")
    );
}

//! All that a run measures.

use std::io;
use std::time::Instant;

use crate::connections::Connections;
use crate::effort::Effort;
use crate::end_to_end::EndToEnd;
use crate::flood::Flood;
use crate::in_process::InProcess;
use crate::machine;
use crate::process::apart;
use crate::stalled::Stalled;

pub struct Findings {
    pub effort: &'static Effort,
    /// Of the machine, before this run.
    pub load: String,
    pub in_process: InProcess,
    pub end_to_end: EndToEnd,
    pub connections: Connections,
    pub flood: Flood,
    pub stalled: Stalled,
}

impl Findings {
    pub fn gather(effort: &'static Effort) -> io::Result<Self> {
        let (began, load) = (Instant::now(), machine::load());
        let said = |what| eprintln!("{:>4} s  {what}", began.elapsed().as_secs());
        apart(|| {
            said("in process");
            let in_process = InProcess::measure(effort)?;
            said("end to end");
            let end_to_end = EndToEnd::measure(effort)?;
            said("connections");
            let connections = Connections::measure(effort)?;
            said("forged flood");
            let flood = Flood::measure(effort)?;
            said("stalled senders");
            let stalled = Stalled::measure(effort)?;
            said("done");
            Ok(Self { effort, load, in_process, end_to_end, connections, flood, stalled })
        })?
    }
}

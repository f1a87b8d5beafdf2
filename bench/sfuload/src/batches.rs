//! What reached the subscribers, message by message, for `bench/floor` to do likewise: the kernel's receive time, whose,
//! and the sizes of the datagrams that came in one segmented message.
use std::io::Write;
use std::path::Path;

/// Messages recorded by a thread at most; what a floor needs is a few seconds.
const MAX_MESSAGES: usize = 1 << 20;

struct Message {
    at_ns: u64,
    peer: u32,
    sizes: std::ops::Range<usize>,
}

/// Messages of one thread.
#[derive(Default)]
pub struct Batches {
    messages: Vec<Message>,
    sizes: Vec<u16>,
}

impl Batches {
    pub fn push(&mut self, at_ns: u64, peer: u32, sizes: impl Iterator<Item = usize>) {
        if self.messages.len() >= MAX_MESSAGES {
            return;
        }
        let start = self.sizes.len();
        self.sizes.extend(sizes.map(|s| s as u16));
        self.messages.push(Message { at_ns, peer, sizes: start..self.sizes.len() });
    }

    /// Writes all, in order of time: nanoseconds (8 bytes), peer (4), number of datagrams (2), their sizes (2 each), little
    /// endian.
    pub fn write(all: &[Batches], path: &Path) -> std::io::Result<()> {
        let mut order: Vec<(&Message, &Batches)> =
            all.iter().flat_map(|b| b.messages.iter().map(move |m| (m, b))).collect();
        order.sort_by_key(|(m, _)| m.at_ns);
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (m, batches) in order {
            file.write_all(&m.at_ns.to_le_bytes())?;
            file.write_all(&m.peer.to_le_bytes())?;
            file.write_all(&(m.sizes.len() as u16).to_le_bytes())?;
            for size in &batches.sizes[m.sizes.clone()] {
                file.write_all(&size.to_le_bytes())?;
            }
        }
        file.flush()
    }
}

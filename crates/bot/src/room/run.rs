//! The thread of one room with bots: packets and events in, a tick each 20 ms on an absolute schedule.

use std::sync::Arc;
use std::time::{Duration, Instant};

use antiphon_base::{ErrorKind, ParticipantId, ParticipantKey, RoomName};
use antiphon_media::video::Decoders;
use antiphon_shard::{AttachCommand, AttachEvent, AttachRequest, Clock, Door, Grants, JoinError, Place};
use antiphon_wire::bot::{BotEvent, MediaSession};
use antiphon_wire::control::{ErrorBody, ParticipantKind, ServerMessage};

use super::core::Room;
use crate::inject::player::TICK;
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::see::worker::AskKeyframe;
use crate::transport::close_code;

/// Commands of sessions waiting for a room's thread, which answers within a tick.
const COMMANDS: usize = 1_024;
/// After a longer stall ticks are skipped instead of made up for.
const MAX_LATE: Duration = Duration::from_secs(1);
/// Packets taken in one go before the clock is looked at again.
const BATCH: usize = 256;

/// What a session tells its room.
pub(crate) enum Command {
    /// A session begins or changes.
    Listen { id: u64, bot: ParticipantKey, media: Box<MediaSession>, mailbox: Arc<Mailbox> },
    /// A session has ended.
    Leave { id: u64 },
    /// A bot asks for a keyframe; it is told the outcome under `reply`.
    Keyframe { id: u64, stream: u32, reply: u32, mailbox: Arc<Mailbox> },
}

/// Starts a room's thread; it ends when the sender is dropped.
pub(crate) fn start(
    name: RoomName,
    door: Arc<dyn Door>,
    limits: Limits,
    decoders: Decoders,
    clock: Clock,
) -> std::io::Result<async_channel::Sender<Command>> {
    let (sender, commands) = async_channel::bounded(COMMANDS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name(format!("hear-{name}")).spawn(move || {
        runtime.block_on(run(&name, &*door, limits, decoders, clock, &commands));
    })?;
    Ok(sender)
}

async fn run(
    name: &RoomName,
    door: &dyn Door,
    limits: Limits,
    decoders: Decoders,
    clock: Clock,
    commands: &async_channel::Receiver<Command>,
) {
    let request = AttachRequest {
        id: tap_id(clock),
        name: "tap".into(),
        kind: ParticipantKind::Bot,
        grants: Grants { publish: false, subscribe: true, moderate: false },
        hidden: true,
    };
    let place = match door.attach(name, request).await {
        Ok(place) => place,
        Err(error) => return refuse(commands, &error).await,
    };
    let say = Arc::clone(&place.say);
    let ask = move || -> AskKeyframe {
        let say = Arc::clone(&say);
        Box::new(move |track, layer| {
            // A lost request is made again with the next packet that needs it.
            say(AttachCommand::Keyframe { track, layer });
        })
    };
    serve(&mut Room::new(limits, decoders, Box::new(ask)), &place, clock, commands).await;
}

fn tap_id(clock: Clock) -> ParticipantId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TAPS: AtomicU64 = AtomicU64::new(0);
    let number = TAPS.fetch_add(1, Ordering::Relaxed);
    let name = format!("tap-{:x}-{number}", clock.us(Instant::now()));
    ParticipantId::new(&name).expect("hexadecimal and hyphens, short")
}

async fn serve(room: &mut Room, place: &Place, clock: Clock, commands: &async_channel::Receiver<Command>) {
    let mut due = Instant::now() + TICK;
    let (mut ticking, mut media_open) = (false, true);
    // The room has let the tap go, as it does with everybody when it ends: each session is told by its own place.
    let mut closed = false;
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due.into()), if ticking => {
                let now = Instant::now();
                if now.saturating_duration_since(due) > MAX_LATE {
                    due = now;
                }
                // What came during a stall is there for the ticks that make up for it.
                take(room, place);
                room.tick(clock.us(due));
                due += TICK;
            }
            command = commands.recv() => match command {
                Ok(command) => obey(room, command),
                Err(_) => return,
            },
            event = place.events.recv() => match event {
                Ok(AttachEvent::Control(message)) => {
                    closed |= matches!(message, ServerMessage::Closed { .. });
                    room.control(message);
                }
                Ok(AttachEvent::Keyframe(_) | AttachEvent::Data(_) | AttachEvent::Recording(_)) => {}
                Err(_) => {
                    let error = JoinError::new(ErrorKind::Overloaded, "the room's tap was lost: join again");
                    if !closed {
                        room.mailboxes().for_each(|mailbox| end(mailbox, &error));
                    }
                    return refuse(commands, &error).await;
                }
            },
            packet = place.media.recv(), if media_open => {
                media_open = packet.is_ok();
                packet.into_iter().for_each(|packet| room.packet(packet));
                take(room, place);
            }
        }
        if let Some(taps) = room.settle()
            && !(place.say)(AttachCommand::Tap(taps))
        {
            tracing::warn!("the room's shard does not take commands: streams may be silent");
        }
        if !ticking && room.ticks() {
            due = Instant::now() + TICK;
        }
        ticking = room.ticks();
    }
}

/// Hands over packets that wait.
fn take(room: &mut Room, place: &Place) {
    for packet in std::iter::from_fn(|| place.media.try_recv().ok()).take(BATCH) {
        room.packet(packet);
    }
}

fn obey(room: &mut Room, command: Command) {
    match command {
        Command::Listen { id, bot, media, mailbox } => room.listen(id, bot, *media, &mailbox),
        Command::Leave { id } => room.leave(id),
        Command::Keyframe { id, stream, reply, mailbox } => {
            let missing = || ErrorBody {
                code: ErrorKind::NotFound,
                message: format!("there is no video stream {stream} now"),
            };
            let error = (!room.ask_keyframe(id, stream)).then(missing);
            mailbox.with(|o| o.event(&BotEvent::Reply { id: reply, error }));
        }
    }
}

/// Ends every session that comes, until none comes any more.
async fn refuse(commands: &async_channel::Receiver<Command>, error: &JoinError) {
    while let Ok(command) = commands.recv().await {
        if let Command::Listen { mailbox, .. } = command {
            end(&mailbox, error);
        }
    }
}

fn end(mailbox: &Mailbox, error: &JoinError) {
    let body = ErrorBody { code: error.kind, message: error.message.clone() };
    mailbox.with(|o| {
        o.event(&BotEvent::Error { error: body, fatal: true });
        o.close(close_code(error.kind), error.message.chars().take(100).collect());
    });
}

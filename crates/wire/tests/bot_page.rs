//! Each JSON block of `docs/reference/bot.md` is a message that is spoken.

use antiphon_wire::bot::{BotEvent, BotMessage};

const PAGE: &str = include_str!("../../../docs/reference/bot.md");

fn blocks(part: &str) -> Vec<&str> {
    part.split("```json\n").skip(1).filter_map(|b| b.split("```").next()).collect()
}

#[test]
fn every_message_of_the_page_is_one() {
    let (ours, theirs) = PAGE.split_once("## From the server").expect("the page has two parts");
    for block in blocks(ours) {
        BotMessage::parse(block.as_bytes()).unwrap_or_else(|e| panic!("{e}: {block}"));
    }
    for block in blocks(theirs) {
        serde_json::from_str::<BotEvent>(block).unwrap_or_else(|e| panic!("{e}: {block}"));
    }
    assert_eq!((blocks(ours).len(), blocks(theirs).len()), (9, 21), "no block is overlooked");
}

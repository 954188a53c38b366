//! What is answered to a request: pure, but for the clock that signatures need.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, HashCompressor, PushError};
use domain::base::{Message, MessageBuilder};
use domain::rdata::tsig::{Time48, Tsig};
use domain::tsig::{Key, ServerSequence};

use super::book::{Book, Page};

/// The largest answer to a datagram when the asker names no size, and whatever it names.
const PLAIN: usize = 512;
const LARGEST: u16 = 1232;
/// How much of a message of a transfer is filled. Names are only compressed to what is in the first 16 KiB (RFC 1035,
/// 4.1.4); the library points further, and what it writes there nobody can read. Any record fits.
const FILLED: usize = 16_000;

type Target = HashCompressor<Vec<u8>>;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What to do about a request.
pub(super) enum Reply {
    /// It is no request.
    Nothing,
    One(Vec<u8>),
    Whole(Box<Transfer>),
}

/// The answer to a request from somebody. Should the library that reads messages panic over one that nobody has thought
/// of, it is dropped.
pub(super) fn reply(book: &Book, request: &[u8], from: IpAddr, transport: Transport) -> Reply {
    catch_unwind(AssertUnwindSafe(|| answer(book, request, from, transport))).unwrap_or_else(|_| {
        tracing::error!(%from, length = request.len(), "a DNS request cannot be read, and was dropped");
        Reply::Nothing
    })
}

pub(super) fn answer(book: &Book, request: &[u8], from: IpAddr, transport: Transport) -> Reply {
    let Ok(mut message) = Message::from_octets(request.to_vec()) else { return Reply::Nothing };
    if message.header().qr() {
        return Reply::Nothing;
    }
    let signed = match ServerSequence::request(&book.keys, &mut message, Time48::now()) {
        Ok(signed) => signed,
        Err(error) => {
            let built = builder().and_then(|builder| match has_signature(&message) {
                // It is still there to be answered: it is only taken off when it is right.
                true => error.build_message(&message, builder).ok(),
                false => Some(builder.start_error(&message, Rcode::FORMERR).additional()),
            });
            return built.map_or(Reply::Nothing, |built| Reply::One(built.finish().into_target()));
        }
    };
    let asked = Asked { message, signed, transport };
    match asked.meant(book, from) {
        Ok((page, Rtype::SOA)) => asked.soa(&page),
        Ok((page, Rtype::IXFR)) if transport == Transport::Udp => asked.soa(&page),
        // IXFR is answered as AXFR is (RFC 1995, 4): zones are small, and their history is not kept.
        Ok((page, Rtype::AXFR | Rtype::IXFR)) if transport == Transport::Tcp => {
            Reply::Whole(Box::new(Transfer { page, at: 0, question: asked.message, signed: asked.signed }))
        }
        Ok(_) => asked.refused(Rcode::REFUSED),
        Err(rcode) => asked.refused(rcode),
    }
}

/// Whether a message ends in a signature that can be read (RFC 8945, 5.2). The library panics when it is to answer another.
fn has_signature(message: &Message<Vec<u8>>) -> bool {
    let Ok(mut section) = message.additional() else { return false };
    while let Some(Ok(record)) = section.next() {
        match record.into_record::<Tsig<_, _>>() {
            Ok(None) => {}
            Ok(Some(_)) => return section.next().is_none(),
            Err(_) => return false,
        }
    }
    false
}

fn builder() -> Option<MessageBuilder<Target>> {
    MessageBuilder::from_target(HashCompressor::new(Vec::new())).ok()
}

/// A request whose signature, if it has one, is right.
struct Asked {
    message: Message<Vec<u8>>,
    signed: Option<ServerSequence<Key>>,
    transport: Transport,
}

impl Asked {
    /// The zone that it is about, if its sender may have it, and what is asked of it.
    fn meant(&self, book: &Book, from: IpAddr) -> Result<(Arc<Page>, Rtype), Rcode> {
        if self.message.header().opcode() != Opcode::QUERY {
            return Err(Rcode::REFUSED);
        }
        let question = self.message.sole_question().map_err(|_| Rcode::FORMERR)?;
        let name = question.qname().to_string().to_ascii_lowercase();
        let key = self.signed.as_ref().map(|signed| signed.key().name());
        let page = book.page(name.trim_end_matches('.')).filter(|page| page.for_whom(from, key));
        match (page, question.qclass()) {
            (Some(page), Class::IN) => Ok((page.clone(), question.qtype())),
            (Some(_) | None, _) => Err(Rcode::REFUSED),
        }
    }

    fn soa(self, page: &Page) -> Reply {
        let built = self.start(Rcode::NOERROR).and_then(|mut answer| {
            answer.header_mut().set_aa(true);
            answer.push(&page.soa).ok()?;
            Some(answer)
        });
        self.one(built)
    }

    fn refused(self, rcode: Rcode) -> Reply {
        let built = self.start(rcode);
        self.one(built)
    }

    fn start(&self, rcode: Rcode) -> Option<AnswerBuilder<Target>> {
        Some(builder()?.start_error(&self.message, rcode))
    }

    /// Signs it, and cuts it when a datagram cannot hold it.
    fn one(self, answer: Option<AnswerBuilder<Target>>) -> Reply {
        let Some(answer) = answer else { return Reply::Nothing };
        let signed = self.signed.clone();
        let whole = finish(answer.additional(), signed);
        let room = match (self.transport, self.message.opt().map(|opt| opt.udp_payload_size())) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, Some(size)) => usize::from(size.min(LARGEST)).max(PLAIN),
            (Transport::Udp, None) => PLAIN,
        };
        match whole {
            Ok(bytes) if bytes.len() <= room => Reply::One(bytes),
            Ok(_) => {
                let Some(mut cut) = self.start(Rcode::NOERROR) else { return Reply::Nothing };
                cut.header_mut().set_tc(true);
                finish(cut.additional(), self.signed).map_or(Reply::Nothing, Reply::One)
            }
            Err(_) => Reply::Nothing,
        }
    }
}

fn finish(mut message: AdditionalBuilder<Target>, signed: Option<ServerSequence<Key>>) -> Result<Vec<u8>, PushError> {
    if let Some(mut signed) = signed {
        signed.answer(&mut message, Time48::now())?;
    }
    Ok(message.finish().into_target())
}

/// A zone on its way: its SOA, all else, its SOA again (RFC 5936, 2.2).
pub(super) struct Transfer {
    page: Arc<Page>,
    /// Of the records with the two SOAs.
    at: usize,
    question: Message<Vec<u8>>,
    signed: Option<ServerSequence<Key>>,
}

impl Transfer {
    /// The next message; `None` after the last one.
    ///
    /// # Errors
    /// A record does not fit into any message: the transfer must be broken off.
    pub(super) fn next(&mut self) -> Option<Result<Vec<u8>, PushError>> {
        (self.at < self.page.lines.len() + 2).then(|| self.message())
    }

    fn message(&mut self) -> Result<Vec<u8>, PushError> {
        let mut builder = builder().ok_or(PushError::ShortBuf)?;
        builder.set_push_limit(FILLED);
        let mut answer = builder.start_answer(&self.question, Rcode::NOERROR)?;
        answer.header_mut().set_aa(true);
        let before = self.at;
        let last = self.page.lines.len() + 1;
        while self.at <= last {
            let at_an_end = self.at == 0 || self.at == last;
            let line = if at_an_end { &self.page.soa } else { &self.page.lines[self.at - 1] };
            match answer.push(line) {
                Ok(()) => self.at += 1,
                Err(_) if self.at > before => break,
                Err(error) => return Err(error),
            }
        }
        answer.clear_push_limit();
        let mut message = answer.additional();
        if let Some(signed) = &mut self.signed {
            signed.answer(&mut message, Time48::now())?;
        }
        Ok(message.finish().into_target())
    }
}

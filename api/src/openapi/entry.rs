//! One path and verb, as the document describes it.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::route::Verb;

/// How a schema is had of a generator.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Address,
    AllProjects,
    Device,
    Filter,
    Force,
    Format,
    Instance,
    Path,
    Port,
    Project,
    Protocol,
    Recursion,
    Secret,
    Target,
    Template,
    Timeout,
    Type,
}

/// What an answer can be. Refusals are described once for all.
#[derive(Debug)]
pub(super) enum Answer {
    /// 200 with this metadata, and an ETag if the object can be edited.
    Object { shape: Shape, editable: bool },
    /// 200 with URLs, or with these by `recursion`.
    List(Vec<Shape>),
    /// 200 without a result.
    Done,
    /// 201 with `Location`.
    Created,
    /// 202 with an operation.
    Operation,
    /// 200 with a body of this media type, without an envelope.
    Raw(&'static str),
    /// 101: a websocket, or another protocol.
    Upgrade(&'static str),
}

/// One path and verb.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) verb: Verb,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Parameter>,
    /// Media type and shape of what may be sent.
    pub(super) bodies: Vec<(&'static str, Option<Shape>)>,
    pub(super) answers: Vec<Answer>,
    pub(super) deprecated: bool,
    /// Takes `If-Match`.
    pub(super) guarded: bool,
    /// Some of what it takes is not implemented.
    pub(super) lacking: bool,
}

fn entry(verb: Verb, path: &str, summary: &'static str) -> Entry {
    Entry {
        path: path.to_owned(),
        verb,
        summary,
        parameters: Vec::new(),
        bodies: Vec::new(),
        answers: Vec::new(),
        deprecated: false,
        guarded: false,
        lacking: false,
    }
}

pub(super) fn get(path: &str, summary: &'static str) -> Entry {
    entry(Verb::Get, path, summary)
}

pub(super) fn put(path: &str, summary: &'static str) -> Entry {
    entry(Verb::Put, path, summary)
}

pub(super) fn post(path: &str, summary: &'static str) -> Entry {
    entry(Verb::Post, path, summary)
}

pub(super) fn patch(path: &str, summary: &'static str) -> Entry {
    entry(Verb::Patch, path, summary)
}

pub(super) fn delete(path: &str, summary: &'static str) -> Entry {
    entry(Verb::Delete, path, summary)
}

fn shape<T: JsonSchema>() -> Shape {
    SchemaGenerator::subschema_for::<T>
}

impl Entry {
    /// Takes these parameters too.
    pub(super) fn with(mut self, parameters: &[Parameter]) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Is about what belongs to a project.
    pub(super) fn in_project(self) -> Self {
        self.with(&[Parameter::Project])
    }

    /// Is answered by the member that `target` names.
    pub(super) fn at_member(self) -> Self {
        self.with(&[Parameter::Target])
    }

    /// Takes this as JSON.
    pub(super) fn takes<T: JsonSchema>(mut self) -> Self {
        self.bodies.push(("application/json", Some(shape::<T>())));
        self
    }

    /// Takes a body of this media type, whatever it holds.
    pub(super) fn takes_raw(mut self, media: &'static str) -> Self {
        self.bodies.push((media, None));
        self
    }

    fn or(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// Answers with this.
    pub(super) fn gives<T: JsonSchema>(self) -> Self {
        self.or(Answer::Object { shape: shape::<T>(), editable: false })
    }

    /// Answers with this, which can be edited.
    pub(super) fn gives_editable<T: JsonSchema>(self) -> Self {
        self.or(Answer::Object { shape: shape::<T>(), editable: true })
    }

    /// Answers with URLs, or with these when `recursion` is 1.
    pub(super) fn lists<T: JsonSchema>(self) -> Self {
        self.with(&[Parameter::Recursion]).or(Answer::List(vec![shape::<T>()]))
    }

    /// Answers with URLs, or with the first when `recursion` is 1, with the second when it is 2.
    pub(super) fn lists_both<T: JsonSchema, U: JsonSchema>(self) -> Self {
        self.with(&[Parameter::Recursion]).or(Answer::List(vec![shape::<T>(), shape::<U>()]))
    }

    /// Does it at once.
    pub(super) fn done(self) -> Self {
        self.or(Answer::Done)
    }

    /// Changes it at once, if it is still what `If-Match` says.
    pub(super) fn edits(mut self) -> Self {
        self.guarded = true;
        self.or(Answer::Done)
    }

    /// Makes it at once.
    pub(super) fn creates(self) -> Self {
        self.or(Answer::Created)
    }

    /// Goes on as an operation.
    pub(super) fn operates(self) -> Self {
        self.or(Answer::Operation)
    }

    /// Changes it by an operation, if it is still what `If-Match` says.
    pub(super) fn edits_by_operation(mut self) -> Self {
        self.guarded = true;
        self.or(Answer::Operation)
    }

    /// Answers with a body of its own.
    pub(super) fn gives_raw(self, media: &'static str) -> Self {
        self.or(Answer::Raw(media))
    }

    /// Goes over to another protocol.
    pub(super) fn upgrades(self, protocol: &'static str) -> Self {
        self.or(Answer::Upgrade(protocol))
    }

    /// Answers 501 to some of what it takes, saying what is not implemented.
    pub(super) fn lacks(mut self) -> Self {
        self.lacking = true;
        self
    }

    /// Has a better successor.
    pub(super) fn deprecated(mut self, older: bool) -> Self {
        self.deprecated = older;
        self
    }
}
